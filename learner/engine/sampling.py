"""Draws the next token of each candidate from the model's logits.

Knows nothing of text or requests. A candidate's draw uses its own generator and its own row only,
so that it does not depend on who else is in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from learner.engine.base import Sampling

# The nucleus nearly always lies within so many of the likeliest tokens; sorting them all is slow.
LIKELIEST = 512


class Draw:
    """How one candidate is drawn: its settings, its generator, and the tokens it has seen."""

    def __init__(
        self, sampling: Sampling, seed: int, seen: Sequence[int], vocabulary: int, device: torch.device, top: int = 0
    ) -> None:
        """`top` is how many of the likeliest tokens are to be written down at each draw, in `tops`."""
        self.sampling, self.top = sampling, min(top, vocabulary)
        self.tops: list[tuple[tuple[int, float], ...]] = []
        self._generator = torch.Generator().manual_seed(seed % 2**63)
        self.seen: Tensor | None = None
        if sampling.repetition_penalty != 1.0:
            self.seen = torch.zeros(vocabulary, dtype=torch.bool, device=device)
            self.seen[torch.tensor(list(seen), device=device)] = True

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken."""
        return self.sampling.temperature <= 0

    def uniform(self) -> float:
        """The next number in [0, 1) of this candidate; greedy ones draw nothing."""
        return 0.0 if self.greedy else torch.rand((), generator=self._generator).item()

    def saw(self, token: int) -> None:
        """Remember a token for the repetition penalty."""
        if self.seen is not None:
            self.seen[token] = True


@dataclass(frozen=True)
class Plan:
    """The settings of a batch as tensors, made when its members change and not at every step."""

    draws: tuple[Draw, ...]
    temperatures: Tensor
    top_p: Tensor
    all_greedy: bool
    penalised: bool

    @classmethod
    def of(cls, draws: Sequence[Draw], device: torch.device) -> Plan:
        """The plan for these candidates, in the order of their rows."""
        temperatures = [1.0 if d.greedy else d.sampling.temperature for d in draws]
        top_p = [0.0 if d.greedy else d.sampling.top_p for d in draws]
        return cls(
            tuple(draws),
            torch.tensor(temperatures, device=device).unsqueeze(1),
            torch.tensor(top_p, device=device).unsqueeze(1),
            all(d.greedy for d in draws),
            any(d.seen is not None for d in draws),
        )

    def pick(self, logits: Tensor) -> tuple[Tensor, list[int], list[float]]:
        """Tokens [rows] drawn from logits [rows, vocabulary], as a tensor and as numbers, with their
        log-probabilities under the unwarped policy."""
        logits = logits.float()
        warped = self._penalise(logits) if self.penalised else logits
        tokens = warped.argmax(-1) if self.all_greedy else self._sample(warped / self.temperatures)
        chosen = logits.gather(1, tokens.unsqueeze(1)).squeeze(1) - logits.logsumexp(-1)
        numbers = tokens.tolist()
        for row, (draw, token) in enumerate(zip(self.draws, numbers, strict=True)):
            draw.saw(token)
            if draw.top:
                draw.tops.append(_likeliest(logits[row], draw.top))
        return tokens, numbers, chosen.tolist()

    def _penalise(self, logits: Tensor) -> Tensor:
        """Divide a seen token's logit by the penalty, or multiply it when negative (Keskar et al. 2019)."""
        logits = logits.clone()
        for row, draw in zip(logits, self.draws, strict=True):
            if draw.seen is not None:
                penalty = draw.sampling.repetition_penalty
                row.copy_(torch.where(draw.seen, torch.where(row < 0, row * penalty, row / penalty), row))
        return logits

    def _sample(self, scaled: Tensor) -> Tensor:
        """Draw from the smallest set of likeliest tokens whose mass reaches top_p, by inverting its CDF."""
        total = scaled.logsumexp(-1, keepdim=True)
        top, ids = scaled.topk(min(LIKELIEST, scaled.shape[1]))
        mass = (top - total).exp()
        if top.shape[1] < scaled.shape[1] and bool((mass.sum(-1, keepdim=True) < self.top_p).any()):
            top, ids = scaled.sort(-1, descending=True)
            mass = (top - total).exp()
        before = mass.cumsum(-1) - mass
        mass = torch.where(before < self.top_p, mass, 0.0)
        mass[:, 0] = (top[:, :1] - total).exp().squeeze(1)  # top_p 0 still keeps the likeliest
        uniforms = torch.tensor([d.uniform() for d in self.draws], device=scaled.device).unsqueeze(1)
        reached = mass.cumsum(-1)
        last = (mass > 0).sum(-1, keepdim=True).sub_(1).clamp_(min=0)
        index = (reached <= uniforms * reached[:, -1:]).sum(-1, keepdim=True).minimum(last)
        return ids.gather(1, index).squeeze(1)


def _likeliest(logits: Tensor, count: int) -> tuple[tuple[int, float], ...]:
    """The likeliest tokens of one row, [vocabulary], with their log-probabilities under the unwarped policy."""
    values, ids = logits.log_softmax(-1).topk(count)
    return tuple(zip(ids.tolist(), values.tolist(), strict=True))
