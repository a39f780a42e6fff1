"""Shows under a reply what people said about it, on platforms that can. Best effort.

Knows nothing of what a verdict means.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from adapters.base import PlatformAdapter, Settling, Verdict
from bots.database import Database
from bots.payloads import reply_of
from learner.store.rows import Place
from learner.store.store import Store

log = logging.getLogger(__name__)


class Settlements:
    """Tells adapters what was chosen, without making anybody wait for it."""

    def __init__(self, adapters: Mapping[tuple[str, str], PlatformAdapter], store: Store, database: Database) -> None:
        self._adapters = adapters
        self._store = store
        self._database = database
        self._tasks: set[asyncio.Task[None]] = set()

    def shows(self, place: Place) -> bool:
        """Whether the platform shows a press at the reply itself, so that words of thanks would be noise."""
        adapter = self._adapters.get((place.bot, place.platform))
        return adapter is not None and adapter.capabilities.shows_presses

    def tell(self, place: Place, exchange: str, verdict: Verdict) -> None:
        """`exchange` got `verdict`: show it soon."""
        adapter = self._adapters.get((place.bot, place.platform))
        if isinstance(adapter, Settling):
            task = asyncio.create_task(self._tell(adapter, exchange, verdict))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Let go of what is not told yet."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _tell(self, adapter: Settling, exchange: str, verdict: Verdict) -> None:
        row = await self._database(self._store.outbox_of_exchange, exchange)
        if row is None or not row.message_ids:
            return
        try:
            await adapter.settle(row.draft.place.chat, row.message_ids, reply_of(row), verdict)
        except Exception:
            log.exception("settle: exchange %s", exchange)
