"""What another terminal can ask of a running bot: learn, promote, roll back, forget, tell.

The same calls serve a terminal when no bot runs. Knows nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bots.control import Call, ControlError
from bots.database import Database
from bots.nights import Nights, drop_runs_of
from bots.settings import Settings
from learner import loras
from learner.engine.base import EngineError
from learner.store.store import Store


class Versions:
    """Carries out the control calls. All raise ControlError with what to do."""

    def __init__(self, settings: Settings, store: Store, database: Database, nights: Nights) -> None:
        self._settings = settings
        self._store = store
        self._database = database
        self._nights = nights

    def calls(self) -> Mapping[str, Call]:
        """The calls by name."""
        return {
            "learn": self.learn,
            "progress": self.progress,
            "promote": self.promote,
            "rollback": self.rollback,
            "forget": self.forget,
        }

    async def learn(self, values: dict[str, Any]) -> dict[str, Any]:
        """Start a night of `mind`, unless one runs or there is too little to learn from."""
        mind = self._mind(values)
        have, need = await self._nights.count(mind), self._settings.learner.min_records
        if not self._nights.is_running(mind) and have < need:
            return {"state": "skipped", "have": have, "need": need}
        if not self._settings.model.trains:
            return {"state": "skipped", "have": have, "need": need, "no_base": True}
        undecided = await self._nights.probation.undecided(mind)
        if undecided is not None:
            return {"state": "skipped", "have": have, "need": need, "undecided": str(undecided)}
        self._nights.start(mind)
        return {"state": "running"}

    async def progress(self, values: dict[str, Any]) -> dict[str, Any]:
        """Where the running night of `mind` stands, or how the last one ended."""
        mind = self._mind(values)
        running = self._nights.is_running(mind)
        last = await self._nights.last(mind)
        return {
            "running": running,
            "progress": self._nights.progress(mind),
            "active": self._nights.active(mind),
            "last": None if last is None else {"number": last.number, "state": last.state, "verdict": last.verdict},
        }

    async def promote(self, values: dict[str, Any]) -> dict[str, Any]:
        """Let version `version` speak, and end the duels; "base" is the model without a LoRA."""
        mind, version = self._mind(values), str(values["version"])
        done = await self._move(mind, lambda: loras.set_active(self._settings.loras_dir, mind, version))
        await self._nights.probation.withdraw(mind)
        return done

    async def rollback(self, values: dict[str, Any]) -> dict[str, Any]:
        """Retire the challenger, or where there is none let the version that spoke before speak again."""
        mind = self._mind(values)
        if await self._nights.probation.roll_back(mind):
            return {"active": self._nights.active(mind)}
        return await self._step_back(mind)

    async def _step_back(self, mind: str) -> dict[str, Any]:
        return await self._move(mind, lambda: loras.rollback(self._settings.loras_dir, mind))

    async def forget(self, values: dict[str, Any]) -> dict[str, Any]:
        """Delete the person "platform:id" and retire every LoRA that learned from them."""
        forgotten = await self._database(self._store.forget, str(values["person"]))
        minds = sorted({bot.mind for bot in self._settings.bots})
        retired = [version for mind in minds for version in self._retire(mind, forgotten.exchanges)]
        for mind in minds:
            if self._nights.active(mind) in retired:
                await self._step_back(mind)
            await self._nights.probation.undecided(mind)
        return {
            "rows": forgotten.rows,
            "tainted": forgotten.tainted,
            "files_clean": forgotten.files_clean,
            "retired": retired,
            "runs": drop_runs_of(self._settings.runs_dir, forgotten.exchanges),
        }

    def _retire(self, mind: str, exchanges: frozenset[str]) -> list[str]:
        retired = []
        for version in loras.listing(self._settings.loras_dir, mind):
            if version.retired is None and exchanges & set(version.records.get("exchanges", ())):
                loras.retire(self._settings.loras_dir, version.version, "somebody it learned from was forgotten")
                retired.append(version.version)
        return retired

    async def _move(self, mind: str, move: Callable[[], str]) -> dict[str, Any]:
        """Move the pointer and let the engine follow; where it can't, move it back."""
        before = self._nights.active(mind)
        try:
            move()
            return {"active": await self._nights.activate(mind)}
        except loras.LoraError as error:
            raise ControlError(str(error)) from error
        except EngineError as error:
            loras.set_active(self._settings.loras_dir, mind, before)
            raise ControlError(str(error)) from error

    def _mind(self, values: dict[str, Any]) -> str:
        minds = sorted({bot.mind for bot in self._settings.bots})
        mind = str(values.get("mind") or minds[0])
        if mind not in minds:
            raise ControlError(f"no mind is called {mind!r}; config.toml names {', '.join(minds)}")
        return mind
