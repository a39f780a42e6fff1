"""Walks through a JSON text of any length: into objects and arrays, value by value.

Knows nothing of what the values mean. Only one value is held at a time, and a piece of the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

CHUNK = 2**18  # letters
LONGEST = 64 * 2**20  # letters of one value
BLANK = re.compile(r"[ \t\r\n\ufeff]*")
NEAR = 16  # letters before the end at which a value that is cut off may seem wrong
DECODER = json.JSONDecoder()


class NotJson(ValueError):
    """What stands here is not JSON; the message holds nothing of the text."""


class JsonStream:
    """A place in the text. `line` is where the value that was read last began, or where reading stopped."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._text = ""
        self._place = 0
        self._counted = 0  # up to here the lines of the piece are in `line`
        self._ended = False
        self.gave_up = False  # an element was the last thing that could be found, and it was said to be broken
        self.line = 1

    def peek(self) -> str:
        """The first letter of what comes next; "" at the end."""
        while True:
            found = BLANK.match(self._text, self._place)
            self._place = found.end() if found else self._place
            if self._place < len(self._text) or not self._more():
                return self._text[self._place : self._place + 1]

    def members(self) -> Iterator[str]:
        """The names in the object that comes next. The value of each is to be taken before the next name."""
        self._take("{")
        while self.peek() != "}":
            name = self.value()
            if not isinstance(name, str):
                raise NotJson("expected the name of a member")
            self._take(":")
            yield name
            self._separator("}")
        self._take("}")

    def elements(self) -> Iterator[tuple[int, Any]]:
        """The line and value of each element of the array that comes next; NotJson for one that is not JSON.

        After such a one reading goes on behind it. Raises NotJson where the array itself is broken.
        """
        self._take("[")
        while self.peek() != "]":
            try:
                value: Any = self.value()
            except NotJson as error:
                self._skip()
                value = error if self.peek() else NotJson(f"{error}; nothing behind it could be read")
            yield self.line, value
            if not self.peek() and isinstance(value, NotJson):
                self.gave_up = True
                return
            if self.peek() not in ("{", "["):  # a comma may be missing
                self._separator("]")
        self._take("]")

    def each(self) -> Iterator[None]:
        """Stop before each element of the array that comes next; it is to be taken before the next."""
        self._take("[")
        while self.peek() != "]":
            yield
            self._separator("]")
        self._take("]")

    def value(self) -> Any:
        """The value that comes next, whole. Raises NotJson.

        A number that ends where the piece does, or before a point or an e there, may go on in the next piece.
        """
        self.peek()
        self._count()
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._place)
            except json.JSONDecodeError as error:
                if not self._cut_off(error) or not self._more():
                    raise NotJson(error.msg) from None
            except RecursionError:
                raise NotJson("nested too deeply") from None
            else:
                if not isinstance(value, int | float) or end + 2 < len(self._text) or not self._more():
                    self._place = end
                    return value

    def _cut_off(self, error: json.JSONDecodeError) -> bool:
        if len(self._text) - self._place > LONGEST:
            return False
        return error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - NEAR

    def _skip(self) -> None:
        """Go on to the end of an element that is broken: by its brackets, outside of its strings."""
        depth, inside, escaped = 0, False, False
        while self._place < len(self._text) or self._more():
            letter = self._text[self._place]
            if inside:
                inside, escaped = escaped or letter != '"', not escaped and letter == "\\"
            elif letter == '"':
                inside = True
            elif letter in "[{":
                depth += 1
            elif letter in "]}" or letter == ",":
                if depth == 0 and letter != "}":
                    return
                depth -= letter in "]}" and depth > 0
            self._place += 1

    def _separator(self, end: str) -> None:
        if self.peek() == ",":
            self._place += 1
        elif self.peek() != end:
            raise NotJson(f"expected , or {end}")

    def _take(self, letter: str) -> None:
        if self.peek() != letter:
            self._count()
            raise NotJson(f"expected {letter}")
        self._place += 1

    def _count(self) -> None:
        self.line += self._text.count("\n", self._counted, self._place)
        self._counted = self._place

    def _more(self) -> bool:
        """Read a further piece, as long as what is held, so that a long value is not tried too often."""
        if self._ended:
            return False
        piece = self._file.read(max(CHUNK, len(self._text) - self._place))
        self._ended = not piece
        if piece:  # else the places that are known go on to hold
            self._count()
            self._text = self._text[self._place :] + piece
            self._place = self._counted = 0
        return bool(piece)
