"""How replies are drawn for judging: from the right set, in the right shares."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from learner.engine.base import ChatMessage
from learner.training import model
from learner.training.generate import Decoding, _drawn, replies
from learner.training.model import ChatRenderer, ModelSource

STARTER = Path(__file__).parents[2] / "data" / "starter"
LOGITS = torch.linspace(-3, 3, 40)[torch.randperm(40, generator=torch.Generator().manual_seed(0))]
DRAWS = 100_000


def shares(decoding: Decoding) -> torch.Tensor:
    tokens = _drawn(LOGITS.expand(DRAWS, -1), decoding, torch.Generator().manual_seed(1))
    return torch.bincount(tokens, minlength=len(LOGITS)) / DRAWS


@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.3])
def test_tokens_come_as_often_as_the_smallest_likely_set_gives_them(top_p: float) -> None:
    ordered, tokens = (LOGITS / 0.8).softmax(dim=0).sort(descending=True)
    ordered[ordered.cumsum(dim=0) - ordered >= top_p] = 0
    wanted = torch.zeros_like(LOGITS).scatter(0, tokens, ordered / ordered.sum())
    found = shares(Decoding(0.8, top_p))
    assert torch.equal(found > 0, wanted > 0)
    assert (found - wanted).abs().max() < 0.006


def test_without_a_temperature_the_likeliest_is_taken() -> None:
    assert shares(Decoding())[LOGITS.argmax()] == 1


def test_prompts_that_several_rows_share_are_answered_as_each_alone() -> None:
    source = ModelSource(str(STARTER), "cpu", "fp32")
    base = model.load_base(source).eval()
    renderer = ChatRenderer.load(source, base)
    asked = ["你好", "tell me a joke", "你好", "法国的首都是哪里", "tell me a joke", "你好"]
    prompts = [renderer.prompt((ChatMessage("user", text),)) for text in asked]
    together = [reply.tokens for reply in replies(base, renderer, prompts, Decoding())]
    assert together == [replies(base, renderer, [prompt], Decoding())[0].tokens for prompt in prompts]
    drawn = replies(base, renderer, [prompts[0]] * 16, Decoding(1.0, seed=1))
    assert len({reply.tokens for reply in drawn}) > 1
