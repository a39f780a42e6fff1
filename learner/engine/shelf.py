"""Keeps so many LoRAs loaded beside the one that speaks for all; the least recently used makes room.

Knows nothing of chats or of which version is right.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from learner.engine.base import Engine, EngineBusy, EngineError

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Slot:
    """A LoRA that is loaded or being loaded, and how many replies are being made by it."""

    loading: asyncio.Task[None]
    users: int = 0


@dataclass(eq=False)
class LoraShelf:
    """Versions that an engine holds on demand, at most `room` at a time.

    A version that a reply is being made by stays. Who wants another one while all are in use waits for a slot;
    nobody else waits.
    """

    engine: Engine
    room: int
    patience: float  # seconds to wait for a slot
    _slots: dict[str, _Slot] = field(default_factory=dict)  # the least recently used first
    _freed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def loaded(self) -> tuple[str, ...]:
        """The versions that have a slot, the least recently used first."""
        return tuple(self._slots)

    @asynccontextmanager
    async def taken(self, folder: Path) -> AsyncIterator[None]:
        """Have the engine hold the LoRA in `folder` meanwhile.

        Raises LoraMismatch where it does not fit, EngineBusy where no slot came free in time, EngineError.
        """
        slot = await self._take(folder)
        try:
            await asyncio.shield(slot.loading)
            yield
        finally:
            slot.users -= 1
            async with self._freed:
                self._freed.notify_all()

    async def _take(self, folder: Path) -> _Slot:
        """A slot for the version, counted as in use."""
        try:
            async with asyncio.timeout(self.patience), self._freed:
                while (slot := self._slot(folder)) is None:
                    await self._freed.wait()
                slot.users += 1
                return slot
        except TimeoutError as error:
            raise EngineBusy(f"all {self.room} LoRA slots are in use; [model] lora_slots says how many") from error

    def _slot(self, folder: Path) -> _Slot | None:
        """The version's slot, now the most recently used; None while every slot is in use."""
        version = folder.name
        if (found := self._slots.pop(version, None)) is not None:
            self._slots[version] = found
            return found
        idle = None
        if len(self._slots) >= self.room:
            idle = next((one for one, slot in self._slots.items() if not slot.users), None)
            if idle is None:
                return None
            del self._slots[idle]
        slot = _Slot(asyncio.create_task(self._load(folder, idle)))
        slot.loading.add_done_callback(self._forgetter(version, slot))
        self._slots[version] = slot
        return slot

    async def _load(self, folder: Path, idle: str | None) -> None:
        if idle is not None:
            log.info("lora: %s makes room for %s; %d are loaded for chats of their own", idle, folder.name, self.room)
            with suppress(EngineError):  # a dead engine holds nothing
                await self.engine.release_lora(idle)
        await self.engine.hold_lora(folder)

    def _forgetter(self, version: str, slot: _Slot) -> Callable[[asyncio.Task[None]], None]:
        """What takes a slot back whose version could not be loaded; its users are told the reason."""

        def done(task: asyncio.Task[None]) -> None:
            failed = task.cancelled() or task.exception() is not None
            if failed and self._slots.get(version) is slot:
                del self._slots[version]

        return done
