"""When the bot asks: as often as it is told to, about the pairs that would teach most, and never instead of a duel."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bots.arena import Arena, OfferRules
from bots.curiosity import FEWEST, KEPT, Curiosity
from bots.voices import Voice
from learner import asking
from learner.engine.base import Candidate, CandidateSpec, EngineBusy, Sampling
from learner.engine.scripted import ScriptedEngine
from learner.store.rows import Place

HERE = Place("tester", "memory", "room")


class Reading(ScriptedEngine):
    """An engine that reads a reply as its one token."""

    async def reply_states(self, prompt_ids: Sequence[int], replies: Sequence[Sequence[int]]) -> list[list[float]]:
        return [[float(reply[0]), 0.0] for reply in replies]


class Failing(ScriptedEngine):
    async def reply_states(self, prompt_ids: Sequence[int], replies: Sequence[Sequence[int]]) -> list[list[float]]:
        raise EngineBusy("too much to do")


class NoOffers:
    def offers_since(self, place: Place, since: float) -> int:
        return 0


async def database(call: Any, *arguments: Any) -> Any:
    return call(*arguments)


def pair(first: int, second: int) -> list[Candidate]:
    return [Candidate(str(n), (n,), (0.0,), None, CandidateSpec(Sampling(), 0), "stop") for n in (first, second)]


def a_lora(folder: Path, name: str = "0001") -> Path:
    made = folder / name
    made.mkdir()
    asking.known(np.zeros((1, 2)), np.zeros(1), np.zeros(2), np.ones(2), 1.0).save(made)
    return made


def arena(rate: float, curiosity: Curiosity | None, challenger: str | None = None) -> Arena:
    rules = OfferRules(rate, 1000, 60.0)
    return Arena(rules, NoOffers(), database, random.Random(1), lambda: challenger, curiosity)  # type: ignore[arg-type]


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
        if asks == "yes" or (asks == "if it teaches" and await decides.teaches((), two)):
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
    assert await curiosity.stands_out((), pair(1, 2), 0.3)


async def test_a_new_lora_is_read_and_old_pairs_are_forgotten(tmp_path: Path) -> None:
    folders = [a_lora(tmp_path)]
    curiosity = Curiosity(Reading(), lambda: folders[-1])
    assert curiosity.ready
    for _ in range(FEWEST):
        await curiosity.stands_out((), pair(0, 100), 0.3)
    assert not await curiosity.stands_out((), pair(0, 5), 0.3)
    folders.append(a_lora(tmp_path, "0002"))
    assert curiosity.ready
    told = [await curiosity.stands_out((), pair(0, 5 - (n % 5)), 0.3) for n in range(FEWEST + 1)]
    assert told[-1]


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
    assert await decides.teaches((), pair(1, 9), voice) is False  # the first of its own, though others were seen
    assert len(decides._curiosity.about(own)._worths) == 1  # type: ignore[union-attr]
    assert len(decides._curiosity._worths) == 0  # type: ignore[union-attr]
