"""What arrives is stored, then handled once, in order per chat, across crashes.

Knows nothing of what a message means (router) or how a platform works (adapters).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from adapters.base import Edited, Inbound, Message, Recalled, Reply
from bots import intent
from bots.database import Database
from bots.payloads import from_payload, reply_of, to_payload
from learner.store.rows import InboxRow, NewInbound, Place
from learner.store.store import Store

log = logging.getLogger(__name__)


class Unheard:
    """The receipt of what was not for the bot: nothing is stored, nothing is said."""

    async def replies(self) -> tuple[Reply, ...]:
        """None."""
        return ()


class StoredReceipt:
    """An adapter's Receipt: the thing is stored, and its replies come when it has been handled."""

    def __init__(self, handled: asyncio.Future[None], read: Callable[[], Awaitable[tuple[Reply, ...]]]) -> None:
        self._handled = handled
        self._read = read

    async def replies(self) -> tuple[Reply, ...]:
        """Wait until the thing is handled; its replies, in order."""
        await asyncio.shield(self._handled)
        return await self._read()


Handle = Callable[[InboxRow], Awaitable[None]]
LONGEST_MERGE = 10  # windows: somebody who never stops is answered too


@dataclass(frozen=True)
class Handler:
    """Who answers for a bot, and on which platforms it waits how long (seconds) for more of the same turn."""

    handle: Handle
    merge_seconds: Mapping[str, float]


class Lane:
    """One chat's line: things are handled one after another."""

    def __init__(self) -> None:
        self.rows: deque[InboxRow] = deque()
        self.more = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.current: tuple[int, asyncio.Task[None]] | None = None
        self.ends = False

    def restart(self, row_id: int) -> None:
        """Begin again with what is being handled, if it is this row."""
        if self.current is not None and self.current[0] == row_id:
            self.current[1].cancel()


class Inbox:
    """Stores what arrives and hands it on, chat by chat."""

    def __init__(
        self,
        store: Store,
        database: Database,
        deliver: Callable[[InboxRow], Awaitable[None]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._database = database
        self._deliver = deliver
        self._clock = clock
        self._handlers: dict[str, Handler] = {}
        self._lanes: dict[Place, Lane] = {}
        self._handled: dict[int, asyncio.Future[None]] = {}

    def serve(self, bot: str, handle: Handle, merge_seconds: Mapping[str, float] | None = None) -> None:
        """Let `handle` answer what arrives for `bot`."""
        self._handlers[bot] = Handler(handle, merge_seconds or {})

    async def receive(self, mind: str, bot: str, platform: str, inbound: Inbound) -> StoredReceipt:
        """Store `inbound`, then put it in its chat's line. A repeat is not handled again."""
        new = NewInbound(
            place=Place(bot, platform, inbound.chat),
            external_id=inbound.id,
            person=inbound.person.id,
            kind=type(inbound).__name__,
            payload=to_payload(inbound),
            at=self._clock(),
        )
        received = await self._database(self._store.receive, mind, new)
        row = received.row
        if row.done:
            return StoredReceipt(_done(), lambda: self._replies(row.id))
        if row.id not in self._handled:
            self._handled[row.id] = asyncio.get_running_loop().create_future()
            await self._amend(row, inbound)
            self._queue(row)
        return StoredReceipt(self._handled.get(row.id) or _done(), lambda: self._replies(row.id))

    async def resume(self) -> int:
        """Queue what an earlier process stored and did not finish; how many there were.

        What was edited or recalled is so before its reply is made.
        """
        rows = await self._database(self._store.waiting)
        waiting = [row for row in rows if row.inbound.place.bot in self._handlers and row.id not in self._handled]
        for row in waiting:
            self._handled[row.id] = asyncio.get_running_loop().create_future()
        for row in waiting:
            await self._amend(row, from_payload(row.inbound.kind, row.inbound.payload))
        for row in waiting:
            self._queue(row)
        return len(rows)

    async def close(self) -> None:
        """Stop handling; what is not finished stays stored and is resumed at the next start."""
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        for lane in self._lanes.values():
            lane.ends = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for future in self._handled.values():
            future.cancel()

    async def _amend(self, row: InboxRow, inbound: Inbound) -> None:
        """A message that is changed or taken back before its reply was made: begin that reply again, or make none.

        The router amends once more in the chat's order, which reaches a reply that was finished meanwhile.
        """
        if not isinstance(inbound, Edited | Recalled):
            return
        text = inbound.text if isinstance(inbound, Edited) else None
        place = row.inbound.place
        amended = await self._database(self._store.amend, place, inbound.message, text)
        lane = self._lanes.get(place)
        if amended.waiting and amended.host is not None and lane is not None:
            lane.restart(amended.host)

    def _queue(self, row: InboxRow) -> None:
        lane = self._lanes.setdefault(row.inbound.place, Lane())
        lane.rows.append(row)
        lane.more.set()
        if lane.task is None:
            lane.task = asyncio.create_task(self._work(row.inbound.place, lane))

    async def _work(self, place: Place, lane: Lane) -> None:
        while lane.rows:
            turn = [lane.rows.popleft()]
            try:
                await self._take_turn(lane, turn)
            except Exception:
                log.exception("inbox: row %s stays stored for the next start", turn[-1].id)
            for row in turn:
                self._tell(row)
        del self._lanes[place]

    async def _take_turn(self, lane: Lane, turn: list[InboxRow]) -> None:
        """Handle the first of `turn` together with what follows it fast, which is added to `turn`."""
        await self._gather(lane, turn)
        host = turn[-1]
        if len(turn) > 1:
            await self._database(self._store.merge, host.id, [one.id for one in turn[:-1]])
        await self._handle(lane, host)
        await self._deliver(host)

    async def _gather(self, lane: Lane, turn: list[InboxRow]) -> None:
        """Add to `turn` all messages that the same person sends fast after its first."""
        first = turn[0].inbound
        window = self._handlers[first.place.bot].merge_seconds.get(first.place.platform, 0.0)
        while window and _is_part_of_a_turn(turn[-1]):
            left = min(turn[-1].inbound.at + window, first.at + LONGEST_MERGE * window) - self._clock()
            if not lane.rows and left > 0:
                lane.more.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(lane.more.wait(), left)
            follows = lane.rows and lane.rows[0].inbound.at - turn[-1].inbound.at <= window
            same = follows and lane.rows[0].inbound.person == first.person
            if not same or not _is_part_of_a_turn(lane.rows[0]):
                return
            turn.append(lane.rows.popleft())

    async def _handle(self, lane: Lane, row: InboxRow) -> None:
        """Handle `row`, again from the start each time that its words are changed meanwhile."""
        while True:
            task = asyncio.create_task(self._attempt(row))
            lane.current = (row.id, task)
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                if lane.ends:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                    raise
            finally:
                lane.current = None

    async def _attempt(self, row: InboxRow) -> None:
        """The one broad catch around a message: a fault answers nothing, is logged, and ends nothing else."""
        now = await self._database(self._store.arrival, row.id)
        if now is None or now.done:
            return
        try:
            await self._handlers[row.inbound.place.bot].handle(now)
        except Exception:
            log.exception("inbox: row %s (%s) failed", row.id, row.inbound.kind)
            await self._database(self._store.answer, row.id, [])

    def _tell(self, row: InboxRow) -> None:
        future = self._handled.pop(row.id, None)
        if future is not None and not future.done():
            future.set_result(None)

    async def _replies(self, inbox_id: int) -> tuple[Reply, ...]:
        return tuple(reply_of(row) for row in await self._database(self._store.outbox, inbox_id))


def _is_part_of_a_turn(row: InboxRow) -> bool:
    """Whether these are ordinary words, which the next ones may go on from."""
    inbound = from_payload(row.inbound.kind, row.inbound.payload)
    if not isinstance(inbound, Message) or inbound.kind not in ("text", "voice") or inbound.quote is not None:
        return False
    meanings = (intent.parse(inbound.text, offer_pending=pending) for pending in (True, False))
    return inbound.addressed and all(meaning is None for meaning in meanings)


def _done() -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future
