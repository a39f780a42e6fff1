"""Which records a night goes on with, when there are too many to begin anew with."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_samples import pair, rating, some_canaries, some_records, tiny_model

from learner.engine.fingerprint import fingerprint
from learner.frozen import Frozen, NightRequest
from learner.nightly import card
from learner.records import PreferenceRecords
from learner.training.continuing import portion
from learner.training.model import lora_config, snapshot, write
from learner.training.night import Night
from learner.training.recipe import Recipe

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*deprecated:FutureWarning")


def said(pairs: int, ratings: int) -> PreferenceRecords:
    return PreferenceRecords(
        pairs=tuple(map(pair, range(pairs))), ratings=tuple(rating(n, n % 2 == 0) for n in range(ratings)),
        ties=0, left_out={}, tied=(),
    )  # fmt: skip


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30), st.integers(1, 40), st.integers(1, 20))
def test_what_is_new_is_never_left_out(pairs: int, ratings: int, old: int, whole_until: int, size: int) -> None:
    records = said(pairs, ratings)
    learned = sorted(records.exchanges())[:old]
    found = portion(records, learned, whole_until, size, seed=1)
    new = records.exchanges() - set(learned)
    assert new <= found.records.exchanges()
    kept = len(found.records.pairs) + len(found.records.ratings)
    assert kept + found.rested == pairs + ratings
    if pairs + ratings <= whole_until:
        assert found.records is records
    elif found.continues:
        assert kept == max(size, 2 * len(new))
        assert found.inherited == frozenset(learned)


def test_without_a_champion_everything_is_learned_anew() -> None:
    assert not portion(said(20, 20), None, 10, 5, seed=1).continues


def test_older_records_come_in_their_proportions_and_others_each_night() -> None:
    records = said(90, 30)
    first, second = (portion(records, sorted(records.exchanges()), 10, 24, seed=seed).records for seed in (1, 2))
    for found in (first, second):
        assert Counter(one.desirable for one in found.ratings) == {True: 3, False: 3}
        assert len(found.pairs) == 18
    assert first.exchanges() != second.exchanges()
    assert portion(records, sorted(records.exchanges()), 10, 24, seed=1).records == first


def test_a_night_goes_on_from_the_champion_and_inherits_what_it_learned(tmp_path: Path) -> None:
    model, records = tiny_model(tmp_path / "model"), some_records()
    learned = sorted(records.exchanges())
    champion = a_champion(tmp_path / "0003", model, learned)
    recipe = Recipe(rank=4, alpha=8, whole_until=20, portion=16, drawn=0, replay=4)
    request = NightRequest(4, "default", str(model), str(tmp_path), recipe=recipe, champion=str(champion), device="cpu")
    fewer = dataclasses.replace(records, pairs=records.pairs[1:])  # one was taken back
    more = dataclasses.replace(fewer, pairs=(*fewer.pairs, *(pair(500 + n) for n in range(4))))
    frozen = Frozen(request, more, some_canaries())
    night = Night(frozen, str(tmp_path / "scratch"), lambda *_: None)
    assert night.practice.start is night.champion is not None
    assert len(night.examples.all) == 16
    outcome = night._refused({}, ())
    inherited = card(frozen, night, outcome)["records"]["exchanges"]
    assert set(inherited) == records.exchanges() | more.exchanges()  # what was taken back is in its weights still
    whole = dataclasses.replace(
        frozen, request=dataclasses.replace(request, recipe=dataclasses.replace(recipe, whole_until=99))
    )
    anew = Night(whole, str(tmp_path / "scratch"), lambda *_: None)
    assert anew.practice.start is None
    assert set(card(whole, anew, outcome)["records"]["exchanges"]) == more.exchanges()
    own = dataclasses.replace(frozen, request=dataclasses.replace(request, name="mum"))
    alone = Night(own, str(tmp_path / "scratch"), lambda *_: None)  # the champion is all chats', and stays it
    assert alone.champion is not None
    assert alone.practice.start is None
    assert set(card(own, alone, outcome)["records"]["exchanges"]) == more.exchanges()


def a_champion(folder: Path, model: Path, learned: list[str]) -> Path:
    """A LoRA of `model` whose card says what it learned from."""
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model)
    config = lora_config(base, 4, 8)
    write(folder, snapshot(get_peft_model(base, config)), config, str(model))
    shape = {"base": fingerprint(model), "rank": 4, "alpha": 8, "target_modules": sorted(config.target_modules)}
    told = {"version": folder.name, "mind": "default", "parent": None, "recipe": {}, "run": 3}
    card_row = {**shape, **told, "records": {"pairs": 30, "ratings": 10, "exchanges": learned}}
    (folder / "nightschool.json").write_text(json.dumps(card_row), "utf-8")
    return folder
