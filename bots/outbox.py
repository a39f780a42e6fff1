"""What is stored to be sent goes out, in order per chat, with back-off, until the platform took it.

Knows nothing of what is said or of how a platform works.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections import deque

from adapters.base import DeliveryFailed, PlatformAdapter, Reply
from bots.database import Database
from bots.payloads import draft_of, reply_of
from learner.store.rows import InboxRow, OutboxRow, Place
from learner.store.store import Store

log = logging.getLogger(__name__)
FIRST_RETRY = 1.0
LONGEST_RETRY = 300.0


class Line:
    """What one chat still gets, in order; `written` is set when its person wrote again."""

    def __init__(self) -> None:
        self.rows: deque[OutboxRow] = deque()
        self.written = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class Outbox:
    """Sends what is stored to be sent; a reply keeps its id."""

    def __init__(self, store: Store, database: Database) -> None:
        self._store = store
        self._database = database
        self._adapters: dict[tuple[str, str], PlatformAdapter] = {}
        self._lines: dict[Place, Line] = {}

    def serve(self, bot: str, adapter: PlatformAdapter) -> None:
        """Let `adapter` deliver for `bot`."""
        self._adapters[bot, adapter.name] = adapter

    async def deliver(self, row: InboxRow) -> None:
        """Put the replies to `row` in their chat's line."""
        self.queue(await self._database(self._store.outbox, row.id))

    async def post(self, mind: str, place: Place, text: str, reply_id: str = "") -> None:
        """Send `text` to a chat that did not ask for it just now; once, if it is posted again under its `reply_id`."""
        draft = draft_of(Reply(reply_id or uuid.uuid4().hex, place.chat, text), place)
        await self._database(self._store.post, mind, [draft], time.time())
        self.queue([OutboxRow(draft, None, "pending", 0, ())])

    async def say_unstored(self, place: Place, text: str) -> None:
        """Send `text` once and keep nothing of it: for somebody who was forgotten just now."""
        adapter = self._adapters.get((place.bot, place.platform))
        if adapter is not None:
            with contextlib.suppress(DeliveryFailed):
                await adapter.send(Reply(uuid.uuid4().hex, place.chat, text))

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
            line = self._lines.setdefault(place, Line())
            line.rows.append(row)
            line.written.set()
            if line.task is None:
                line.task = asyncio.create_task(self._work(place, line))

    async def close(self) -> None:
        """Stop sending; what is not sent stays stored."""
        tasks = [line.task for line in self._lines.values() if line.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, place: Place, line: Line) -> None:
        while line.rows:
            row = line.rows.popleft()
            try:
                await self._send(self._adapters[place.bot, place.platform], row, line)
            except Exception:
                log.exception("outbox: %s could not be handled; it stays stored for the next start", row.draft.id)
        del self._lines[place]

    async def _send(self, adapter: PlatformAdapter, row: OutboxRow, line: Line) -> None:
        pause = FIRST_RETRY
        while await self._database(self._store.is_unsent, row.draft.id):  # it may be forgotten meanwhile
            line.written.clear()
            failure = await self._try(adapter, row)
            if failure is None:
                return
            await self._database(self._store.mark_failed, row.draft.id, str(failure), failure.permanent)
            if failure.permanent:
                log.warning("outbox: %s can't be sent on %s: %s", row.draft.id, adapter.name, failure)
                return
            await _pause(failure, pause, line)
            pause = min(2 * pause, LONGEST_RETRY)

    async def _try(self, adapter: PlatformAdapter, row: OutboxRow) -> DeliveryFailed | None:
        """Send once; why not, when not. An adapter's own fault is one that may pass."""
        try:
            sent = await adapter.send(reply_of(row))
        except DeliveryFailed as failure:
            return failure
        except Exception as error:
            log.exception("outbox: %s failed in the adapter %s", row.draft.id, adapter.name)
            return DeliveryFailed(f"a fault in the adapter: {type(error).__name__}")
        await self._database(self._store.mark_sent, row.draft.id, sent.message_ids)
        return None


async def _pause(failure: DeliveryFailed, pause: float, line: Line) -> None:
    """Wait as the platform asks; where a word of the person's helps, a newer reply shows that they wrote."""
    seconds = failure.retry_after or pause
    if not failure.until_written:
        return await asyncio.sleep(seconds)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(line.written.wait(), seconds)
