"""Tells each bot's owners once, in plain words, how a night ended, and how a challenger's duels did.

Knows nothing of how nights run, nor of any platform.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from bots import personal
from bots.database import Database
from bots.outbox import Outbox
from bots.phrases import Phrases, phrases
from bots.probation import Standing
from bots.settings import Settings
from learner.report.model import stood
from learner.report.wording import reason_of
from learner.scopes import BASE, COMMON, Scope
from learner.store.rows import Place, RunRow
from learner.store.store import Store

FRESH = 24 * 3600.0  # after that long a night is no news
NIGHT_ENDS, NIGHT_BEGINS = 12, 20  # o'clock: a lesson in between was asked for by day
TOLD_STATES = ("published", "refused", "failed")

Places = Callable[[str], Awaitable[Sequence[Place]]]  # a bot's owners' private chats


class Morning:
    """Tells of the nights of every mind. A night has one message for each chat, whose id is derived from both."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        database: Database,
        outbox: Outbox,
        places: Places,
        active: Callable[[str], str],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._store = store
        self._database = database
        self._outbox = outbox
        self._places = places
        self._active = active
        self._clock = clock

    async def tell(self, scope: str, number: int) -> None:
        """Tell of night `number`, unless its owners know already."""
        mind = Scope.read(scope).mind
        run = await self._database(self._store.run, number)
        if run is None or run.state not in TOLD_STATES:
            return
        words = sentence(run, self._active(scope), phrases(self._settings.language))
        for place in await self.places(mind):
            await self._outbox.post(mind, place, words, _message_id(f"night {number}", place))

    async def tell_of_duels(self, mind: str, ended: Standing) -> None:
        """Tell who speaks after duels that were decided."""
        version, active = ended.challenger.version, self._active(mind)
        say = phrases(self._settings.language).say
        told = {**ended.values(), "version": version, "speaks": say("morning_base") if active == BASE else active}
        words = say("morning_won" if active == version else "morning_lost", **told)
        for place in await self.places(mind):
            await self._outbox.post(mind, place, words, _message_id(f"duels {version}", place))

    async def catch_up(self, mind: str) -> None:
        """After a start: tell of the newest nights, if they ended lately and nobody could be told then."""
        for scope in personal.scopes_of(self._settings, mind):
            runs = await self._database(self._store.runs, scope, 5)
            ended = next((run for run in runs if run.finished_at is not None), None)
            if ended is not None and self._clock() - (ended.finished_at or 0.0) < FRESH:
                await self.tell(scope, ended.number)

    async def places(self, mind: str) -> list[Place]:
        """The chats that are told of the nights of `mind`; none when config.toml says so."""
        if not self._settings.learner.tell_owner:
            return []
        bots = [bot.name for bot in self._settings.bots if bot.mind == mind]
        return [place for bot in bots for place in await self._places(bot)]


def _message_id(event: str, place: Place) -> str:
    """The same whenever the event is told of there, and of the form that all replies' ids have."""
    return uuid.uuid5(uuid.NAMESPACE_OID, "\0".join((event, place.bot, place.platform, place.chat))).hex


def sentence(run: RunRow, speaks: str, words: Phrases) -> str:
    """What an owner is told of a night that ended."""
    return whose(run.mind, _sentence(run, speaks, words), words)


def whose(scope: str, told: str, words: Phrases) -> str:
    """What is told of a night, with the name of the chats whose own it was."""
    name = Scope.read(scope).name
    return told if name is None else words.say("of_chats", name=name, told=told)


def _sentence(run: RunRow, speaks: str, words: Phrases) -> str:
    say = words.say
    hour = time.localtime(run.started_at).tm_hour
    when = say("morning_by_day" if NIGHT_ENDS <= hour < NIGHT_BEGINS else "morning_last_night")
    version = say(f"morning_{speaks}") if speaks in (BASE, COMMON) else speaks
    told = {"when": when, "number": f"{run.number:04d}", "version": version}
    if run.state == "failed":
        return say("morning_failed", **told)
    records = run.verdict.get("records") or {}
    learned = [_counted(words, name, records.get(name, 0)) for name in ("pairs", "ratings")]
    told["learned"] = say("morning_and").join(learned)
    if "challenges" in run.verdict:
        return say("morning_challenges", **{**told, "version": told["number"], "champion": run.verdict["challenges"]})
    if run.state == "published" and "exported" in run.verdict:
        return say("morning_exported", **{**told, "version": told["number"]})
    if run.state == "published":
        return say("morning_published", **{**told, "version": told["number"]})
    return say("morning_refused", why=_why(run, words), **told)


def _why(run: RunRow, words: Phrases) -> str:
    """Every figure that did not hold, in plain words; what is no figure of the gate is only hinted at."""
    plain, others = reasons_in_words(run.verdict, words)
    if others or not plain:
        plain.append(words.say("morning_other", number=f"{run.number:04d}"))
    return words.say("morning_and").join(plain)


def reasons_in_words(verdict: Mapping[str, Any], words: Phrases) -> tuple[list[str], list[str]]:
    """Why a night was refused: the gate's figures in plain words, and what is no figure of the gate as it is."""
    plain = [reason_of(one, words.say) for one in stood(verdict) if not one.held]
    return plain, list(verdict.get("reasons", ()))[len(plain) :]


def _counted(words: Phrases, name: str, count: int) -> str:
    return words.say(f"morning_{name}_one" if count == 1 else f"morning_{name}", count=count)
