"""Practice: what is drawn, in which order, and from which weights each round goes on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from training_samples import some_canaries, some_records, tiny_model

from learner.frozen import Frozen, NightRequest
from learner.gate import GateSettings
from learner.training import preferences
from learner.training.model import Weights, restore
from learner.training.night import Night
from learner.training.preferences import Trained, reply_logps_of
from learner.training.recipe import Recipe
from learner.training.reward import features

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*deprecated:FutureWarning")

QUICK = Recipe(learning_rates=(5e-3,), min_steps=4, epochs=0, rank=4, alpha=8, rounds=2, drawn=12, drawn_each=3)
GATE = GateSettings(canaries=6, sampled_canaries=8, samples=8, max_tokens=8, min_judged=2)


class Watch:
    """What each training was given, and what it gave."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.given: list[list[Any]] = []
        self.starts: list[Weights] = []
        self.gave: list[Weights] = []
        self._train = preferences.train
        monkeypatch.setattr(preferences, "train", self.train)

    def train(self, model: Any, tokenizer: Any, examples: Any, reference: Any, start: Weights, *rest: Any) -> Trained:
        trained = self._train(model, tokenizer, examples, reference, start, *rest)
        self.given.append(list(examples))
        self.starts.append(start)
        self.gave.append(trained.weights)
        return trained


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


def a_night(folder: Path, swapped: bool = False, recipe: Recipe = QUICK) -> Night:
    """`swapped`: every choice was made once so and once the other way round."""
    records = dataclasses.replace(some_records(), ratings=())
    if swapped:
        turned = [
            dataclasses.replace(
                one, chosen=one.rejected, rejected=one.chosen, provenance=some_records(60).pairs[30 + number].provenance
            )
            for number, one in enumerate(records.pairs)
        ]
        records = dataclasses.replace(records, pairs=(*records.pairs, *turned))
    request = NightRequest(7, "default", str(folder), "x", recipe=recipe, gate=GATE, device="cpu", threads=1, nice=0)
    return Night(Frozen(request, records, some_canaries()), str(folder / "scratch"), lambda *_: None)


def practised(night: Night, told: list[float]) -> Trained:
    examples = night.examples.all
    reference = reply_logps_of(night.model, examples)
    return night.practice.train(examples, reference, night.request.recipe, 5e-3, told.append)


def test_each_round_goes_on_from_the_last_and_draws_anew(tmp_path: Path, watch: Watch) -> None:
    night, told = a_night(tiny_model(tmp_path)), list[float]()
    trained = practised(night, told)
    assert watch.starts == [night.anchor, watch.gave[0]]
    assert trained.weights is watch.gave[1]
    assert trained.steps == QUICK.min_steps
    assert told == sorted(told)
    assert told[-1] == 1.0
    first, second = ([one for one in given if one.kind == "drawn"] for given in watch.given)
    assert first
    assert first != second


def test_drawn_pairs_are_ordered_by_the_reward_and_say_how_sure_it_is(tmp_path: Path, watch: Watch) -> None:
    night = a_night(tiny_model(tmp_path))
    practised(night, [])
    known = night.practice.reward(night.examples.all)
    assert known is not None
    restore(night.model, night.anchor)
    for given in watch.given:
        drawn = [one for one in given if one.kind == "drawn"]
        for one, [best, worst] in zip(drawn, map(known.scores, features(night.model, rows(drawn))), strict=True):
            assert best >= worst
            assert one.doubt == pytest.approx(float(torch.sigmoid(worst - best)), abs=1e-6)


def rows(examples: list[Any]) -> list[Any]:
    return [(one.prompt, one.replies) for one in examples]


def test_records_that_contradict_one_another_are_trained_on_alone(tmp_path: Path, watch: Watch) -> None:
    night = a_night(tiny_model(tmp_path), swapped=True)
    practised(night, [])
    [given] = watch.given
    assert {one.kind for one in given} == {"pair"}


def test_without_prompts_to_draw_to_there_is_no_practice(tmp_path: Path, watch: Watch) -> None:
    night = a_night(tiny_model(tmp_path), recipe=dataclasses.replace(QUICK, drawn=0))
    practised(night, [])
    assert [{one.kind for one in given} for given in watch.given] == [{"pair"}]
