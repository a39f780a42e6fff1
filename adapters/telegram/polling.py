"""Asks Telegram for what is new, over and over. Knows nothing of what updates say.

An update is confirmed by asking for the ones after it: that is done only when it has been taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from telegram.error import InvalidToken, RetryAfter, TelegramError

from adapters.base import Health
from adapters.telegram.client import Client, wait_of
from adapters.telegram.timing import Backoff, Timing

log = logging.getLogger(__name__)

_FAREWELL = 2.0  # seconds

Take = Callable[[dict[str, Any]], Awaitable[None]]
Connect = Callable[[], Awaitable[str]]


class Polling:
    """Takes part by long polls until cancelled; a lost network only makes it wait."""

    def __init__(self, client: Client, timing: Timing, report: Callable[[Health], None]) -> None:
        self._client = client
        self._timing = timing
        self._report = report
        self._backoff = Backoff(timing)
        self._offset: int | None = None
        self._confirmed: int | None = None

    async def run(self, connect: Connect, take: Take) -> None:
        """Give `take` each update in turn; `connect` says as whom it is connected."""
        try:
            await self._forever(connect, take)
        finally:
            await self._confirm()

    async def _forever(self, connect: Connect, take: Take) -> None:
        while True:
            try:
                await self._connected(connect, take)
            except TelegramError as error:
                self._report(self._client.health(error))
                await pause(self._backoff, error)
            except Exception as error:
                not_stored(error, self._report)
                await self._backoff.pause()

    async def _connected(self, connect: Connect, take: Take) -> None:
        name = await connect()
        await self._client.bot.delete_webhook()  # one that is set forbids polls; what waits is kept
        wait = 0
        while True:
            updates = await self._client.updates(self._offset, wait)
            self._confirmed = self._offset
            for update in updates:
                await take(update)
                self._offset = int(update["update_id"]) + 1
            self._report(Health("online", name))
            self._backoff.reset()
            wait = self._timing.poll

    async def _confirm(self) -> None:
        """Leaving: say what was taken, or it would all come again at the next start. That would do no harm."""
        if self._offset != self._confirmed:
            with contextlib.suppress(TelegramError, TimeoutError):
                async with asyncio.timeout(_FAREWELL):
                    await self._client.updates(self._offset, 0)


async def pause(backoff: Backoff, error: TelegramError) -> None:
    """Wait before the next try, as long as `error` makes sense of."""
    if isinstance(error, InvalidToken):
        return await backoff.longest()
    await backoff.pause(wait_of(error) if isinstance(error, RetryAfter) else 0.0)


def not_stored(error: Exception, report: Callable[[Health], None]) -> None:
    """What arrived could not be stored: Telegram keeps it and sends it again."""
    # The error's own words may quote what a person said (a database names its values).
    log.error("telegram: an update could not be stored (%s); it comes again", type(error).__name__)
    log.debug("telegram: an update could not be stored", exc_info=error)
    report(Health("offline", f"what arrives can't be stored ({type(error).__name__}): look at the disk and the log"))
