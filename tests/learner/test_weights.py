"""Weights in training: alike they change nothing, to the bit; else heavier words and newer ones move more. And ties."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_samples import pair, provenance, some_canaries, some_records, tiny_model

from learner.frozen import PAIRS, REQUEST, TIES, Frozen, NightRequest, freeze, thaw
from learner.gate import GateSettings
from learner.records import PreferencePair, PreferenceRecords
from learner.training import evaluation, examples, losses, plan
from learner.training.examples import Example
from learner.training.night import Night
from learner.training.plan import KINDS
from learner.training.preferences import objective
from learner.training.recipe import Recipe

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*deprecated:FutureWarning")

QUICK = Recipe(learning_rates=(5e-3,), min_steps=4, epochs=0, rank=4, alpha=8, rounds=1, drawn=12, drawn_each=3)
GATE = GateSettings(canaries=6, sampled_canaries=8, samples=8, max_tokens=8, min_judged=2)


def step(*kinds: str, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """A step's log-probabilities, the anchor's, lengths and kinds."""
    source = torch.Generator().manual_seed(seed)
    logps, reference = (-20 * torch.rand(len(kinds), 2, generator=source) for _ in range(2))
    lengths = torch.tensor([[5, 7]] * len(kinds))
    return logps.requires_grad_(), reference, lengths, torch.tensor([KINDS.index(kind) for kind in kinds])  # type: ignore[arg-type]


def unweighted(
    logps: torch.Tensor, reference: torch.Tensor, lengths: torch.Tensor, kind: torch.Tensor, recipe: Recipe
) -> torch.Tensor:
    """The objective as it is without weights."""
    ratio, pairs = logps - reference, (kind == KINDS.index("pair")) | (kind == KINDS.index("drawn"))
    loss = ratio.sum() * 0.0
    smoothing = torch.zeros(len(kind))[pairs].clamp(min=recipe.label_smoothing)
    loss = loss + losses.pair_loss(ratio[pairs, 0], ratio[pairs, 1], recipe.beta, smoothing).mean()
    loss = loss + recipe.sft_weight * (-logps[pairs, 0].sum() / lengths[pairs, 0].sum().clamp(min=1))
    rated = (lengths > 0) & ~pairs[:, None]
    desirable = (kind == KINDS.index("good"))[:, None].expand_as(ratio)
    return loss + recipe.rating_weight * losses.rating_loss(ratio[rated], desirable[rated], recipe.beta).mean()


def said(*weights: float, kind: str = "pair") -> list[Example]:
    return [Example(kind, (1,), ((2,), (3,)), str(i), weight=weight) for i, weight in enumerate(weights)]  # type: ignore[arg-type]


@pytest.mark.parametrize("weight", [1.0, 0.3, 0.1])
@pytest.mark.parametrize("seed", range(5))
def test_weights_that_are_alike_change_no_bit(weight: float, seed: int) -> None:
    kinds = ("pair", "pair", "drawn", "good", "bad", "pair", "bad")
    given, recipe = step(*kinds, seed=seed), Recipe()
    alike = [replace(one, kind=kind, weight=weight) for one, kind in zip(said(*[1.0] * 7), kinds, strict=True)]  # type: ignore[arg-type]
    weights = torch.tensor(plan.relative_weights(alike))
    loss = objective(*given, torch.zeros(7), weights, recipe)
    plain = unweighted(*given, recipe)
    assert loss.item() == plain.item()
    [slope], [plain_slope] = torch.autograd.grad(loss, given[:1]), torch.autograd.grad(plain, given[:1])
    assert torch.equal(slope, plain_slope)


def test_a_heavier_word_moves_more() -> None:
    given = step("pair", "pair")
    alike = [tensor[:1].repeat(2, *[1] * (tensor.dim() - 1)).detach() for tensor in given]
    logps = alike[0].requires_grad_()
    weights = torch.tensor(plan.relative_weights(said(0.25, 0.75)))
    [slope] = torch.autograd.grad(objective(logps, *alike[1:], torch.zeros(2), weights, Recipe()), [logps])
    assert torch.allclose(slope[1], 3 * slope[0])


def test_weights_are_relative_to_what_else_is_of_their_sort() -> None:
    some = [*said(0.5, 1.5), *said(0.2, kind="good"), *said(1.0, kind="drawn"), *said(0.6, kind="bad")]
    assert plan.relative_weights(some) == pytest.approx([0.5, 1.5, 0.5, 1.0, 1.5])


def test_a_tie_pulls_the_two_together() -> None:
    first, second = torch.tensor([8.0, -3.0, 5.0]).requires_grad_(), torch.tensor([1.0, 4.0, 5.0]).requires_grad_()
    loss = losses.tie_loss(first, second, 0.1, 1.1)
    up, down = torch.autograd.grad(loss.sum(), [first, second])
    assert torch.allclose(up, -down)
    assert up[0] > 0 > up[1]
    assert up[2].abs() < 1e-6
    assert loss[2] < loss[1] < loss[0]


def test_a_tie_and_both_wins_are_all_that_can_happen() -> None:
    gap, alpha = torch.linspace(-30, 30, 13), 1.1
    tie = (-losses.tie_loss(gap, torch.zeros(13), 0.1, alpha)).exp()
    wins = torch.sigmoid(0.1 * gap - alpha) + torch.sigmoid(-0.1 * gap - alpha)
    assert torch.allclose(tie + wins, torch.ones(13), atol=1e-5)


def test_ties_have_their_place_in_the_objective_and_in_every_step() -> None:
    given = step("pair", "tie")
    with_tie, without = (
        objective(*given, torch.zeros(2), torch.ones(2), Recipe(tie_weight=weight)) for weight in (0.3, 0.0)
    )
    ratio = (given[0] - given[1])[1]
    assert (with_tie - without).item() == pytest.approx(
        0.3 * losses.tie_loss(ratio[:1], ratio[1:], 0.1, 1.1).item(), rel=1e-4
    )
    planned = plan.batches([*said(*[1.0] * 40), *said(*[1.0] * 5, kind="tie")], Recipe(min_steps=10), seed=0)
    assert {sum(index >= 40 for index in batch) for batch in planned} == {2}


def test_ties_are_no_evidence() -> None:
    every = [*said(1.0, 1.0), *said(1.0, kind="tie")]
    figures = evaluation.preference(every, [1.0, 1.0, -9.0], 0.3)
    assert (figures.count, figures.pairs, figures.accuracy) == (2, 2, 1.0)
    doubted = evaluation.preference([*said(1.0, 0.1)], [1.0, -1.0], 0.3)
    assert doubted.gain > evaluation.preference(said(1.0, 1.0), [1.0, -1.0], 0.3).gain


def test_what_somebody_says_anyway_is_no_evidence() -> None:
    always = [replace(one, teacher="kind") for one in said(1.0, 1.0, kind="good")]
    half = [replace(one, teacher="fair", kind=kind) for kind in ("good", "bad") for one in said(1.0, kind="good")]
    assert evaluation.preference(always, [1.0, 1.0], 1.0).evidence == 0
    assert evaluation.preference(half, [1.0, 1.0], 1.0).evidence == 0.5
    assert evaluation.preference([*always, *half], [1.0] * 4, 1.0).evidence == 0.25


# Freezing


def by(teacher: str, number: int, better: bool = True, side: int = 1) -> PreferencePair:
    texts = ("yes, dear", "no") if better else ("no", "yes, dear")
    return replace(pair(number, *texts), provenance=replace(provenance(number), teacher=teacher), chosen_side=side)  # type: ignore[arg-type]


def request(folder: Path, **changes: object) -> NightRequest:
    night = NightRequest(7, "default", str(folder), "x", recipe=QUICK, gate=GATE, device="cpu", threads=1, nice=0)
    return replace(night, **changes)  # type: ignore[arg-type]


def test_sides_ties_and_owners_are_frozen_and_older_runs_are_read(tmp_path: Path) -> None:
    tied = replace(pair(9), source="tie")
    known = replace(by("web:ann", 1, side=2), expected_side=1)
    records = PreferenceRecords((known,), (), 1, {}, (tied,))
    folder = freeze(tmp_path / "0007", request(tmp_path, owners=("web:ann",)), records, some_canaries())
    assert thaw(folder).records == records
    assert thaw(folder).request.owners == ("web:ann",)
    (folder / TIES).unlink()
    row = json.loads((folder / PAIRS).read_text("utf-8"))
    del row["chosen_side"], row["expected_side"]
    (folder / PAIRS).write_text(json.dumps(row) + "\n", "utf-8")
    asked = json.loads((folder / REQUEST).read_text("utf-8"))
    del asked["owners"], asked["recipe"]["tie_weight"], asked["gate"]["without_one"]
    (folder / REQUEST).write_text(json.dumps(asked), "utf-8")
    old = thaw(folder)
    assert (old.records.pairs[0].chosen_side, old.records.tied, old.request.owners) == (None, (), ())


# Nights


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


def a_night(tiny: Path, records: PreferenceRecords, **changes: object) -> Night:
    return Night(Frozen(request(tiny, **changes), records, some_canaries()), str(tiny / "scratch"), lambda *_: None)


def some_people(honest: int = 3, each: int = 12) -> PreferenceRecords:
    good = [by(f"web:h{k}", 100 * k + n, side=1 + n % 2) for k in range(honest) for n in range(each)]
    bad = [by("web:mallory", 900 + n, better=False, side=1 + n % 2) for n in range(each)]
    tied = replace(by("web:h0", 990), source="tie", chosen_side=None)
    return PreferenceRecords((*good, *bad), (), 1, {}, (tied,))


def test_a_night_leaves_out_who_contradicts_everybody_and_says_so(tiny: Path) -> None:
    night = a_night(tiny, some_people())
    outcome = night.judged()
    verdict = json.loads(json.dumps(outcome.verdict()))
    people = {one["teacher"]: one for one in verdict["teachers"]}
    assert (people["web:mallory"]["state"], people["web:mallory"]["weight"]) == ("contradicts", 0.0)
    assert all(people[f"web:h{k}"]["weight"] > 0.5 for k in range(3))
    assert {one.teacher for one in night.examples.all} == {"web:h0", "web:h1", "web:h2"}
    assert (verdict["records"]["distrusted"], verdict["records"]["tied"]) == (12, 1)
    assert outcome.figures is not None
    assert (outcome.figures.preference.count, outcome.figures.preference.accuracy) == (36, 1.0)
    assert not any("hangs on" in reason for reason in outcome.reasons)


@pytest.mark.parametrize(("rightly", "state"), [(True, "trusted"), (False, "contradicts")])
def test_who_is_new_is_believed_by_what_was_known_before_they_were_asked(tiny: Path, rightly: bool, state: str) -> None:
    new = []
    for number in range(4):
        taken = 1 + number % 2
        said = by("web:new", 800 + number, better=rightly, side=taken)
        new.append(replace(said, expected_side=taken if rightly else 3 - taken))
    people = some_people()
    frozen = freeze(tiny / f"new{rightly}", request(tiny), replace(people, pairs=(*people.pairs, *new)), [])
    trusted, _ = a_night(tiny, thaw(frozen).records)._weigh()
    [found] = [one for one in trusted if one.teacher == "web:new"]
    assert (found.state, found.rightly, found.seeded) == (state, 4 * rightly, 4)


def test_two_who_contradict_each_other_teach_nothing_unless_one_owns(tiny: Path) -> None:
    records = dataclasses.replace(some_people(1), tied=())
    outcome = a_night(tiny, records).judged()
    assert outcome.figures is None
    assert "contradict" in outcome.reasons[0]
    owned = a_night(tiny, records, owners=("web:h0",))
    trusted, left_out = owned._weigh()
    assert left_out == 12
    assert {one.teacher: one.weight for one in trusted} == {"web:h0": 1.0, "web:mallory": 0.0}


def test_the_same_records_give_the_same_weights_in_every_night(tiny: Path) -> None:
    first, second = (a_night(tiny, some_people(2), seed=seed) for seed in (3, 4))
    assert first._weigh() == second._weigh()
    assert first.examples == second.examples


def test_one_teacher_alone_changes_nothing(tiny: Path) -> None:
    night = a_night(tiny, some_records())
    before, judge = night.examples, night.judge
    [alone], left_out = night._weigh()
    assert (alone.weight, alone.noise, left_out) == (1.0, 0.0, 0)
    assert night.examples is before
    assert night.judge is judge


def test_with_a_half_life_older_records_count_less(tiny: Path) -> None:
    days = [replace(pair(n), provenance=replace(provenance(n), created_at=86400.0 * n)) for n in (0, 10, 20)]
    records, night = replace(some_records(0, 0), pairs=tuple(days)), a_night(tiny, some_records(2, 0))
    built = examples.build(records, night.renderer, 100, folds=1, half_life=10).all
    assert [one.weight for one in built] == [0.25, 0.5, 1.0]
    assert [one.weight for one in examples.build(records, night.renderer, 100, folds=1).all] == [1.0] * 3
