"""The thread in which itchat listens, and what is told of how that goes. Knows nothing of itchat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from adapters.base import Health
from adapters.wechat_itchat.wire import Unreachable

T = TypeVar("T")
LONGEST_PAUSE = 60.0


class Line:
    """Asks in one thread. `first_pause` is the first of the growing ones while nobody answers."""

    def __init__(self, report: Callable[[Health], None], first_pause: float) -> None:
        self._report = report
        self._first_pause = first_pause
        self._thread: ThreadPoolExecutor | None = None
        self.health = Health("starting")

    def open(self) -> None:
        """Have a thread."""
        self._thread = ThreadPoolExecutor(1, "wechat-listening")

    async def close(self) -> None:
        """End the thread; waits for what is under way."""
        if self._thread:
            await asyncio.to_thread(self._thread.shutdown)

    def tell(self, health: Health) -> None:
        """How things stand now."""
        self.health = health
        self._report(health)

    async def ask(self, call: Callable[[], T]) -> T:
        """What `call` gives, made in the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def insist(self, call: Callable[[], T]) -> T:
        """What `call` gives, as soon as the server can be reached; then all stands as it did before."""
        before = self.health
        pauses = Pauses(self._first_pause)
        while True:
            try:
                found = await self.ask(call)
            except Unreachable as trouble:
                await self.wait_out(str(trouble), pauses)
            else:
                if self.health != before:
                    self.tell(before)
                return found

    async def wait_out(self, trouble: str, pauses: Pauses) -> None:
        """Tell of `trouble`, and wait before the next try."""
        self.tell(Health("offline", f"{trouble}; trying again"))
        await asyncio.sleep(pauses.next())


class Pauses:
    """Each twice as long as the last, up to a minute."""

    def __init__(self, first: float) -> None:
        self._first = self._next = first

    def next(self) -> float:
        """How long to wait now, in seconds."""
        now, self._next = self._next, min(2 * self._next, LONGEST_PAUSE)
        return now

    def reset(self) -> None:
        """All is well again."""
        self._next = self._first
