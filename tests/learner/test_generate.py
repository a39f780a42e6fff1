"""How replies are drawn for judging: from the right set, in the right shares."""

from __future__ import annotations

import pytest
import torch

from learner.training.generate import Decoding, _drawn

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
