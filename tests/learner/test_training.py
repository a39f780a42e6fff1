"""Training: losses, plans, tokens, and that the same night gives the same weights."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from training_samples import pair, rating, some_canaries, some_records, tiny_model

from learner.engine.base import ChatMessage
from learner.frozen import Frozen, NightRequest
from learner.gate import GateSettings
from learner.training import canaries as checks
from learner.training import examples, losses, model, plan, preferences, replay, reward
from learner.training.canaries import Canary, Reply
from learner.training.evaluation import Judge, Sampled
from learner.training.examples import Example
from learner.training.ladder import Tried, climb
from learner.training.logprobs import branch_logps, grouped, packed
from learner.training.night import Night
from learner.training.preferences import Trained, reply_logps_of
from learner.training.recipe import Recipe
from learner.training.trace import Trace

# PEFT and TRL still use names that transformers 5 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*deprecated:FutureWarning")

QUICK = Recipe(learning_rates=(5e-3,), min_steps=6, epochs=1, rank=4, alpha=8, drawn=16, replay=32, replay_batch=8)
GATE = GateSettings(canaries=6, sampled_canaries=8, samples=8, max_tokens=8, min_judged=2)


# Losses


def test_pair_loss_is_dpo_and_bounds_the_margin_it_asks_for() -> None:
    zero = torch.zeros(1)
    assert losses.pair_loss(zero, zero, 0.1, 0.1).item() == pytest.approx(math.log(2))
    assert losses.pair_loss(torch.tensor([20.0]), zero, 0.1, 0.0).item() == pytest.approx(
        -math.log(1 / (1 + math.exp(-2)))
    )
    wanted = torch.tensor([math.log(9) / 0.1], requires_grad=True)
    losses.pair_loss(wanted, zero, 0.1, 0.1).sum().backward()
    assert wanted.grad is not None
    assert abs(wanted.grad.item()) < 1e-6


def test_rating_loss_pulls_both_ways_and_is_bounded() -> None:
    ratio = torch.tensor([3.0, 3.0, -300.0], requires_grad=True)
    desirable = torch.tensor([True, False, False])
    losses.rating_loss(ratio, desirable, 0.1).sum().backward()
    assert ratio.grad is not None
    up, down, done = ratio.grad.tolist()
    assert up < 0 < down
    assert done == pytest.approx(0.0, abs=1e-6)


def test_token_nll_is_per_token() -> None:
    assert losses.token_nll(torch.tensor([-4.0, -8.0]), torch.tensor([2, 4])).item() == pytest.approx(2.0)


# Plans


def some_examples(pairs: int, good: int, bad: int) -> list[Example]:
    kinds = ["pair"] * pairs + ["good"] * good + ["bad"] * bad
    return [Example(kind, (1, 2), ((3,), (4,)) if kind == "pair" else ((3,),), str(i)) for i, kind in enumerate(kinds)]


def test_a_plan_makes_enough_steps_and_spreads_every_kind() -> None:
    rows = some_examples(15, 4, 20)
    planned = plan.batches(rows, Recipe(min_steps=30, batch_size=8, micro_batch_size=8), seed=1)
    assert len(planned) == 30
    seen = [index for batch in planned for index in batch]
    assert set(seen) == set(range(len(rows)))
    counts = [sum(rows[index].kind == "pair" for index in batch) for batch in planned]
    assert max(counts) - min(counts) <= 1
    assert planned == plan.batches(rows, Recipe(min_steps=30, batch_size=8, micro_batch_size=8), seed=1)
    assert planned != plan.batches(rows, Recipe(min_steps=30, batch_size=8, micro_batch_size=8), seed=2)


def test_a_plan_stops_at_the_most_steps_and_splits_into_micro_batches() -> None:
    recipe = Recipe(min_steps=5, max_steps=7, epochs=3, batch_size=8, micro_batch_size=4)
    planned = plan.batches(some_examples(80, 0, 0), recipe, seed=0)
    assert len(planned) == 7 * plan.accumulation(recipe)
    assert {len(batch) for batch in planned} == {4}


# Ladder


@pytest.mark.parametrize(
    ("reach", "start", "pick", "rates"),
    [
        ({1: 1.0, 2: 1.0, 3: 1.0}, 2, (3, 1.0), [3]),
        ({1: 1.0, 2: 1.0, 3: 0.8}, 2, (3, 0.8), [3]),
        ({1: 1.0, 2: 1.0, 3: 0.4}, 2, (2, 1.0), [3, 2]),
        ({1: 1.0, 2: 0.4, 3: 0.4}, 2, (3, 0.4), [3, 2]),
        ({1: 0.2, 2: 0.4, 3: 0.2}, 2, (2, 0.4), [3, 2, 1]),
        ({1: 1.0, 2: 0.8, 3: 0.0}, 2, (2, 0.8), [3, 2]),
        ({1: 1.0, 2: 1.0, 3: 1.0}, 1, (2, 1.0), [2]),
        ({1: 0.0, 2: 0.0, 3: 0.0}, 2, (1, 0.2), [3, 2, 1]),
    ],
)
def test_the_strongest_that_holds_is_picked(
    reach: dict[int, float], start: int, pick: tuple[int, float], rates: list[int]
) -> None:
    trained: list[float] = []

    def train(rate: float) -> Trained:
        trained.append(rate)
        return Trained({}, rate, 1, 0.0)

    def try_share(one: Trained, share: float) -> Tried:
        return Tried(one, share, {}, checks.figures((), ()), share <= reach[int(one.learning_rate)])

    picked, seen = climb((1, 2, 3), (0.2, 0.4, 0.6, 0.8, 1.0), train, try_share, start)
    assert (picked.trained.learning_rate, picked.share) == pick
    assert trained == rates
    assert len(seen) <= 4 * len(rates)


def test_what_the_anchor_was_sure_of_is_held_and_the_rest_is_free() -> None:
    tokens = torch.tensor([[0, 1], [0, 1]])
    sure, open_ = torch.tensor([0.98, 0.02]).log(), torch.tensor([0.5, 0.5]).log()
    anchor = torch.stack((sure, open_))
    moved = torch.tensor([0.2, 0.8]).log()
    assert replay.divergence(anchor, tokens, anchor).item() == pytest.approx(0, abs=1e-5)
    assert replay.divergence(torch.stack((sure, moved)), tokens, anchor).item() == pytest.approx(0, abs=1e-5)
    assert replay.divergence(torch.stack((moved, open_)), tokens, anchor).item() > 1


def test_where_the_anchor_was_unsure_only_what_it_might_have_said_is_free() -> None:
    tokens = torch.tensor([[0, 1, 2]])
    anchor = torch.tensor([[0.5, 0.4999, 0.0001]]).log()
    decided = torch.tensor([[0.05, 0.9499, 0.0001]]).log()
    strayed = torch.tensor([[0.05, 0.05, 0.9]]).log()
    assert replay.divergence(decided, tokens, anchor).item() < 0.01
    assert replay.divergence(strayed, tokens, anchor).item() == pytest.approx(-math.log(0.1), rel=0.01)


def test_a_large_model_gets_a_gentle_ladder() -> None:
    assert max(Recipe().ladder(7_000_000_000)) < min(Recipe().ladder(3_000_000))
    assert Recipe(learning_rates=(3e-4, 1e-4)).ladder(1) == (1e-4, 3e-4)


def test_a_large_model_gets_longer_rows_unless_told_otherwise() -> None:
    assert Recipe().room(7_000_000_000) > Recipe().room(3_000_000)
    assert Recipe(max_tokens=99).room(1) == 99


# Canaries


@pytest.mark.parametrize(
    ("text", "language", "any_of", "ended", "expected"),
    [
        ("天空是蓝色的。", "zh", ("蓝",), True, True),
        ("The sky is Blue.", "en", ("blue",), True, True),
        ("The sky is blue.", "zh", ("blue",), True, False),
        ("天空是蓝色的。", "zh", ("绿",), True, False),
        ("天空是蓝色的。", "zh", ("蓝",), False, False),
        ("蓝色蓝色蓝色蓝色蓝色", "zh", ("蓝",), True, False),
        ("认识你真好，Anna。", "zh", (), True, True),
        ("", None, (), True, False),
    ],
)
def test_a_canary_is_checked_on_all_counts(
    text: str, language: str | None, any_of: tuple[str, ...], ended: bool, expected: bool
) -> None:
    canary = Canary((ChatMessage("user", "?"),), any_of, language)
    assert checks.right(canary, Reply(text, (1,), ended)) is expected


def test_a_sample_of_canaries_does_not_depend_on_their_order() -> None:
    some = some_canaries(50)
    assert checks.sample(some, 10) == checks.sample(reversed(some), 10)


# Tokens and the model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def night(tiny: Path) -> Night:
    return a_night(tiny)


def a_night(tiny: Path, **changes: object) -> Night:
    request = NightRequest(7, "default", str(tiny), "unused", recipe=QUICK, gate=GATE, device="cpu", threads=1, nice=0)
    frozen = Frozen(dataclasses.replace(request, **changes), some_records(), some_canaries())
    return Night(frozen, str(tiny / "scratch"), lambda *_: None)


def test_a_night_of_a_tiny_model_takes_one_thread_unless_told_otherwise(tiny: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        a_night(tiny, threads=2)
        told = torch.get_num_threads()
        torch.set_num_threads(3)
        a_night(tiny, threads=0)
        assert (told, torch.get_num_threads()) == (2, 1)
    finally:
        torch.set_num_threads(before)


def test_stored_tokens_are_used_as_they_are_and_texts_end_themselves(night: Night) -> None:
    stored = dataclasses.replace(pair(1), prompt_ids=(5, 6), chosen_ids=(7, 8, 9), rejected_ids=(10,))
    records = dataclasses.replace(some_records(0, 0), pairs=(stored,))
    [example] = examples.build(records, night.renderer, 100, folds=1).all
    assert (example.prompt, example.replies) == ((5, 6), ((7, 8, 9), (10,)))
    records = dataclasses.replace(records, pairs=(pair(1),))
    [example] = examples.build(records, night.renderer, 100, folds=1).all
    assert [reply[-1] for reply in example.replies] == [night.renderer.end] * 2
    assert night.renderer.text(example.replies[0]) == "yes, dear"


def test_a_private_number_is_neither_learned_nor_practised(tiny: Path) -> None:
    number = "13857294416"
    prompt = (ChatMessage("user", f"call me on {number}"),)
    repeating = dataclasses.replace(pair(501), prompt=prompt, prompt_ids=(), chosen=f"{number}, noted", chosen_ids=None)
    discreet = dataclasses.replace(pair(502), prompt=prompt, prompt_ids=())
    records = dataclasses.replace(some_records(), pairs=(*some_records().pairs, repeating, discreet))
    request = NightRequest(7, "default", str(tiny), "unused", recipe=QUICK, gate=GATE, device="cpu", threads=1, nice=0)
    kept = list[dict[str, Any]]()
    night = Night(Frozen(request, records, some_canaries()), str(tiny / "scratch"), lambda *_: None, Trace(kept.append))
    exchanges = {example.exchange for example in night.examples.all}
    assert discreet.provenance.exchange in exchanges
    assert repeating.provenance.exchange not in exchanges
    assert kept[-1]["learned"]["left_out"]["private_number"] == 1
    practised = [night.renderer.text(tokens) for tokens in night._free_prompts(1000)]
    assert practised
    assert not any(number in text for text in practised)


def test_replies_that_share_a_forward_pass_score_as_they_do_alone(night: Night) -> None:
    source = torch.Generator().manual_seed(3)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(0, 256, (count,), generator=source).tolist())

    rows = [(tokens(9), (tokens(4), tokens(7))), (tokens(1), (tokens(3),)), (tokens(20), (tokens(2), tokens(2)))]
    model.restore(night.model, {name: tensor + 0.03 for name, tensor in night.anchor.items()})
    together = branch_logps(night.model, packed(rows))
    for i, (prompt, replies) in enumerate(rows):
        for k, reply in enumerate(replies):
            with torch.no_grad():
                logits = night.model(torch.tensor([[*prompt, *reply]])).logits[0, len(prompt) - 1 : -1]
            alone = logits.log_softmax(-1).gather(1, torch.tensor(reply)[:, None]).sum()
            assert together[i, k].item() == pytest.approx(alone.item(), abs=1e-4)
    assert sorted(index for group in grouped(rows, 2) for index in group) == [0, 1, 2]


def test_both_replies_of_an_offer_that_was_called_bad_are_one_example(night: Night) -> None:
    first, second = rating(1, text="no"), rating(1, text="never")
    records = dataclasses.replace(some_records(0, 0), ratings=(first, second, rating(2)))
    built = examples.build(records, night.renderer, 100, folds=1).all
    assert [len(example.replies) for example in built] == [2, 1]


def test_long_prompts_lose_their_oldest_turns_and_are_counted(night: Night) -> None:
    turns = [ChatMessage("system", "be kind")]
    for number in range(30):
        turns += [ChatMessage("user", f"turn {number}"), ChatMessage("assistant", "well")]
    turns.append(ChatMessage("user", "the last"))
    long = dataclasses.replace(pair(1), prompt=tuple(turns), prompt_ids=night.renderer.prompt(turns))
    records = dataclasses.replace(some_records(0, 0), pairs=(long,))
    built = examples.build(records, night.renderer, 200, folds=1)
    [example] = built.all
    text = night.renderer.text(example.prompt)
    assert len(example.prompt) + max(map(len, example.replies)) <= 200
    assert "be kind" in text
    assert "the last" in text
    assert "turn 0" not in text
    assert built.cut["prompts"] == 1


def test_a_record_is_judged_by_a_reward_that_did_not_see_its_fold(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = night.examples.all
    fold = {one.exchange: one.fold for one in every}
    saw: list[set[int]] = []
    guess = reward.guess

    def watched(rows: list[reward.Comparison], *rest: object) -> reward.Reward:
        saw.append({fold[row.exchange] for row in rows})
        return guess(rows, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(reward, "guess", watched)
    margins = night.practice.unseen(every)
    folds = set(fold.values())
    assert len(folds) > 1
    assert saw == [folds - {one} for one in sorted(folds)]
    assert len(margins) == len(every)
    assert all(margin > 0 for margin, one in zip(margins, every, strict=True) if one.kind == "pair")


def test_nothing_is_trained_on_labels_that_mean_nothing(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training learns any labels by heart; those of records that a reward did not see are what counts."""

    def never(*_: object) -> Trained:
        raise AssertionError("trained on what would be refused whatever came of it")

    monkeypatch.setattr(preferences, "train", never)
    shuffled = tuple(
        dataclasses.replace(one, chosen=one.rejected, rejected=one.chosen) if number % 2 else one
        for number, one in enumerate(some_records().pairs)
    )
    request = NightRequest(7, "default", str(tiny), "unused", recipe=QUICK, gate=GATE, device="cpu", threads=1, nice=0)
    frozen = Frozen(request, dataclasses.replace(some_records(), pairs=shuffled, ratings=()), some_canaries())
    outcome = Night(frozen, str(tiny / "scratch"), lambda *_: None).judged()
    assert not outcome.published
    assert any("does not surely go with" in reason for reason in outcome.reasons)


def test_a_night_learns_what_was_chosen_and_keeps_fp32_weights(night: Night) -> None:
    outcome = night.judged()
    assert outcome.figures is not None
    assert outcome.figures.preference.gain > 0
    assert outcome.figures.preference.accuracy > 0.9
    assert {tensor.dtype for tensor in outcome.weights.values()} == {torch.float32}
    assert any(not torch.equal(outcome.weights[name], night.anchor[name]) for name in night.anchor)
    assert list(night.model.peft_config) == ["default"]


def test_a_night_walks_back_until_what_it_says_when_drawn_holds_as_well(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    night = a_night(tiny)
    heard, far = night.judge.sampled, list[float]()

    def babbling_from_afar(weights: model.Weights, draws: int | None = None) -> Sampled:
        far.append(max(float((weights[name] - night.anchor[name]).abs().max()) for name in weights))
        sampled = heard(weights, draws)
        fluent = dataclasses.replace(sampled.figures, content=1.0, language=1.0, ended=1.0, unrepeated=1.0)
        fluent = dataclasses.replace(fluent, content=0.5) if far[-1] > 0.7 * max(far) > 0 else fluent
        return dataclasses.replace(sampled, figures=fluent)

    monkeypatch.setattr(night.judge, "sampled", babbling_from_afar)
    outcome = night.judged()
    assert [one.share for one in outcome.tried if not one.holds and one.sampled] == [1.0, 0.85, 0.75]
    assert outcome.share == 0.7
    assert outcome.figures is not None
    assert outcome.figures.sampled.content == 1.0


@pytest.mark.parametrize(
    ("first", "apart", "asked"),
    [(8, 0.5, [8, 68, 68]), (6, 0.1, [6, 12, 14, 14]), (6, 0.01, [6, 12, 6])],
    ids=["drawn twice anyway", "drawn twice, then more", "drawn twice, and that is enough"],
)
def test_the_anchor_is_heard_until_chance_is_known(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, first: int, apart: float, asked: list[int]
) -> None:
    night = a_night(tiny)
    drawn, counted, seen = night.judge.drawn, checks.figures, list[int]()
    settings = dataclasses.replace(GATE, sampled_drop=0.2, sampled_canaries=first)
    night.judge = Judge(night.model, night.renderer, night.examples.all, night.frozen.canaries, settings, QUICK, 7)
    monkeypatch.setattr(night.judge, "drawn", lambda prompts: seen.append(len(prompts)) or drawn(prompts))
    monkeypatch.setattr(checks, "figures", lambda *rows: dataclasses.replace(counted(*rows), right=0.5))
    monkeypatch.setattr(checks, "apart", lambda _, replies, different: apart if len(replies) > different else None)
    anchor = night.judge.sampled_anchor(night.anchor)
    later = night.judge.sampled(night.anchor)
    lengths = len(anchor.pair_lengths)
    assert [count - lengths for count in seen] == asked
    assert (anchor.figures.count, later.figures.count) == (asked[-2], asked[-1])
    assert len(anchor.replies) == lengths + len(night.judge.canaries)


def test_the_same_records_seed_and_threads_give_the_same_bits(tiny: Path) -> None:
    first, second = (a_night(tiny).judged().weights for _ in range(2))
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = a_night(tiny, seed=1).judged().weights
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_the_anchor_is_the_reference_even_when_it_is_a_lora(night: Night) -> None:
    """TRL would take a copy of the starting LoRA, or the base: the margin at the start must be zero."""
    moved = {name: tensor + 0.01 for name, tensor in night.anchor.items()}
    model.restore(night.model, moved)
    reference = reply_logps_of(night.model, night.examples.all)
    model.restore(night.model, night.anchor)
    base = reply_logps_of(night.model, night.examples.all)
    assert reference[0] != base[0]
    model.restore(night.model, moved)
    assert reply_logps_of(night.model, night.examples.all) == reference


def test_peft_reads_what_is_written_and_agrees(night: Night, tiny: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    weights = {name: tensor + 0.02 for name, tensor in night.anchor.items()}
    model.write(tmp_path / "lora", weights, night.config, str(tiny))
    model.write(tmp_path / "twin", weights, night.config, str(tiny))
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "lora" / name).read_bytes() == (tmp_path / "twin" / name).read_bytes()
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny), tmp_path / "lora").eval()
    model.restore(night.model, weights)
    ids = torch.tensor([night.examples.all[0].prompt])
    with torch.no_grad():
        assert torch.allclose(loaded(ids).logits, night.model(ids).logits, atol=1e-5)


def test_too_few_records_are_a_refusal(tiny: Path) -> None:
    frozen = Frozen(
        NightRequest(1, "default", str(tiny), "unused", recipe=QUICK, device="cpu", threads=1),
        dataclasses.replace(some_records(0, 0), pairs=(pair(1),), ratings=(rating(1),)),
        (),
    )
    outcome = Night(frozen, str(tiny / "scratch"), lambda *_: None).judged()
    assert not outcome.published
    assert "only 2 records" in outcome.reasons[0]
