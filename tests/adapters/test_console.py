"""The terminal: a real pseudo-terminal on stdin, what is printed on a stream."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import sys
from collections.abc import Iterator
from typing import TextIO

import pytest

from adapters.base import Inbound, Message, Reply
from adapters.console import ConsoleAdapter

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")


class Answered:
    """A receipt whose replies are known."""

    def __init__(self, replies: tuple[Reply, ...]) -> None:
        self._replies = replies

    async def replies(self) -> tuple[Reply, ...]:
        return self._replies


@pytest.fixture
def terminal() -> Iterator[tuple[int, TextIO]]:
    """The person's end (a descriptor) and the program's end (a text stream)."""
    person, program = pty.openpty()
    stream = os.fdopen(program, "r", encoding="utf-8")
    yield person, stream
    os.close(person)
    stream.close()


async def talk(
    terminal: tuple[int, TextIO], typed: bytes, reply: Reply, streamed: str = ""
) -> tuple[list[Inbound], str]:
    """Type `typed` to a console whose every message gets `reply`."""
    person, stream = terminal
    printed, arrived, left = io.StringIO(), list[Inbound](), asyncio.Event()
    adapter = ConsoleAdapter(left.set, stream, printed)

    async def receive(inbound: Inbound) -> Answered:
        arrived.append(inbound)
        if streamed:
            adapter.stream("console", reply.exchange or "", 1, streamed)
        await adapter.send(reply)
        return Answered((reply,))

    os.write(person, typed)
    await asyncio.wait_for(adapter.run(receive), 10)
    assert left.is_set()
    return arrived, printed.getvalue()


async def test_a_line_is_a_message_and_quit_ends_it(terminal: tuple[int, TextIO]) -> None:
    arrived, printed = await talk(terminal, "你好\n\n/quit\n".encode(), Reply("1", "console", "hello", "e"))
    assert [one.text for one in arrived if isinstance(one, Message)] == ["你好"]
    assert "hello\n" in printed


async def test_a_streamed_reply_is_printed_once(terminal: tuple[int, TextIO]) -> None:
    _, printed = await talk(terminal, b"hi\n/quit\n", Reply("1", "console", "hello", "e"), streamed="hello")
    assert printed.count("hello") == 1


async def test_an_offer_shows_both(terminal: tuple[int, TextIO]) -> None:
    offer = Reply("1", "console", "which?", "e", candidates=("first", "second"))
    _, printed = await talk(terminal, b"hi\n/quit\n", offer)
    assert "which?\n  1: first\n  2: second\n" in printed


async def test_without_a_terminal_it_waits_quietly() -> None:
    adapter = ConsoleAdapter(lambda: pytest.fail("it must not quit"), io.StringIO("typed\n"), io.StringIO())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(adapter.run(lambda inbound: pytest.fail("nothing was typed")), 0.1)
