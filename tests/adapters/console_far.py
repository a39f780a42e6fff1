"""Somebody at a real pseudo-terminal, for the contract suite. Knows nothing of what is tested."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import termios
import threading
from typing import Self

from adapters.console import ConsoleAdapter
from adapters.testing import FarEnd, Shown


class ConsoleFar(FarEnd):
    """The person's end of a terminal whose other end is the program's stdin and stdout; it does not echo."""

    lacks = frozenset({"cuts", "own", "again"})

    def __init__(self) -> None:
        self._person, program = pty.openpty()
        quiet = termios.tcgetattr(program)
        quiet[3] &= ~termios.ECHO
        termios.tcsetattr(program, termios.TCSANOW, quiet)
        self._program = os.fdopen(program, "r", encoding="utf-8")
        self._screen = os.fdopen(os.dup(program), "w", encoding="utf-8")
        self._seen = b""
        self._looking = threading.Thread(target=self._look, daemon=True)  # a terminal nobody reads is full at 4 KB
        self._looking.start()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        os.write(self._person, b"\x04")  # end of input: nobody may be reading what is closed
        self._program.close()
        self._screen.close()
        self._looking.join()
        os.close(self._person)

    def adapter(self) -> ConsoleAdapter:
        return ConsoleAdapter(lambda: None, self._program, self._screen)

    def chat_id(self, chat: str) -> str:
        return "console"

    def person_id(self, person: str) -> str:
        return "local"

    async def say(
        self, text: str, *, chat: str = "alice", person: str = "alice", mention: bool = False, quote: str | None = None
    ) -> str:
        os.write(self._person, f"{text}\n".encode())
        return ""

    async def unknown(self, *, chat: str = "alice", person: str = "alice") -> str:
        os.write(self._person, b"\xff\xfe no text\n")
        return ""

    def shown(self, chat: str = "alice") -> list[Shown]:
        """A message begins at the line's start; an indented line belongs to the one before."""
        printed = re.sub(r"^(> )+", "", self._seen.decode(errors="ignore").replace("\r\n", "\n"), flags=re.MULTILINE)
        return [Shown("", whole.rstrip("\n")) for whole in re.split(r"(?<=\n)(?! )", printed) if whole.strip()]

    def _look(self) -> None:
        with contextlib.suppress(OSError):  # the terminal was closed
            while read := os.read(self._person, 65536):
                self._seen += read
