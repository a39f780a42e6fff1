"""What another terminal can ask of a running bot: learn, promote, roll back, forget, tell.

The same calls serve a terminal when no bot runs. Knows nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from bots import lesson, personal
from bots.control import Call, ControlError
from bots.database import Database
from bots.imports import Imports
from bots.nights import Nights, drop_runs_of
from bots.settings import Settings
from learner import lora_folder, loras
from learner.engine.base import EngineError
from learner.scopes import BASE, COMMON, Scope, rest_of
from learner.store.store import Store


class Versions:
    """Carries out the control calls. All raise ControlError with what to do.

    `mind` says whose LoRAs are meant, `chat` ("platform:chat id", or a name) which chats', if not all chats'.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        database: Database,
        nights: Nights,
        forgotten: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`forgotten` is called once somebody was: what a running bot remembers of them must go too."""
        self._settings = settings
        self._store = store
        self._database = database
        self._nights = nights
        self._forgotten = forgotten

    def calls(self) -> Mapping[str, Call]:
        """The calls by name."""
        return {
            "learn": self.learn,
            "progress": self.progress,
            "promote": self.promote,
            "rollback": self.rollback,
            "forget": self.forget,
            **Imports(self._settings, self._store, self._database).calls(),
        }

    async def learn(self, values: dict[str, Any]) -> dict[str, Any]:
        """Start a night, unless one runs or there is too little to learn from."""
        scope = self._scope(values)
        have, need = await self._nights.count(scope), self._settings.learner.min_records
        if not self._nights.is_running(scope) and have < need:
            return {"state": "skipped", "have": have, "need": need}
        if not self._settings.model.trains:
            return {"state": "skipped", "have": have, "need": need, "no_base": True}
        undecided = await self._nights.undecided(scope)
        if undecided is not None:
            return {"state": "skipped", "have": have, "need": need, "undecided": str(undecided)}
        self._nights.start(scope)
        return {"state": "running"}

    async def progress(self, values: dict[str, Any]) -> dict[str, Any]:
        """Where the running night stands, or how the last one ended."""
        scope = self._scope(values)
        running = self._nights.is_running(scope)
        last = await self._nights.last(scope)
        return {
            "running": running,
            "progress": self._nights.progress(scope),
            "active": self._nights.active(scope),
            "last": None if last is None else {"number": last.number, "state": last.state, "verdict": last.verdict},
        }

    async def promote(self, values: dict[str, Any]) -> dict[str, Any]:
        """Let version `version` speak, and end the duels; "base" is the model without a LoRA.

        A version of chats of their own speaks in these alone; there "common" is what all other chats hear.
        """
        version = str(values["version"])
        scope = self._scope_of(version, values)
        self._check_anchor(version)
        done = await self._move(scope, lambda: loras.set_active(self._settings.loras_dir, scope, version))
        if Scope.read(scope).name is None:
            await self._nights.probation.withdraw(scope)
        return done

    async def rollback(self, values: dict[str, Any]) -> dict[str, Any]:
        """Retire the challenger, or where there is none let the version that spoke before speak again."""
        scope = self._scope(values)
        if Scope.read(scope).name is None and await self._nights.probation.roll_back(scope):
            return {"active": self._nights.active(scope), "name": None}
        return await self._step_back(scope)

    async def _step_back(self, scope: str) -> dict[str, Any]:
        return await self._move(scope, lambda: loras.rollback(self._settings.loras_dir, scope))

    async def _step_away(self, scope: str) -> None:
        """From a version that may speak no more: where the one before can't speak either, to what is always there."""
        try:
            await self._step_back(scope)
        except (ControlError, lora_folder.LoraError):
            await self._move(scope, lambda: loras.set_active(self._settings.loras_dir, scope, rest_of(scope)))

    async def forget(self, values: dict[str, Any]) -> dict[str, Any]:
        """Delete the person "platform:id" and retire every LoRA that learned from them."""
        forgotten = await self._database(self._store.forget, str(values["person"]))
        if self._forgotten is not None:
            await self._forgotten()
        minds = sorted({bot.mind for bot in self._settings.bots})
        retired = [version for mind in minds for version in self._retire(mind, forgotten.exchanges)]
        for mind in minds:
            for scope in sorted({mind, *(one.scope for one in loras.listing(self._settings.loras_dir, mind))}):
                if self._nights.active(scope) in retired:
                    await self._step_away(scope)
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

    async def _move(self, scope: str, move: Callable[[], str]) -> dict[str, Any]:
        """Move the pointer and let the engine follow; where it can't, move it back."""
        before = self._nights.active(scope)
        try:
            move()
            return {"active": await self._nights.activate(scope), "name": Scope.read(scope).name}
        except lora_folder.LoraError as error:
            raise ControlError(str(error)) from error
        except EngineError as error:
            loras.set_active(self._settings.loras_dir, scope, before)
            raise ControlError(str(error)) from error

    def _scope(self, values: dict[str, Any]) -> str:
        mind, chat = self._mind(values), str(values.get("chat") or "")
        try:
            return personal.scope_called(self._settings, mind, chat) if chat else mind
        except personal.NotPersonal as error:
            raise ControlError(str(error)) from error

    def _scope_of(self, version: str, values: dict[str, Any]) -> str:
        """Where `version` is to speak: where it is asked for, or else where it belongs."""
        asked = self._scope(values)
        named = Scope.read(asked).name is not None
        if version == COMMON and not named:
            raise ControlError("'common' is for chats with a LoRA of their own: name one with --chat")
        if version == BASE and named:
            raise ControlError("chats with a LoRA of their own fall back on 'common', not on the base model")
        if named or version == BASE:
            return asked
        try:
            found = loras.show(self._settings.loras_dir, version)
        except lora_folder.LoraError as error:
            raise ControlError(str(error)) from error
        if found.mind != asked or found.name is None:
            return asked
        return self._scope({**values, "chat": found.name})

    def _check_anchor(self, version: str) -> None:
        try:
            lesson.check_anchor(self._settings, version)
        except lora_folder.LoraError as error:
            raise ControlError(str(error)) from error

    def _mind(self, values: dict[str, Any]) -> str:
        minds = sorted({bot.mind for bot in self._settings.bots})
        mind = str(values.get("mind") or minds[0])
        if mind not in minds:
            raise ControlError(f"no mind is called {mind!r}; config.toml names {', '.join(minds)}")
        return mind
