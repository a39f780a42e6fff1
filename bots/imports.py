"""Takes in records that were made elsewhere, a batch a call, in a running bot or without one.

Knows nothing of files or formats: whoever calls has read them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bots.control import Call, ControlError
from bots.database import Database
from bots.settings import Settings
from learner.engine.base import ChatMessage
from learner.imported import ImportedRecord
from learner.store.store import Store


class Imports:
    """The control call `import_records`."""

    def __init__(self, settings: Settings, store: Store, database: Database) -> None:
        self._settings = settings
        self._store = store
        self._database = database

    def calls(self) -> Mapping[str, Call]:
        """The calls by name."""
        return {"import_records": self.import_records}

    async def import_records(self, values: dict[str, Any]) -> dict[str, Any]:
        """Store `records` (as `as_json` writes them) from `source`, taught by `teacher` ("": the source itself)."""
        first = self._settings.bots[0]
        mind = str(values.get("mind") or first.mind)
        bot = next((bot.name for bot in self._settings.bots if bot.mind == mind), None)
        if bot is None:
            minds = ", ".join(sorted({bot.mind for bot in self._settings.bots}))
            raise ControlError(f"no mind is called {mind!r}; config.toml names {minds}")
        records = [_record(one) for one in values["records"]]
        source, teacher = str(values["source"]), str(values.get("teacher") or "")
        count = await self._database(self._store.add_imported, mind, bot, source, teacher, records, time.time())
        return asdict(count)


def as_json(records: Sequence[ImportedRecord]) -> list[dict[str, Any]]:
    """`records` as the call takes them."""
    return [asdict(record) for record in records]


def _record(row: Mapping[str, Any]) -> ImportedRecord:
    prompt = tuple(ChatMessage(one["role"], one["content"]) for one in row["prompt"])
    return ImportedRecord(prompt, tuple(row["replies"]), row["desirable"])
