"""Turns the tokens of one candidate into text to show, as they come.

Knows nothing of models; only whole characters go out, and nothing that may yet become a stop string.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

# What a decoder writes for bytes that are no UTF-8; an unfinished character at the end becomes up to three.
REPLACEMENT = "�"
UNFINISHED = 3

Decode = Callable[[Sequence[int]], str]


class TextStream:
    """One candidate's text: `push` tokens, take what may be shown, `finish` for the rest."""

    def __init__(self, decode: Decode, stop: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stop = tuple(s for s in stop if s)
        self._longest = max(map(len, self._stop), default=0)
        self._tokens: list[int] = []
        # Tokens before `_read` are settled; decoding starts at `_context`, since some tokenizers
        # write the first token otherwise than the same one later.
        self._context = self._read = 0
        self._settled = ""
        self._shown = 0
        self.text = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Add a token; returns the text that can be shown now."""
        self._tokens.append(token)
        self._decode_rest()
        return self._show(len(self.text) if self.stopped else len(self.text) - self._held_back())

    def finish(self) -> str:
        """The rest of the text; an unfinished character at the end is dropped."""
        return self._show(len(self.text))

    def _decode_rest(self) -> None:
        """Bring `text` up to date, but for an unfinished character at its end."""
        before = self._decode(self._tokens[self._context : self._read])
        new = self._decode(self._tokens[self._context :])[len(before) :]
        whole = new[:-UNFINISHED] + new[-UNFINISHED:].rstrip(REPLACEMENT)
        self.text = self._settled + whole
        if new and whole == new:
            self._context, self._read, self._settled = self._read, len(self._tokens), self.text
        self._cut_at_stop()

    def _cut_at_stop(self) -> None:
        # A stop string may have begun in text that was held back, never in what was shown.
        found = [at for s in self._stop if (at := self.text.find(s, self._shown)) >= 0]
        if found:
            self.text = self.text[: min(found)]
            self.stopped = True

    def _held_back(self) -> int:
        """Length of the longest end of the text with which a stop string begins."""
        for length in range(min(self._longest - 1, len(self.text)), 0, -1):
            if any(s.startswith(self.text[-length:]) for s in self._stop):
                return length
        return 0

    def _show(self, until: int) -> str:
        new = self.text[self._shown : until]
        self._shown = max(self._shown, until)
        return new
