"""When the bot asks: as often as it is told to, about the pairs that would teach most, and never instead of a duel."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bots.arena import Arena, OfferRules
from bots.curiosity import FEWEST, KEPT, Curiosity, Question
from bots.voices import Voice
from learner import asking
from learner.engine.base import Candidate, CandidateSpec, EngineBusy, Sampling
from learner.engine.scripted import ScriptedEngine
from learner.store.rows import NewExchange, Place

HERE = Place("tester", "memory", "room")
NEW = NewExchange("e", "default", HERE, "ann", 1, (), (), 0.0)


class Reading(ScriptedEngine):
    """An engine that reads a reply as its one token."""

    async def reply_states(self, prompt_ids: Sequence[int], replies: Sequence[Sequence[int]]) -> list[list[float]]:
        return [[float(reply[0]), 0.0] for reply in replies]


class Failing(ScriptedEngine):
    async def reply_states(self, prompt_ids: Sequence[int], replies: Sequence[Sequence[int]]) -> list[list[float]]:
        raise EngineBusy("too much to do")


class NoOffers:
    words = 0

    def offers_since(self, place: Place, since: float) -> int:
        return 0

    def words_of(self, mind: str, teacher: str) -> int:
        return self.words


async def database(call: Any, *arguments: Any) -> Any:
    return call(*arguments)


def pair(first: int, second: int) -> list[Candidate]:
    return [Candidate(str(n), (n,), (0.0,), None, CandidateSpec(Sampling(), 0), "stop") for n in (first, second)]


def a_lora(folder: Path, name: str = "0001", likes: float = 0.0) -> Path:
    """A LoRA whose night found that people like replies of a large token, so much for each that it is larger."""
    made = folder / name
    made.mkdir()
    asking.known(np.zeros((1, 2)), np.zeros(1), np.array([likes, 0.0]), np.ones(2), 1.0).save(made)
    return made


def arena(rate: float, curiosity: Curiosity | None, challenger: str | None = None, words: int = 0) -> Arena:
    rules, store = OfferRules(rate, 1000, 60.0), NoOffers()
    store.words = words
    return Arena(rules, store, database, random.Random(1), lambda: challenger, curiosity)  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.6, 1.0])
async def test_offers_come_as_often_as_asked_for_and_differ_more(tmp_path: Path, rate: float) -> None:
    lora = a_lora(tmp_path)
    decides, rng = arena(rate, Curiosity(Reading(), lambda: lora)), random.Random(2)
    made, offered = [], []
    for _ in range(3000):
        asks = await decides.asks(HERE, 0.0, True)
        two = pair(rng.randrange(10**6), rng.randrange(10**6))
        if asks != "no":
            made.append(two)
        if asks == "yes" or (asks == "if it teaches" and await decides.question(NEW, two, None)):
            offered.append(two)
    assert len(offered) / 3000 == pytest.approx(rate, rel=0.2)
    if rate < 1:
        assert _apart(offered) > 1.2 * _apart(made)


def _apart(pairs: list[list[Candidate]]) -> float:
    return sum(abs(one.token_ids[0] - two.token_ids[0]) for one, two in pairs) / len(pairs)


@pytest.mark.parametrize("why", ["base", "unread", "duel", "streamed", "random"])
async def test_where_nothing_can_be_told_any_pair_is_asked_about(tmp_path: Path, why: str) -> None:
    lora = tmp_path / "none" if why == "unread" else a_lora(tmp_path)
    curiosity = Curiosity(Reading(), lambda: None if why == "base" else lora)
    decides = arena(0.5, None if why == "random" else curiosity, "0002" if why == "duel" else None)
    asks = [await decides.asks(HERE, 0.0, why != "streamed") for _ in range(2000)]
    assert set(asks) == {"no", "yes"}
    assert asks.count("yes") / 2000 == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("engine", [ScriptedEngine, Failing])
async def test_an_engine_that_cannot_tell_stops_no_offer(tmp_path: Path, engine: type[ScriptedEngine]) -> None:
    lora = a_lora(tmp_path)
    curiosity = Curiosity(engine(), lambda: lora)
    assert curiosity.ready
    assert await curiosity.question((), pair(1, 2), 0.3, seeded=True) == Question()


async def test_a_new_lora_is_read_and_old_pairs_are_forgotten(tmp_path: Path) -> None:
    folders = [a_lora(tmp_path)]
    curiosity = Curiosity(Reading(), lambda: folders[-1])
    assert curiosity.ready
    for _ in range(FEWEST):
        await curiosity.question((), pair(0, 100), 0.3)
    assert not await curiosity.question((), pair(0, 5), 0.3)
    folders.append(a_lora(tmp_path, "0002"))
    assert curiosity.ready
    told = [await curiosity.question((), pair(0, 5 - (n % 5)), 0.3) for n in range(FEWEST + 1)]
    assert told[-1]


@pytest.mark.parametrize(("teacher", "words", "share"), [("memory:new", 0, 1.0), ("memory:old", 10, 0), (None, 0, 0)])
async def test_who_is_new_is_asked_what_is_known(tmp_path: Path, teacher: str | None, words: int, share: float) -> None:
    lora = a_lora(tmp_path, likes=8e-6)
    decides, rng = arena(0.3, Curiosity(Reading(), lambda: lora), words=words), random.Random(3)
    made, asked = 0, []
    assert decides._curiosity is not None
    assert decides._curiosity.ready
    for _ in range(3000):
        two = pair(rng.randrange(10**6), rng.randrange(10**6))
        if (question := await decides.question(NEW, two, teacher)) is not None:
            asked.append((question.expected, two))
        made += 1
    assert len(asked) / made == pytest.approx(0.3, rel=0.25)
    known = [(side, two) for side, two in asked if side]
    assert len(known) / len(asked) == pytest.approx(share, abs=0.02)
    for side, two in known:
        larger = 1 if two[0].token_ids > two[1].token_ids else 2
        assert side == larger
        assert abs(two[0].token_ids[0] - two[1].token_ids[0]) > 2e5  # the surest of what was seen


async def test_what_nobody_can_be_sure_of_is_asked_without_an_answer(tmp_path: Path) -> None:
    lora = a_lora(tmp_path, likes=0.1)
    curiosity, rng = Curiosity(Reading(), lambda: lora), random.Random(4)
    assert curiosity.ready
    told = [await curiosity.question((), pair(rng.randrange(8), rng.randrange(8)), 0.3, seeded=True) for _ in range(99)]
    assert {one.expected for one in told if one} == {None}


@pytest.mark.parametrize("owns", [False, True])
async def test_a_known_answer_is_kept_with_the_offer_and_reaches_the_record(
    running: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owns: bool
) -> None:
    lora, engine = a_lora(tmp_path, likes=1.0), Reading()
    monkeypatch.setattr("bots.assembly.loras.active_folder", lambda *_: lora)
    async with running(engine=engine, ask_rate=0.9) as app:
        if owns:
            app.store.claim_owner("tester", "memory", "ann", 1.0)
        talk = app.adapters["tester", "memory"]
        for number in range(60):
            reply = (await talk.say("room", "ann", f"hello {number}"))[0]
            if reply.candidates:
                await talk.say("room", "ann", "1")
        known = [one for one in app.store.records("default").pairs if one.expected_side]
        assert all(one.chosen_side == 1 for one in known)
        for one in known:
            larger = one.chosen if one.chosen.encode() > one.rejected.encode() else one.rejected
            assert (one.chosen == larger) == (one.expected_side == 1)
        assert (0 < len(known) <= 10) is not owns


async def test_a_pair_that_is_not_asked_about_is_an_ordinary_reply(
    running: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora, engine = a_lora(tmp_path), Reading()
    monkeypatch.setattr("bots.assembly.loras.active_folder", lambda *_: lora)
    pairs = 0
    generate = engine.generate

    async def watched(request: Any, on_text: Any = None) -> Any:
        nonlocal pairs
        pairs += len(request.candidates) == 2
        return await generate(request, on_text)

    monkeypatch.setattr(engine, "generate", watched)
    async with running(engine=engine, ask_rate=0.3) as app:
        replies = [(await app.adapters["tester", "memory"].say("room", "ann", f"hello {n}"))[0] for n in range(80)]
        offers = [reply for reply in replies if reply.candidates]
        assert 0 < len(offers) < pairs
        for reply in replies:
            kept = app.store.exchange(reply.exchange).candidates
            assert len(kept) == (2 if reply.candidates else 1)
            assert reply.candidates or kept[0].text == reply.text


def test_a_chats_own_lora_is_asked_about_by_what_its_own_night_did_not_know(tmp_path: Path) -> None:
    common, bare = a_lora(tmp_path), tmp_path / "0099"
    bare.mkdir()
    every = Curiosity(ScriptedEngine(), lambda: common)
    assert every.about(None) is every is every.about(bare)
    own = [every.about(a_lora(tmp_path, f"{number:04d}")) for number in range(2, 2 + KEPT)]
    assert all(one.ready and one is not every for one in own)
    assert every.about(tmp_path / "0002") is own[0]
    every.about(a_lora(tmp_path, "0098"))
    assert every.about(tmp_path / "0002") is own[0]
    assert every.about(tmp_path / "0003") is not own[1]  # the least recently used went


async def test_an_own_reward_lets_through_what_it_does_not_know(tmp_path: Path) -> None:
    common, own = a_lora(tmp_path), a_lora(tmp_path, "0002")
    decides = arena(0.5, Curiosity(Reading(), lambda: common))
    voice = Voice("0002", own, duels=False)
    assert decides.speakers(True, voice) == ("0002", "0002")
    assert decides.speakers(False, voice) == ("0002",)
    asked = [await decides.asks(HERE, 0.0, True, voice) for _ in range(400)]
    assert 350 < asked.count("if it teaches") < 400 == len(asked)
    assert await decides.question(NEW, pair(1, 9), None, voice) is None  # the first of its own, though others were seen
    assert len(decides._curiosity.about(own)._worths) == 1  # type: ignore[union-attr]
    assert len(decides._curiosity._worths) == 0  # type: ignore[union-attr]
