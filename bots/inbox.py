"""What arrives is stored, then handled once, in order per chat, across crashes; replies go out again.

Knows nothing of what a message means (router) or how a platform works (adapters).
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, fields
from typing import Any

from adapters.base import (
    DeliveryFailed,
    Edited,
    Inbound,
    Message,
    Person,
    PlatformAdapter,
    Pressed,
    Reacted,
    Recalled,
    Reply,
)
from bots.database import Database
from learner.store.rows import InboxRow, NewInbound, OutboxDraft, OutboxRow, Place
from learner.store.store import Store

log = logging.getLogger(__name__)

KINDS: dict[str, type[Inbound]] = {kind.__name__: kind for kind in (Message, Pressed, Reacted, Edited, Recalled)}
FIRST_RETRY = 1.0
LONGEST_RETRY = 300.0


def clean(text: str) -> str:
    """Mend what no database or model takes: lone surrogates and NUL."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "�")


def to_payload(inbound: Inbound) -> dict[str, Any]:
    """An inbound thing as JSON."""
    return _cleaned(asdict(inbound))


def from_payload(kind: str, payload: Mapping[str, Any]) -> Inbound:
    """The inbound thing that `to_payload` wrote down."""
    values = {**payload, "person": Person(**payload["person"])}
    return KINDS[kind](**values)


def reply_of(row: OutboxRow) -> Reply:
    """The adapter's reply that an outbox row holds."""
    names = {field.name for field in fields(Reply)}
    values = {name: value for name, value in row.draft.payload.items() if name in names}
    if values.get("candidates") is not None:
        values["candidates"] = tuple(values["candidates"])
    return Reply(**values)


def draft_of(reply: Reply, place: Place) -> OutboxDraft:
    """`reply` as a row for the outbox."""
    return OutboxDraft(reply.id, place, asdict(reply))


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


class Lane:
    """One chat's line: things are handled one after another."""

    def __init__(self) -> None:
        self.rows: asyncio.Queue[InboxRow] = asyncio.Queue()
        self.task: asyncio.Task[None] | None = None


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
        self._handlers: dict[str, Handle] = {}
        self._lanes: dict[Place, Lane] = {}
        self._handled: dict[int, asyncio.Future[None]] = {}

    def serve(self, bot: str, handle: Handle) -> None:
        """Let `handle` answer what arrives for `bot`."""
        self._handlers[bot] = handle

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
            self._queue(row)
        return StoredReceipt(self._handled[row.id], lambda: self._replies(row.id))

    async def resume(self) -> int:
        """Queue what an earlier process stored and did not finish; how many there were."""
        rows = await self._database(self._store.waiting)
        for row in rows:
            if row.inbound.place.bot in self._handlers and row.id not in self._handled:
                self._queue(row)
        return len(rows)

    async def close(self) -> None:
        """Stop handling; what is not finished stays stored and is resumed at the next start."""
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for future in self._handled.values():
            future.cancel()

    def _queue(self, row: InboxRow) -> None:
        self._handled[row.id] = asyncio.get_running_loop().create_future()
        lane = self._lanes.setdefault(row.inbound.place, Lane())
        lane.rows.put_nowait(row)
        if lane.task is None:
            lane.task = asyncio.create_task(self._work(row.inbound.place, lane))

    async def _work(self, place: Place, lane: Lane) -> None:
        while not lane.rows.empty():
            row = lane.rows.get_nowait()
            await self._handle(row)
        del self._lanes[place]

    async def _handle(self, row: InboxRow) -> None:
        """The one broad catch around a message: a fault answers nothing, is logged, and ends nothing else."""
        try:
            await self._handlers[row.inbound.place.bot](row)
        except Exception:
            log.exception("inbox: row %s (%s) failed", row.id, row.inbound.kind)
            await self._database(self._store.answer, row.id, [])
        await self._deliver(row)
        future = self._handled.pop(row.id)
        if not future.done():
            future.set_result(None)

    async def _replies(self, inbox_id: int) -> tuple[Reply, ...]:
        return tuple(reply_of(row) for row in await self._database(self._store.outbox, inbox_id))


class Outbox:
    """Sends what is stored to be sent, in order per chat, with back-off; a reply keeps its id."""

    def __init__(self, store: Store, database: Database) -> None:
        self._store = store
        self._database = database
        self._adapters: dict[tuple[str, str], PlatformAdapter] = {}
        self._lines: dict[Place, asyncio.Queue[OutboxRow]] = {}
        self._tasks: dict[Place, asyncio.Task[None]] = {}

    def serve(self, bot: str, adapter: PlatformAdapter) -> None:
        """Let `adapter` deliver for `bot`."""
        self._adapters[bot, adapter.name] = adapter

    async def deliver(self, row: InboxRow) -> None:
        """Put the replies to `row` in their chat's line."""
        self.queue(await self._database(self._store.outbox, row.id))

    async def post(self, mind: str, place: Place, text: str) -> None:
        """Send `text` to a chat that did not ask for it just now."""
        draft = draft_of(Reply(uuid.uuid4().hex, place.chat, text), place)
        await self._database(self._store.post, mind, [draft], time.time())
        self.queue([OutboxRow(draft, None, "pending", 0, ())])

    async def resume(self) -> int:
        """Queue what an earlier process did not get sent; how many there were."""
        rows = await self._database(self._store.unsent)
        self.queue(rows)
        return len(rows)

    def queue(self, rows: list[OutboxRow]) -> None:
        """Send `rows` after what waits in their chats."""
        for row in rows:
            place = row.draft.place
            if row.state != "pending" or (place.bot, place.platform) not in self._adapters:
                continue
            self._lines.setdefault(place, asyncio.Queue()).put_nowait(row)
            if place not in self._tasks:
                self._tasks[place] = asyncio.create_task(self._work(place))

    async def close(self) -> None:
        """Stop sending; what is not sent stays stored."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, place: Place) -> None:
        line = self._lines[place]
        while not line.empty():
            await self._send(self._adapters[place.bot, place.platform], line.get_nowait())
        del self._tasks[place], self._lines[place]

    async def _send(self, adapter: PlatformAdapter, row: OutboxRow) -> None:
        pause = FIRST_RETRY
        while True:
            try:
                sent = await adapter.send(reply_of(row))
            except DeliveryFailed as failure:
                await self._database(self._store.mark_failed, row.draft.id, str(failure), failure.permanent)
                if failure.permanent:
                    log.warning("outbox: %s can't be sent on %s: %s", row.draft.id, adapter.name, failure)
                    return
                await asyncio.sleep(failure.retry_after or pause)
                pause = min(2 * pause, LONGEST_RETRY)
            else:
                await self._database(self._store.mark_sent, row.draft.id, sent.message_ids)
                return


def _done() -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {key: _cleaned(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(item) for item in value]
    return value
