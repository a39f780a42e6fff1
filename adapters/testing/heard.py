"""What stands in for the inbox while an adapter is tested. Knows no platform."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from adapters.base import Inbound, PlatformAdapter, Reply

T = TypeVar("T", bound=Inbound)
PATIENCE = 20.0  # seconds until something that must happen has not


class Heard:
    """Takes what an adapter receives, as the inbox would, and answers nothing by itself.

    While `stores` is cleared it is an inbox whose disk is slow: it takes things, and does not return.
    """

    def __init__(self) -> None:
        self.all: list[Inbound] = []
        self.stores = asyncio.Event()
        self.stores.set()
        self._more = asyncio.Event()

    async def __call__(self, inbound: Inbound) -> NoReplies:
        """Keep `inbound`."""
        self.all.append(inbound)
        self._more.set()
        await self.stores.wait()
        return NoReplies()

    async def next(self, kind: type[T], after: int = 0) -> T:
        """The first of `kind` from the `after`th thing on; waits for it."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for inbound in self.all[after:]:
                    if isinstance(inbound, kind):
                        return inbound
                self._more.clear()
                await self._more.wait()


class NoReplies:
    """The receipt of something that gets no reply."""

    async def replies(self) -> tuple[Reply, ...]:
        """None."""
        return ()


@contextlib.asynccontextmanager
async def running(adapter: PlatformAdapter) -> AsyncIterator[Heard]:
    """Let `adapter` take part; what it hears."""
    heard = Heard()
    task = asyncio.create_task(adapter.run(heard))
    try:
        yield heard
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - a far end has no event for everything
            await asyncio.sleep(0.01)
