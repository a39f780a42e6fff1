"""The terminal as a platform: a line in, a streamed reply out.

Knows nothing of what is said. One thread reads, because a terminal can't be read asynchronously.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import uuid
from collections.abc import Callable
from typing import TextIO

from adapters.base import Capabilities, Message, Person, Receive, Reply, Sent

CHAT = "console"
OWNER = Person("local", "owner")
QUIT = ("/quit", "/exit")


class ConsoleAdapter:
    """Reads `stdin` line by line. Without a terminal there it stays quiet and waits."""

    name = "console"
    capabilities = Capabilities(whole_messages=True, streams=True, streams_offers=False, max_chars=100_000)

    def __init__(self, on_quit: Callable[[], None], stdin: TextIO | None = None, stdout: TextIO | None = None) -> None:
        self._on_quit = on_quit
        self._stdin = stdin or sys.stdin
        self._stdout = stdout or sys.stdout
        self._streamed: set[str] = set()

    async def run(self, receive: Receive) -> None:
        """Take lines until /quit or the end of input, which end the program."""
        if not _is_terminal(self._stdin):
            await asyncio.Event().wait()
        lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._read_in_background(lines)
        self._prompt()
        while (line := await lines.get()) is not None:
            message = self._message(line)
            if message.text.strip().lower() in QUIT:
                break
            if message.text.strip() or message.kind != "text":
                receipt = await receive(message)
                await receipt.replies()
            self._prompt()
        self._on_quit()

    async def send(self, reply: Reply) -> Sent:
        """Print `reply`, unless it was streamed already."""
        if reply.exchange in self._streamed:
            self._streamed.discard(reply.exchange)
            self._write("\n")
        elif reply.candidates is not None:
            first, second = reply.candidates
            self._write(f"{reply.text}\n  1: {first}\n  2: {second}\n")
        else:
            self._write(f"{reply.text}\n")
        return Sent((reply.id,))

    def stream(self, chat: str, exchange: str, candidate: int, text: str) -> None:
        """Print `text` as it grows."""
        self._streamed.add(exchange)
        self._write(text)

    def _message(self, line: bytes) -> Message:
        """What was typed; bytes that are no text in the terminal's encoding are something else than text."""
        try:
            return Message(uuid.uuid4().hex, CHAT, OWNER, line.decode(self._stdin.encoding).rstrip("\r\n"))
        except UnicodeDecodeError:
            return Message(uuid.uuid4().hex, CHAT, OWNER, "", kind="other")

    def _read_in_background(self, lines: asyncio.Queue[bytes | None]) -> None:
        loop = asyncio.get_running_loop()

        def read() -> None:
            # The program ends while this waits for a line: the loop is closed by then, or the terminal is.
            with contextlib.suppress(RuntimeError, ValueError, OSError):
                for line in iter(self._stdin.buffer.readline, b""):
                    loop.call_soon_threadsafe(lines.put_nowait, line)
                loop.call_soon_threadsafe(lines.put_nowait, None)

        threading.Thread(target=read, name="console", daemon=True).start()

    def _prompt(self) -> None:
        self._write("> ")

    def _write(self, text: str) -> None:
        self._stdout.write(text)
        self._stdout.flush()


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False
