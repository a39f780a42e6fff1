"""Control calls without a running bot: a lesson or a rollback while nobody talks.

Knows nothing of platforms; the caller holds the data folder's lock.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from bots.control import ControlError
from bots.database import Database
from bots.nights import Nights
from bots.settings import Settings
from bots.versions import Versions
from learner.store.store import Store


class Standalone:
    """`call(name, **values)` as a ControlClient's, on parts of its own."""

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        self._store = Store(settings.database_url)
        database = Database()
        nights = Nights(settings, self._store, database, {}, lambda _event, _values: None)
        self._calls = Versions(settings, self._store, database, nights).calls()
        threading.Thread(target=self._loop.run_forever, name="standalone", daemon=True).start()

    def call(self, name: str, **values: Any) -> dict[str, Any]:
        """Run the call `name`. Raises ControlError."""
        if name not in self._calls:
            raise ControlError(f"no call is named {name}")
        return asyncio.run_coroutine_threadsafe(self._wrapped(name, values), self._loop).result()

    async def _wrapped(self, name: str, values: dict[str, Any]) -> dict[str, Any]:
        return await self._calls[name](values)
