"""How a mind stands, in a few words: for /status, /learn and the page.

Knows nothing of how nights or engines work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path

from bots import personal
from bots.morning import reasons_in_words, whose
from bots.nights import NightResult, Nights
from bots.phrases import phrases
from bots.settings import Settings
from learner.engine.base import Engine
from learner.loras import listing
from learner.scopes import BASE, COMMON, Scope
from learner.store.rows import Place, RunRow

Tell = Callable[[str, Place, str], Awaitable[None]]
Told = Callable[[str], Awaitable[Collection[Place]]]  # the chats that hear of a mind's nights anyway


class Summaries:
    """Says how minds stand, and starts their nights for those who ask in words."""

    def __init__(
        self, settings: Settings, nights: Nights, engines: Mapping[str, Engine], tell: Tell, told: Told
    ) -> None:
        self._settings = settings
        self._nights = nights
        self._engines = engines
        self._tell = tell
        self._told = told
        self._phrases = phrases(settings.language)
        self._waiting: set[asyncio.Task[None]] = set()

    async def begin(self, mind: str, asked_in: Place | None = None) -> str | None:
        """Start a night, whose end the chat `asked_in` is told; a sentence when it can't be.

        Asked for in a chat with a LoRA of its own, it is that chat's.
        """
        scope = mind if asked_in is None else self._scope(mind, asked_in)
        if self._nights.is_running(scope):
            return self._phrases.say("night_running")
        have, need = await self._nights.count(scope), self._settings.learner.min_records
        if not self._settings.model.trains:
            return self._phrases.say("night_no_base", have=have)
        if have < need:
            return self._phrases.say("night_few", have=have, need=need)
        undecided = await self._nights.undecided(scope)
        if undecided is not None:
            return self._phrases.say("night_probation", **undecided.values())
        night = self._nights.start(scope)
        if asked_in is not None:
            task = asyncio.create_task(self._tell_end(mind, asked_in, night))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)
        return None

    async def _tell_end(self, mind: str, place: Place, night: asyncio.Task[NightResult]) -> None:
        result = await asyncio.shield(night)
        if result.number is None or place not in await self._told(mind):
            await self._tell(mind, place, self.sentence(result))

    async def summary(self, mind: str, place: Place | None = None) -> dict[str, object]:
        """The values of the status sentence, as things stand for a mind or in one of its chats."""
        scope = mind if place is None else self._scope(mind, place)
        speaks = self._own(scope) if scope != mind else COMMON
        return {
            "model": self._model(),
            "lora": speaks if speaks != COMMON else self._lora(mind),
            "records": await self._nights.count(scope),
            "challenger": await self.challenger(mind),
        }

    async def personal(self, mind: str) -> list[dict[str, object]]:
        """How each LoRA of chats of their own stands: name, lora and records."""
        return [
            {
                "name": Scope.read(scope).name,
                "lora": self._own(scope),
                "records": await self._nights.count(scope),
            }
            for scope in personal.scopes_of(self._settings, mind)[1:]
        ]

    def own_name(self, mind: str, place: Place) -> str:
        """What the owner calls the chats with a LoRA of their own that `place` belongs to; empty for all others."""
        return Scope.read(self._scope(mind, place)).name or ""

    def _own(self, scope: str) -> str:
        """The version that chats of their own hear, or "common"."""
        folder = self._nights.voices[Scope.read(scope).mind].own(scope)
        return COMMON if folder is None else folder.name

    def _scope(self, mind: str, place: Place) -> str:
        return personal.scope_in(self._settings, mind, f"{place.platform}:{place.chat}")

    def _model(self) -> str:
        model = self._settings.model
        return Path(model.name).name if model.engine != "remote" else model.remote.model

    def _lora(self, mind: str) -> str:
        """Who speaks; where no LoRA can, also which one is there for export."""
        status, named = self._engines[mind].status(), self._nights.active(mind)
        if status.takes_loras or named == BASE:
            return status.active_lora or BASE
        return self._phrases.say("lora_exported", version=named)

    async def challenger(self, mind: str) -> str:
        """How the duels of the undecided challenger stand, in words; empty when there is none."""
        standing = await self._nights.probation.standing(mind)
        return "" if standing is None else self._phrases.say("duels", **standing.values())

    def versions(self, mind: str) -> str:
        """The LoRA versions, a line each, the speaking one marked."""
        every = listing(self._settings.loras_dir, mind)
        marks = {self._nights.active(scope): "*" for scope in {mind, *(one.scope for one in every)}}
        challenger = self._nights.probation.challenger(mind)
        if challenger is not None:
            marks[challenger.version] = "?"
        return "\n".join(
            " ".join(filter(None, (marks.get(one.version, "-"), one.version, one.name, one.retired))) for one in every
        )

    async def last_verdict(self, mind: str) -> str:
        """A sentence on the newest night, and on each since of chats of their own; empty when there was none."""
        lasts = [await self._nights.last(scope) for scope in personal.scopes_of(self._settings, mind)]
        common = lasts[0]
        since = 0.0 if common is None else common.started_at
        return " ".join(self._of_run(run) for run in lasts if run is not None and run.started_at >= since)

    def _of_run(self, run: RunRow) -> str:
        reasons = tuple(run.verdict.get("reasons", ()))
        return self.sentence(NightResult(run.mind, run.state, 0, run.number, f"{run.number:04d}", reasons, run.verdict))

    def sentence(self, result: NightResult) -> str:
        """What the owner is told of a night."""
        return whose(result.scope, self._sentence(result), self._phrases)

    def _sentence(self, result: NightResult) -> str:
        say = self._phrases.say
        records = result.verdict.get("records", {})
        pairs, ratings = records.get("pairs", 0), records.get("ratings", 0)
        stays = self._nights.active(result.scope)
        reasons = "; ".join(self._reasons(result))
        match result.state:
            case "published" if "challenges" in result.verdict:
                champion = result.verdict["challenges"]
                return say("night_challenges", version=result.version, champion=champion)
            case "published" if "exported" in result.verdict:
                return say("night_exported", pairs=pairs, ratings=ratings, version=result.version)
            case "published":
                return say("night_published", pairs=pairs, ratings=ratings, version=result.version)
            case "refused":
                return say("night_refused", version=stays, reasons=reasons)
            case "skipped" if "no_base" in result.verdict:
                return say("night_no_base", have=result.have)
            case "skipped" if result.reasons:
                return say("night_probation", **result.verdict)
            case "skipped":
                return say("night_few", have=result.have, need=self._settings.learner.min_records)
            case _:
                return say("night_failed", version=stays, reason=reasons)

    def _reasons(self, result: NightResult) -> list[str]:
        plain, others = reasons_in_words({**result.verdict, "reasons": result.reasons}, self._phrases)
        return plain + others
