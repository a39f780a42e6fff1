"""Who speaks in a chat: the LoRA of its own if it has one that can speak, or else the mind's common one.

Knows nothing of prompts or of how a reply is made. The pointer on disk decides, at each reply anew.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bots import personal
from bots.settings import Settings
from learner import loras
from learner.engine.base import Engine, EngineBusy, EngineError, LoraMismatch
from learner.engine.shelf import LoraShelf
from learner.lora_folder import LoraError
from learner.scopes import rest_of
from learner.store.rows import Place

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Voice:
    """Who makes the replies of one turn: `lora` as a CandidateSpec names it.

    `folder` is that of the chat's own LoRA, None where the common one speaks. `duels`: a choice here may decide
    about the common LoRA.
    """

    lora: str = "active"
    folder: Path | None = None
    duels: bool = True


COMMON_VOICE = Voice()


class Voices:
    """The voices of one mind's chats. The engine holds as many LoRAs of chats as there are slots."""

    def __init__(self, settings: Settings, mind: str, engine: Engine) -> None:
        self._settings = settings
        self._mind = mind
        self.shelf = LoraShelf(engine, settings.model.lora_slots, settings.reply_timeout)
        self._unfit: set[str] = set()

    @asynccontextmanager
    async def speaking(self, place: Place) -> AsyncIterator[Voice]:
        """Who speaks in `place`, loaded until the turn is over. What can't be loaded leaves it to the common one."""
        chat = f"{place.platform}:{place.chat}"
        voice = Voice(duels=personal.teaches_all(self._settings, chat))
        scope = personal.scope_in(self._settings, self._mind, chat)
        folder = self.own(scope) if scope != self._mind else None
        async with AsyncExitStack() as loaded:
            if folder is not None:
                try:
                    await loaded.enter_async_context(self.shelf.taken(folder))
                    voice = Voice(folder.name, folder, duels=False)
                except LoraMismatch as error:
                    self._pass_over(folder.name, error)
                except EngineError as error:
                    log.warning("lora: %s can't speak now, and the common one does: %s", folder.name, error)
            yield voice

    async def check(self, scope: str) -> None:
        """Load the scope's own LoRA, if it has one. Raises LoraError or EngineError where it can't speak."""
        version = loras.active(self._settings.loras_dir, scope)
        if version == rest_of(scope):
            return
        loras.check_speakable(self._settings.loras_dir, scope, version)
        with suppress(EngineBusy):  # it is loaded when a slot is free
            async with self.shelf.taken(self._settings.loras_dir / version):
                self._unfit.discard(version)

    def own(self, scope: str) -> Path | None:
        """The folder of the LoRA that some chats of this mind have of their own; None where none can speak."""
        version = loras.active(self._settings.loras_dir, scope)
        if version == rest_of(scope) or version in self._unfit:
            return None
        try:
            loras.check_speakable(self._settings.loras_dir, scope, version)
        except LoraError as error:
            self._pass_over(version, error)
            return None
        return self._settings.loras_dir / version

    def _pass_over(self, version: str, error: Exception) -> None:
        """Said once: a published LoRA does not change."""
        self._unfit.add(version)
        log.error("lora: %s; the common one speaks in its place", error)
