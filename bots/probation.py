"""Probation: a LoRA that passed the gate duels with the champion in offers, until people's choices decide.

Knows nothing of offers or nights. Every step of a decision leaves files from which the next start goes on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bots.database import Database
from bots.settings import Settings
from learner import challengers, lora_folder, loras
from learner.challengers import Challenger
from learner.duels import DuelRules, Score, decide, score
from learner.engine.base import Engine, EngineError, LoraMismatch
from learner.store.store import Store

log = logging.getLogger(__name__)
DAY = 86400.0

Report = Callable[[str, "Standing"], Awaitable[None]]  # a mind and how the duels of its challenger stood at their end


@dataclass(frozen=True)
class Standing:
    """An undecided challenger and its duels so far."""

    challenger: Challenger
    score: Score
    rules: DuelRules

    def values(self) -> dict[str, Any]:
        """What sentences about it name, as JSON."""
        return {
            "version": self.challenger.version,
            "champion": self.challenger.champion,
            "wins": self.score.wins,
            "duels": self.score.duels,
            "e": f"{self.score.evidence:.2g}" if self.score.evidence < 1 else f"{self.score.evidence:.1f}",
            "threshold": f"{self.rules.threshold:g}",
        }

    def __str__(self) -> str:
        words = "challenger {version}: {wins} of {duels} duels, e = {e}, decided at {threshold}"
        return words.format(**self.values())


def rules_of(settings: Settings) -> DuelRules:
    """The rules that config.toml sets."""
    return DuelRules(**settings.learner.duels.model_dump())


def standing_of(store: Store, mind: str, challenger: Challenger, rules: DuelRules) -> Standing:
    """The challenger's duels as they are stored now."""
    offers = store.offers_with(mind, challenger.version)
    return Standing(challenger, score(offers, challenger.version, challenger.champion_lora), rules)


class Probation:
    """The challengers of all minds: begun by a night, decided by duels or by the owner."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        database: Database,
        engines: Mapping[str, Engine],
        activate: Callable[[str], Awaitable[str]],
        announce: Callable[[str, dict[str, Any]], None],
    ) -> None:
        """`activate` lets the engine of a mind follow its active pointer."""
        self.enabled = settings.learner.probation == "on"
        self._loras_dir = settings.loras_dir
        self._rules = rules_of(settings)
        self._store = store
        self._database = database
        self._engines = engines
        self._activate = activate
        self._announce = announce
        self._report: Report | None = None
        self._held: dict[str, str] = {}
        self._reviewed: dict[str, int] = {}
        self._deciding: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._reviews: set[asyncio.Task[None]] = set()

    def report_to(self, report: Report) -> None:
        """Have `report` told how duels ended, once they are."""
        self._report = report

    # How it stands ----------------------------------------------------------------------------

    def challenger(self, mind: str) -> Challenger | None:
        """The undecided challenger."""
        return challengers.standing(self._loras_dir, mind) if self.enabled else None

    def ready(self, mind: str) -> str | None:
        """The challenger's version when the engine holds it: the next offer can be a duel."""
        found = self.challenger(mind) if mind in self._held else None
        return found.version if found is not None and found.version == self._held[mind] else None

    async def standing(self, mind: str) -> Standing | None:
        """The undecided challenger and its duels so far."""
        found = self.challenger(mind)
        return None if found is None else await self._standing(mind, found)

    async def _standing(self, mind: str, found: Challenger) -> Standing:
        return await self._database(standing_of, self._store, mind, found, self._rules)

    # Its beginning and its end ------------------------------------------------------------------

    async def begin(self, mind: str, version: str) -> Challenger:
        """Let `version` challenge the one that speaks. Raises LoraError or EngineError, and it does not."""
        async with self._deciding[mind]:
            made = challengers.challenge(self._loras_dir, mind, version)
            try:
                await self._hold(mind, version)
            except EngineError:
                await self._let_go(mind)
                raise
        log.info("lora: %s challenges %s for mind %s", version, made.champion, mind)
        return made

    async def resume(self, mind: str) -> None:
        """At the start: finish what was decided, and hold ready what is not."""
        try:
            await self.settle(mind)
            found = self.challenger(mind)
            if found is not None:
                await self._hold(mind, found.version)
        except (lora_folder.LoraError, EngineError) as error:
            log.error("lora: %s; there are no duels", error)

    def review(self, mind: str) -> None:
        """Something was said: see soon whether it decides."""
        if self.challenger(mind) is not None:
            task = asyncio.create_task(self._review(mind))
            self._reviews.add(task)
            task.add_done_callback(self._reviews.discard)

    async def reviewed(self) -> None:
        """Wait for the reviews that were asked for."""
        await asyncio.gather(*self._reviews)

    async def _review(self, mind: str) -> None:
        newest = await self._database(self._store.newest_feedback)
        if newest == self._reviewed.get(mind):
            return
        self._reviewed[mind] = newest
        await self.undecided(mind)

    async def settle(self, mind: str) -> None:
        """Promote or roll back the challenger if its duels or their limits say so. Raises LoraError, EngineError."""
        async with self._deciding[mind]:
            found = self.challenger(mind)
            if found is None:
                return await self._let_go(mind)
            standing = await self._standing(mind, found)
            decision = decide(standing.score, (time.time() - found.since) / DAY, self._rules)
            if decision is None or self.challenger(mind) != found:
                return
            log.info("lora: %s: %s", standing, decision)
            if decision == "promote":
                await self._promote(mind, found)
            else:
                await self._retire(mind, found, f"lost its duels: {standing}")
            if self._report is not None:
                await self._report(mind, standing)

    async def undecided(self, mind: str) -> Standing | None:
        """The challenger that is left once what can be decided is."""
        try:
            await self.settle(mind)
        except (lora_folder.LoraError, EngineError) as error:
            log.error("lora: %s; its duels are not decided", error)
        return await self.standing(mind)

    async def roll_back(self, mind: str) -> bool:
        """At somebody's word: retire the challenger; False where there is none."""
        async with self._deciding[mind]:
            found = self.challenger(mind)
            if found is not None:
                await self._retire(mind, found, "rolled back by hand")
            return found is not None

    async def withdraw(self, mind: str) -> None:
        """Somebody else decided who speaks: no more duels; the version stays as it is."""
        async with self._deciding[mind]:
            await self._let_go(mind)

    async def close(self) -> None:
        """Stop reviewing; the next start goes on."""
        for task in self._reviews:
            task.cancel()
        await asyncio.gather(*self._reviews, return_exceptions=True)

    # Steps ------------------------------------------------------------------------------------

    async def _promote(self, mind: str, found: Challenger) -> None:
        """One that loads. The pointer first: a crash after it leaves a challenger that speaks, and so is decided."""
        try:
            await self._hold(mind, found.version)
        except LoraMismatch as error:
            return await self._retire(mind, found, str(error))
        if self.challenger(mind) == found:
            loras.set_active(self._loras_dir, mind, found.version)
            await self._activate(mind)
            await self._let_go(mind)

    async def _retire(self, mind: str, found: Challenger, reason: str) -> None:
        """The card first: a crash after it leaves a challenger that may not speak."""
        loras.retire(self._loras_dir, found.version, reason)
        await self._let_go(mind)
        self._announce("lora", {"mind": mind, "lora": found.champion_lora})

    async def _let_go(self, mind: str) -> None:
        challengers.withdraw(self._loras_dir, mind)
        held = self._held.pop(mind, None)
        if held is not None:
            with suppress(EngineError):  # a dead engine holds nothing
                await self._engines[mind].release_lora(held)

    async def _hold(self, mind: str, version: str) -> None:
        engine = self._engines.get(mind)
        if engine is not None and self._held.get(mind) != version:
            await engine.hold_lora(self._loras_dir / version)
            self._held[mind] = version
