"""How a mind stands, in a few words: for /status, /learn and the page.

Knows nothing of how nights or engines work.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bots.nights import NightResult, Nights
from bots.phrases import phrases
from bots.settings import Settings
from learner.engine.base import Engine
from learner.loras import BASE


class Summaries:
    """Says how minds stand, and starts their nights for those who ask in words."""

    def __init__(self, settings: Settings, nights: Nights, engines: Mapping[str, Engine]) -> None:
        self._settings = settings
        self._nights = nights
        self._engines = engines
        self._phrases = phrases(settings.language)

    async def begin(self, mind: str) -> str | None:
        """Start a night; a sentence when it can't be."""
        if self._nights.is_running(mind):
            return self._phrases.say("night_running")
        have, need = await self._nights.count(mind), self._settings.learner.min_records
        if have < need:
            return self._phrases.say("night_few", have=have, need=need)
        self._nights.start(mind)
        return None

    async def summary(self, mind: str) -> dict[str, object]:
        """The values of the status sentence."""
        return {
            "model": Path(self._settings.model.name).name,
            "lora": self._engines[mind].status().active_lora or BASE,
            "records": await self._nights.count(mind),
        }

    async def last_verdict(self, mind: str) -> str:
        """One sentence on the newest night; empty when there was none."""
        run = await self._nights.last(mind)
        if run is None:
            return ""
        reasons = tuple(run.verdict.get("reasons", ()))
        records = run.verdict.get("records", {})
        result = NightResult(mind, run.state, 0, run.number, f"{run.number:04d}", reasons, run.verdict)
        return self.sentence(result, records.get("pairs", "?"), records.get("ratings", "?"))

    def sentence(self, result: NightResult, pairs: object = "?", ratings: object = "?") -> str:
        """What the owner is told of a night."""
        say = self._phrases.say
        stays = self._nights.active(result.mind)
        reasons = "; ".join(result.reasons)
        match result.state:
            case "published":
                return say("night_published", pairs=pairs, ratings=ratings, version=result.version)
            case "refused":
                return say("night_refused", version=stays, reasons=reasons)
            case "skipped":
                return say("night_few", have=result.have, need=self._settings.learner.min_records)
            case _:
                return say("night_failed", version=stays, reason=reasons)
