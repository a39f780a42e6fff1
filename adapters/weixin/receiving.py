"""Receives with one login until that is no longer valid. Knows nothing of logging in or of sending.

The cursor is kept only after everything that it covers was taken in: a crash loses nothing, it repeats.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from adapters.base import Health, Receive
from adapters.weixin import translate
from adapters.weixin.pauses import OFTEN, Doubling, Pauses
from adapters.weixin.state import State
from adapters.weixin.wire import LONG_POLL, Ilink, IlinkError, Refused, Slow, StaleLogin, Updates

logger = logging.getLogger(__name__)


class Receiver:
    """`valid` says whether Weixin ever delivered to this login."""

    def __init__(
        self,
        ilink: Ilink,
        bot: str,
        state: State,
        report: Callable[[Health], None],
        pauses: Pauses,
        clock: Callable[[], float],
    ) -> None:
        self._ilink, self._bot, self._state = ilink, bot, state
        self._report, self._pauses, self._clock = report, pauses, clock
        self._unreachable = Doubling(pauses.first, pauses.longest)
        self._refusals = 0
        self._wait = LONG_POLL
        self._online = False
        self.valid = False

    async def run(self, receive: Receive) -> None:
        """Receive until Weixin says that the login is stale."""
        sceptical = False  # it took the announcement, but then gave no answer
        while True:
            announced, self._online = False, False
            try:
                announced = await self._announce()
                if announced and not sceptical:
                    self._answered()
                sceptical = announced
                while True:
                    updates = await self._next()
                    sceptical = False
                    await self._take_in(updates, receive)
            except StaleLogin:
                return
            except IlinkError as error:
                pause = self._pause_after(error)
                self._report(Health("offline", f"{error}; the next try is in {pause:.0f} s"))
                await asyncio.sleep(pause)

    async def _announce(self) -> bool:
        """Tell the server that we are here; what counts is whether it delivers, so a failure is no matter."""
        try:
            await self._ilink.notify(True)
        except StaleLogin:
            raise
        except IlinkError as error:
            logger.debug("weixin announcement failed: %s", error)
            return False
        return True

    async def _next(self) -> Updates:
        """What arrived, which may be nothing."""
        try:
            updates = await self._ilink.updates(self._state.cursor, self._wait)
        except Slow:
            await asyncio.sleep(self._pauses.poll)
            return Updates()
        self._wait = updates.next_poll or self._wait
        self._refusals = 0
        self._unreachable.reset()
        self.valid = True
        self._answered()
        return updates

    async def _take_in(self, updates: Updates, receive: Receive) -> None:
        """Hand all of `updates` on, then keep the cursor. How to answer is kept before: a reply may follow at once."""
        found = [(raw, translate.message(raw, self._bot)) for raw in updates.messages]
        contacts = [(said.chat, translate.contact(raw, self._clock)) for raw, said in found if said is not None]
        news = [self._state.wrote(person, contact) for person, contact in contacts if contact is not None]
        if any(news):
            self._state.save()
        for _, said in found:
            if said is not None:
                await receive(said)
        if updates.cursor and updates.cursor != self._state.cursor:
            self._state.save(updates.cursor)

    def _answered(self) -> None:
        if not self._online:
            self._online = True
            self._report(Health("online"))

    def _pause_after(self, error: IlinkError) -> float:
        if not isinstance(error, Refused):
            return self._unreachable.next()
        self._refusals += 1
        return self._pauses.refused if self._refusals % OFTEN else self._pauses.refused_often
