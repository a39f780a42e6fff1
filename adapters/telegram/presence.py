"""What people see while a reply is made: "typing", and the reply as it grows. Best effort: a failure ends it quietly.

Knows nothing of how Telegram is reached.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from telegram.error import TelegramError

log = logging.getLogger(__name__)

_FORGOTTEN = 600.0  # seconds after which nobody waits for a reply any more
_LAST = 2.0  # seconds that a draft on its way may still take


class Typing:
    """Shows "typing" in chats until told to stop."""

    def __init__(self, show: Callable[[str], Awaitable[None]], seconds: float) -> None:
        self._show = show
        self._seconds = seconds
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def begin(self, chat: str) -> None:
        """A reply for `chat` is being made."""
        if chat not in self._tasks:
            task = asyncio.create_task(self._keep(chat))
            self._tasks[chat] = task
            task.add_done_callback(lambda _: self._gone(chat, task))

    def end(self, chat: str) -> None:
        """It is made."""
        if (task := self._tasks.pop(chat, None)) is not None:
            task.cancel()

    async def close(self) -> None:
        """End all."""
        await _ended(list(self._tasks.values()))

    def _gone(self, chat: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(chat) is task:
            del self._tasks[chat]

    async def _keep(self, chat: str) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FORGOTTEN):
                while await _quietly(self._show(chat)):  # noqa: ASYNC110 - Telegram shows it for a while only
                    await asyncio.sleep(self._seconds)


@dataclass(eq=False)
class _Draft:
    """A reply that grows."""

    chat: str
    exchange: str
    text: str = ""
    grown: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Drafts:
    """Shows the reply that is being made in a chat; one at a time."""

    def __init__(self, show: Callable[[str, str, str], Awaitable[None]], seconds: float) -> None:
        self._show = show
        self._seconds = seconds
        self._drafts: dict[str, _Draft] = {}
        self._tasks: dict[_Draft, asyncio.Task[None]] = {}

    def grow(self, chat: str, exchange: str, text: str) -> None:
        """The reply of `exchange` grew by `text`."""
        draft = self._drafts.get(chat)
        if draft is None or draft.exchange != exchange:
            self._finish(draft)
            draft = self._drafts[chat] = _Draft(chat, exchange)
            self._tasks[draft] = asyncio.create_task(self._keep(draft))
        draft.text += text
        draft.grown.set()

    async def end(self, chat: str, exchange: str | None) -> None:
        """The reply of `exchange` is about to be sent; when this returns no draft comes after it."""
        if (draft := self._drafts.get(chat)) is not None and draft.exchange == exchange:
            self._finish(draft)
        # One that was stopped before may still be on its way.
        tasks = [task for draft, task in self._tasks.items() if (draft.chat, draft.exchange) == (chat, exchange)]
        if tasks:
            await asyncio.wait(tasks, timeout=_LAST)
        await _ended(tasks)

    def stop(self, chat: str) -> None:
        """Whatever was being made in `chat` is over."""
        self._finish(self._drafts.get(chat))

    async def close(self) -> None:
        """End all."""
        await _ended(list(self._tasks.values()))

    def _finish(self, draft: _Draft | None) -> None:
        if draft is not None:
            self._drafts.pop(draft.chat, None)
            draft.over.set()
            draft.grown.set()

    async def _keep(self, draft: _Draft) -> None:
        # One that failed stays in _drafts, so that it isn't begun again.
        try:
            async with asyncio.timeout(_FORGOTTEN):
                await self._follow(draft)
        except TimeoutError:
            self._finish(draft)
        finally:
            del self._tasks[draft]

    async def _follow(self, draft: _Draft) -> None:
        while True:
            await draft.grown.wait()
            draft.grown.clear()
            if draft.over.is_set() or not await _quietly(self._show(draft.chat, draft.exchange, draft.text)):
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(draft.over.wait(), self._seconds)


async def _quietly(shown: Awaitable[None]) -> bool:
    try:
        await shown
    except TelegramError as error:
        log.debug("telegram: not shown: %s", type(error).__name__)
        return False
    return True


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
