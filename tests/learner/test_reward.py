"""The reward: it learns a taste from few comparisons, and knows when there is none."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from training_samples import tiny_model
from transformers import (
    AutoModelForCausalLM,
    GPTJConfig,
    GPTJForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from learner.training import plan, reward
from learner.training.examples import Example
from learner.training.logprobs import hidden_states, packed
from learner.training.recipe import Recipe
from learner.training.reward import Comparison, Scale

SIZE = 24


def comparisons(count: int, rightly: float, seed: int = 0, rated: int = 0) -> list[Comparison]:
    """Of two random replies the one that is larger in the first feature is liked, `rightly` so often."""
    source, odds = torch.Generator().manual_seed(seed), random.Random(seed)
    found = []
    for number in range(count + rated):
        difference = torch.randn(SIZE, generator=source, dtype=torch.float64) / SIZE**0.5
        likes_more = (difference[0] > 0) == (odds.random() < rightly)
        if number < count:
            found.append(Comparison(difference if likes_more else -difference, True, False, str(number)))
        else:
            found.append(Comparison(difference, bool(likes_more), True, str(number)))
    return found


def scale() -> Scale:
    return Scale(torch.zeros(SIZE, dtype=torch.float64), torch.ones(SIZE, dtype=torch.float64))


def told_rightly(known: reward.Reward) -> float:
    """The share of fresh comparisons that the reward orders as people do."""
    fresh = comparisons(500, 1.0, seed=99)
    return sum(float(one.difference @ known.direction) > 0 for one in fresh) / len(fresh)


def test_forty_choices_show_a_taste() -> None:
    known = reward.fit(comparisons(40, 1.0), scale(), seed=0)
    assert known is not None
    assert known.gain > 0.1
    assert told_rightly(known) > 0.75


def test_ratings_alone_show_it_too() -> None:
    known = reward.fit(comparisons(0, 1.0, rated=80), scale(), seed=0)
    assert known is not None
    assert told_rightly(known) > 0.85


def test_what_contradicts_itself_shows_none() -> None:
    nothing = [reward.fit(comparisons(40, 0.5, seed), scale(), seed) for seed in range(12)]
    assert sum(known is None for known in nothing) >= 9
    assert all(known.gain < 0.1 for known in nothing if known)


def test_noise_makes_it_less_sure_but_not_blind() -> None:
    sure, unsure = (reward.fit(comparisons(120, rightly), scale(), seed=0) for rightly in (1.0, 0.8))
    assert sure is not None
    assert unsure is not None
    assert unsure.gain < sure.gain
    assert unsure.direction.norm() < sure.direction.norm()
    assert told_rightly(unsure) > 0.7


def test_replies_that_were_all_called_bad_show_no_taste() -> None:
    """Nothing was liked, so what was disliked is compared with nothing."""
    bad = [Comparison(one.difference, False, True, one.exchange) for one in comparisons(0, 1.0, rated=60)]
    known = reward.fit(bad, scale(), seed=0)
    assert known is None or float(known.direction.norm()) < 0.5


def test_features_are_the_mean_state_of_a_replys_own_tokens(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model(tmp_path), dtype=torch.float32).eval()
    prompt, replies = (5, 6, 7), ((8, 9), (10, 11, 12))
    [both], [alone] = (reward.features(model, [(prompt, some)]) for some in (replies, replies[1:]))
    plain = model(torch.tensor([[*prompt, *replies[1]]]), output_hidden_states=True).hidden_states
    wanted = plain[len(plain) // 2][0, len(prompt) :].mean(dim=0)
    assert torch.allclose(both[1].float(), wanted, atol=1e-5)
    assert torch.allclose(both[1], alone[0], atol=1e-5)
    assert hidden_states(model, packed([(prompt, replies)])).shape[0] == 1


def qwen(layers: int) -> PreTrainedModel:
    sizes = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": layers}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    return Qwen3ForCausalLM(Qwen3Config(**sizes, **heads))


def gptj(layers: int) -> PreTrainedModel:
    """Its decoder calls its layers `h`."""
    return GPTJForCausalLM(GPTJConfig(vocab_size=40, n_layer=layers, n_head=2, n_embd=16, rotary_dim=4))


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*deprecated:FutureWarning")  # PEFT still uses it
@pytest.mark.parametrize("shape", [qwen, gptj])
@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_the_middle_layer_is_the_same_whether_or_not_those_above_are_run(shape: Any, layers: int) -> None:
    base = shape(layers).eval()
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    every = base(ids, output_hidden_states=True).hidden_states
    batch = packed([((5, 6, 7), ((8, 9),))])
    for model in (base, get_peft_model(base, LoraConfig(target_modules=["q_proj"])).eval()):
        states = hidden_states(model, batch)[0]
        assert torch.allclose(states[batch.branch[0] >= 0][:2], every[len(every) // 2][0, :2], atol=1e-5)


@pytest.mark.parametrize("share", [0.5, 0.75])
def test_drawn_pairs_have_their_part_of_every_step(share: float) -> None:
    examples = [Example("pair", (1,), ((2,), (3,)), str(i)) for i in range(40)]
    examples += [Example("drawn", (1,), ((2,), (3,)), "", doubt=0.1) for _ in range(100)]
    planned = plan.batches(examples, Recipe(min_steps=10, drawn_share=share), seed=0)
    assert {sum(examples[i].kind == "drawn" for i in batch) for batch in planned} == {int(16 * share)}
    assert {len(batch) for batch in planned} == {16}
