"""Shows that the bot types, while it does. Best effort: whatever fails here is left alone.

Knows nothing of replies.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from adapters.weixin.pauses import Pauses
from adapters.weixin.state import State
from adapters.weixin.wire import Ilink, IlinkError

logger = logging.getLogger(__name__)

TICKET_LIFE = 24 * 3600.0
NO_TICKET_LIFE = 60.0
LONGEST = 600.0  # a "typing" that nobody ended ends
GOODBYE = 2.0


class Typing:
    """One task for each person that is shown "typing"."""

    def __init__(self, state: State, pauses: Pauses, clock: Callable[[], float]) -> None:
        self._state, self._pauses, self._clock = state, pauses, clock
        self._tickets: dict[str, tuple[str, float]] = {}
        self._shown: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def show(self, ilink: Ilink, person: str) -> None:
        """Begin. Asked twice, it goes on."""
        if person in self._shown or person not in self._state.contacts:
            return
        task = asyncio.get_running_loop().create_task(self._keep(ilink, person, tuple(self._tasks)))
        self._shown[person] = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def hide(self, person: str) -> None:
        """End."""
        task = self._shown.pop(person, None)
        if task is not None:
            task.cancel()

    async def stop(self) -> None:
        """End all of it."""
        for person in tuple(self._shown):
            self.hide(person)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep(self, ilink: Ilink, person: str, before: tuple[asyncio.Task[None], ...]) -> None:
        """Repeat "typing" until cancelled, then take it back; after those `before`, which may be taking theirs back."""
        try:
            async with asyncio.timeout(LONGEST):
                ending = [task for task in before if task not in self._shown.values()]
                if ending:
                    await asyncio.wait(ending)
                ticket = await self._ticket(ilink, person)
                if ticket:
                    await self._repeat(ilink, person, ticket)
        except (IlinkError, TimeoutError) as error:
            self._tickets.pop(person, None)
            logger.debug("weixin typing not shown: %s", error)
        finally:
            if self._shown.get(person) is asyncio.current_task():
                del self._shown[person]

    async def _repeat(self, ilink: Ilink, person: str, ticket: str) -> None:
        try:
            while True:
                await ilink.typing(person, ticket, True)
                await asyncio.sleep(self._pauses.typing)
        finally:
            with contextlib.suppress(IlinkError, TimeoutError):
                async with asyncio.timeout(GOODBYE):
                    await ilink.typing(person, ticket, False)

    async def _ticket(self, ilink: Ilink, person: str) -> str:
        """The person's ticket, asked for once a day; "" where the server gives none."""
        ticket, until = self._tickets.get(person, ("", 0.0))
        if self._clock() < until:
            return ticket
        ticket = await ilink.typing_ticket(person, self._state.contacts[person].context_token)
        self._tickets[person] = (ticket, self._clock() + (TICKET_LIFE if ticket else NO_TICKET_LIFE))
        return ticket
