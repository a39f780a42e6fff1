"""In whatever order offers, answers, ratings, messages, clicks, waits and restarts come, feedback lands where
the feedback table says, and nowhere else. The table is written down a second time here, as a model."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.base import Reply
from bots.app import App
from learner.engine.base import CandidateSpec, ChatMessage
from learner.engine.scripted import ScriptedEngine
from learner.records import Feedback
from learner.store.rows import Place
from learner.store.store import Store
from tests.conftest import settings_for

HOUR = 3600.0
WORDS = ("hi there", "1", "２", "都不好", "tie", "不错", "👎", "改：mine", "/undo", "/help")
VERDICTS = ("1", "2", "both_bad", "tie", "good", "bad", "correction", "retract")
PEOPLE = ("p", "q")
CHOICES = {"1": "1", "２": "2", "都不好": "both_bad", "tie": "tie", "不错": "tie", "👎": "both_bad"}
RATINGS = {"不错": "good", "👎": "bad"}

actions = st.one_of(
    st.tuples(st.just("say"), st.sampled_from(PEOPLE), st.sampled_from(WORDS)),
    st.tuples(st.just("say"), st.sampled_from(PEOPLE), st.just("hi there")),
    st.tuples(st.just("press"), st.sampled_from(PEOPLE), st.integers(0, 3), st.sampled_from(VERDICTS)),
    st.tuples(st.just("wait"), st.sampled_from((5.0, HOUR + 1))),
    st.tuples(st.just("restart")),
)


@dataclass
class Shown:
    """An exchange as the model sees it."""

    id: str
    person: str
    texts: tuple[str, ...]
    expires: float
    state: str  # none, open, closed, chosen
    kept: int | None


@dataclass
class Model:
    """What should be stored after each step, by the table."""

    shown: list[Shown] = field(default_factory=list)
    given: dict[tuple[str, str], tuple[str, str, str]] = field(default_factory=dict)

    def answered(self, person: str, reply: Reply, now: float) -> None:
        for one in self.shown:
            if one.person == person and one.state == "open":
                one.state = "closed"
        two = reply.candidates
        texts = two or (reply.text,)
        kept = None if two else 1
        self.shown.append(Shown(reply.exchange or "", person, texts, now + HOUR, "open" if two else "none", kept))

    def expected(self, person: str, words: str, now: float) -> tuple[Shown, tuple[str, str, str]] | None:
        """The exchange and the feedback that `words` are, None for ordinary words."""
        mine = [one for one in self.shown if one.person == person]
        if mine and mine[-1].state == "open" and now < mine[-1].expires:
            if words in CHOICES:
                return mine[-1], ("choice", CHOICES[words], "")
            return (mine[-1], ("correction", "", "mine")) if words.startswith("改") else None
        last = self.shown[-1] if self.shown else None
        if last is None:
            return None
        if words in RATINGS and last.kept is not None:
            return last, ("rating", RATINGS[words], "")
        own = last.state == "none" or last.person == person
        return (last, ("correction", "", "mine")) if words.startswith("改") and own else None

    def give(self, one: Shown, person: str, feedback: tuple[str, str, str], now: float) -> None:
        offered = one.state != "none"
        if offered and one.state != "chosen" and now >= one.expires:
            return
        self.given.pop((one.id, person), None)
        self.given[one.id, person] = feedback
        if offered and feedback[0] != "rating":
            one.state = "chosen"
            one.kept = int(feedback[1]) if feedback[1] in ("1", "2") else None

    def press(self, one: Shown, person: str, verdict: str, now: float) -> None:
        offered = one.state != "none"
        if offered and one.person != person:
            return
        if verdict == "retract":
            return self.take_back(one, person, now)
        if verdict == "correction":
            return self.give(one, person, ("correction", "", "mine"), now)
        if verdict in ("good", "bad") and one.kept is not None:
            return self.give(one, person, ("rating", verdict, ""), now)
        if offered:
            value = {"good": "tie", "bad": "both_bad"}.get(verdict, verdict)
            self.give(one, person, ("choice", value, ""), now)
        return None

    def undo(self, person: str, now: float) -> None:
        for exchange, teacher in reversed(self.given):
            if teacher == person:
                one = next(one for one in self.shown if one.id == exchange)
                return self.take_back(one, person, now)

    def take_back(self, one: Shown, person: str, now: float) -> None:
        self.given.pop((one.id, person), None)
        if one.state == "none":
            return
        one.kept = None
        if one.state == "chosen":
            latest = [other for other in self.shown if other.person == one.person][-1]
            one.state = "open" if latest is one and now < one.expires else "closed"


class Trial:
    """One run of actions against a real app and the model."""

    def __init__(self, folder: Path, template: Path) -> None:
        self.now = 1_700_000_000.0
        self.model = Model()
        self.folder = folder
        self.numbers, self.ids = count(1), count(1)
        (folder / "data").mkdir()
        shutil.copy(template, folder / "data" / "nightschool.db")

    def clock(self) -> float:
        self.now += 0.001
        return self.now

    async def start(self) -> None:
        def script(messages: Sequence[ChatMessage], spec: CandidateSpec) -> str:
            return f"reply {next(self.numbers)}."

        engine = ScriptedEngine(script)
        chosen = settings_for(self.folder / "data", ask_rate=0.6)
        self.app = App(chosen, engines={"default": engine}, clock=self.clock, seed=next(self.ids))
        await self.app.start()
        self.platform: Any = self.app.adapters["tester", "memory"]

    async def step(self, action: tuple[Any, ...]) -> None:
        match action:
            case ("say", person, words):
                await self.say(person, words)
            case ("press", person, back, verdict) if back < len(self.model.shown):
                await self.press(person, self.model.shown[-1 - back], verdict)
            case ("wait", seconds):
                self.now += seconds
            case ("restart",):
                await self.app.stop()
                await self.start()

    async def say(self, person: str, words: str) -> None:
        now = self.now
        expected = None if words.startswith("/") else self.model.expected(person, words, now)
        (reply,) = await self.platform.say("c", person, words, id=f"i{next(self.ids)}")
        if words == "/undo":
            self.model.undo(person, now)
        elif expected is not None:
            assert reply.exchange is None, f"{words!r} should have been feedback"
            self.model.give(expected[0], person, expected[1], now)
        elif not words.startswith("/"):
            assert reply.exchange is not None, f"{words!r} should have been answered"
            self.model.answered(person, reply, self.now)

    async def press(self, person: str, one: Shown, verdict: str) -> None:
        now, words = self.now, "mine" if verdict == "correction" else ""
        await self.platform.press("c", person, one.id, verdict, correction=words, id=f"i{next(self.ids)}")
        self.model.press(one, person, verdict, now)

    async def check(self) -> None:
        standing: dict[tuple[str, str], Feedback] = {}
        for one in await self.app.database(self.app.store.feedback, "default"):
            standing[one.exchange, one.teacher.removeprefix("memory:")] = one
        stored = {key: (one.kind, one.value, one.correction) for key, one in standing.items() if one.kind != "retract"}
        assert stored == self.model.given
        await self.check_records()

    async def check_records(self) -> None:
        """Every record speaks of texts that were shown in the exchange that it names."""
        texts = {one.id: one.texts for one in self.model.shown}
        records = await self.app.database(self.app.store.records, "default")
        for pair in records.pairs:
            shown = texts[pair.provenance.exchange]
            assert pair.rejected in shown
            assert pair.chosen in shown or (pair.source == "correction" and pair.chosen == "mine")
        for rating in records.ratings:
            assert rating.completion in texts[rating.provenance.exchange]

    async def run(self, steps: list[tuple[Any, ...]]) -> None:
        await self.start()
        try:
            for action in steps:
                await self.step(action)
                await self.check()
            turns = await self.app.database(self.app.store.history, Place("tester", "memory", "c"), 1000)
            assert [turn.role for turn in turns] == ["user", "assistant"] * len(self.model.shown)
        finally:
            await self.app.stop()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "nightschool.db"
    Store(f"sqlite:///{path}").close()
    return path


@pytest.mark.timeout(400)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(actions, min_size=4, max_size=20))
def test_feedback_lands_where_the_table_says(template: Path, steps: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(Trial(Path(folder), template).run(steps))
