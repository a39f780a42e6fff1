"""A reward model: what people prefer, as a linear function of what the anchor makes of a reply.

A LoRA that learns forty pairs by heart orders two fresh ones in three rightly; a ridge regression on the anchor's
hidden states orders nearly all of them (figures in bench/LOG.md), because a reply's tone and length lie there in
plain sight. So the reward is fitted to what people said, and then judges replies that the anchor draws to many other
prompts: pairs to learn from beyond those that people saw. How sure it is of a pair says how much the pair counts,
and cross-validation decides how sure it may be: where people contradict one another it knows nothing and teaches
nothing. Knows nothing of LoRAs, files or losses.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from learner import asking
from learner.training.examples import Example
from learner.training.logprobs import ROWS_AT_ONCE, Packed, Row, grouped, hidden_states, moved, packed

PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # of a ridge, from hardly any to nearly nothing learned
FOLDS = 5
ANYWAY_PENALTY = 1e-3
NEWTON_STEPS, TOLERANCE = 50, 1e-6
RATING_WEIGHT = 0.3  # of a rating beside a choice: it has nothing to be compared with but the anchor's usual reply


@dataclass(frozen=True)
class Comparison:
    """What people said as one row of a regression: `better − worse` in features; `rated` against the usual reply.

    `weight` is how much it counts beside other people's, `side` where the better one was shown, `fold` the part that
    it is judged with, `expected` the side that was known to be better before it was asked.
    """

    difference: Tensor  # [features]
    liked: bool
    rated: bool
    exchange: str
    teacher: str = ""
    weight: float = 1.0
    side: int | None = None
    fold: int = 0
    expected: int | None = None


Features = Tensor  # of several replies, [replies, hidden size]


@torch.no_grad()
def features(model: Any, rows: Sequence[Row]) -> list[Features]:
    """The middle layer's hidden states, averaged over each reply, for the replies of every row.

    Of all layers the middle one tells most (bench/LOG.md): the first know words, the last what comes next.
    """
    device = next(model.parameters()).device
    found: list[Tensor] = [torch.empty(0)] * len(rows)
    for group in grouped(rows, 2 * ROWS_AT_ONCE):
        batch = moved(packed([rows[i] for i in group]), device)
        states = hidden_states(model, batch)
        for place, i in enumerate(group):
            found[i] = _means(states[place], batch, place, len(rows[i][1]))
    return found


def _means(states: Tensor, batch: Packed, place: int, replies: int) -> Tensor:
    """The mean state of each reply's tokens; a branch's first position is still the prompt's last token."""
    branch, means = batch.branch[place], []
    for k in range(1, replies + 1):
        where = (branch == k).nonzero()[1:, 0]
        means.append(states[where].float().mean(dim=0))
    return torch.stack(means).cpu().double()


@dataclass(frozen=True)
class Scale:
    """Brings features to a common size: the spread of the anchor's own replies, and their mean."""

    mean: Tensor
    spread: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Scale:
        """From many replies of the anchor, [replies, features]."""
        return cls(features.mean(dim=0), features.std(dim=0) + 1e-3)

    def __call__(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.spread / math.sqrt(features.shape[-1])


@dataclass(frozen=True)
class Reward:
    """Scores features; a difference of two scores is the log-odds that people prefer the first.

    `gain` is how many nats a comparison it tells better than a coin, cross-validated, `error` its standard error.
    """

    direction: Tensor
    scale: Scale
    penalty: float
    gain: float
    error: float

    def scores(self, features: Features) -> Tensor:
        """One score for each reply."""
        return self.scale(features) @ self.direction


def comparisons(examples: Sequence[Example], scaled: Sequence[Features]) -> list[Comparison]:
    """The rows of the regression; `scaled` are the scaled features of each example's replies. A tie tells nothing."""
    found: list[Comparison] = []
    for example, own in zip(examples, scaled, strict=True):
        if example.kind == "pair":
            found.append(_row(example, own[0] - own[1], liked=True, rated=False))
        elif example.kind != "tie":
            found += [_row(example, one, liked=example.kind == "good", rated=True) for one in own]
    return found


def _row(example: Example, difference: Tensor, liked: bool, rated: bool) -> Comparison:
    said = (example.exchange, example.teacher, example.weight, example.side, example.fold, example.expected)
    return Comparison(difference, liked, rated, *said)


def fit(rows: Sequence[Comparison], scale: Scale, seed: int, penalties: Sequence[float] = PENALTIES) -> Reward | None:
    """The reward with the penalty that tells unseen comparisons best; None where none tells more than a coin."""
    likeliest = guess(rows, scale, seed, penalties) if rows else None
    return likeliest if likeliest and likeliest.gain > likeliest.error else None


def guess(rows: Sequence[Comparison], scale: Scale, seed: int, penalties: Sequence[float] = PENALTIES) -> Reward:
    """The reward with the penalty that tells unseen comparisons best, be it no better than a coin."""
    x, y, weight = _table(rows)
    fold, strongest_first = _folds(rows, seed), sorted(penalties, reverse=True)
    gains = torch.zeros(len(penalties), len(rows), dtype=torch.float64)
    for k in range(FOLDS):
        inside = fold == k
        if inside.any() and not inside.all():
            found = _solved(x[~inside], y[~inside], weight[~inside], strongest_first)
            gains[:, inside] = torch.stack([_gain(x[inside], y[inside], direction) for direction in found])
    means = (weight * gains).sum(dim=1) / weight.sum()
    best = int(means.argmax())  # the strongest of those that tell as much
    spread = float((weight * (gains[best] - means[best]) ** 2).sum() / weight.sum()) ** 0.5
    [direction] = _solved(x, y, weight, strongest_first[best : best + 1])
    error = spread / math.sqrt(float(weight.sum()))
    return Reward(direction[:-1], scale, strongest_first[best], float(means[best]), error)


def unseen(rows: Sequence[Comparison], scale: Scale, seed: int, penalties: Sequence[float] = PENALTIES) -> list[float]:
    """The log-odds of what each row says, by rewards that saw nothing of the row's fold, nor chose their penalty on it.

    How many ratings are good anyway does not count: it tells nothing of one reply from another.
    """
    found = [0.0] * len(rows)
    for fold in sorted({row.fold for row in rows}):
        others = [row for row in rows if row.fold != fold]
        if not others:
            break
        direction = guess(others, scale, seed, penalties).direction
        for i, row in enumerate(rows):
            if row.fold == fold:
                found[i] = float(row.difference @ direction) * (1 if row.liked else -1)
    return found


def kept(rows: Sequence[Comparison], reward: Reward) -> asking.Known:
    """What a bot needs to tell which pairs would teach `reward` most; ratings are comparisons as well."""
    x, _, weight = _table(rows)
    scale = 1 / (reward.scale.spread * math.sqrt(x.shape[1] - 1))
    return asking.known(x[:, :-1].numpy(), weight.numpy(), reward.direction.numpy(), scale.numpy(), reward.penalty)


def _table(rows: Sequence[Comparison]) -> tuple[Tensor, Tensor, Tensor]:
    """x [rows, features + 1], y in {0, 1}, weights. The last column is how many ratings are good anyway."""
    anyway = torch.tensor([[float(row.rated)] for row in rows], dtype=torch.float64)
    x = torch.cat([torch.stack([row.difference for row in rows]), anyway], dim=1)
    y = torch.tensor([float(row.liked) for row in rows], dtype=torch.float64)
    most = max(row.weight for row in rows)
    counts = [(RATING_WEIGHT if row.rated else 1.0) * (row.weight / most) for row in rows]
    weight = torch.tensor(counts, dtype=torch.float64)
    return x, y, weight


def _folds(rows: Sequence[Comparison], seed: int) -> Tensor:
    """The fold of each row; what was said of one exchange stays together."""
    exchanges = sorted({row.exchange for row in rows})
    random.Random(seed).shuffle(exchanges)
    fold = {exchange: place % FOLDS for place, exchange in enumerate(exchanges)}
    return torch.tensor([fold[row.exchange] for row in rows])


def _solved(x: Tensor, y: Tensor, weight: Tensor, penalties: Sequence[float]) -> list[Tensor]:
    """Ridge logistic regressions by Newton's method: for each penalty the direction that loses least.

    There are more features than comparisons, and no direction but those that the comparisons span can gain anything:
    the work is done in these, and each penalty goes on from where the one before it ended. The last column is hardly
    penalised.
    """
    _, _, spanned = torch.linalg.svd(x[:, :-1], full_matrices=False)
    small = torch.cat([x[:, :-1] @ spanned.T, x[:, -1:]], dim=1)
    direction, found = torch.zeros(small.shape[1], dtype=x.dtype), []
    for penalty in penalties:
        cost = torch.full_like(direction, penalty)
        cost[-1] = ANYWAY_PENALTY
        direction = _descended(small, y, weight, cost, direction)
        found.append(torch.cat([spanned.T @ direction[:-1], direction[-1:]]))
    return found


def _descended(x: Tensor, y: Tensor, weight: Tensor, cost: Tensor, direction: Tensor) -> Tensor:
    for _ in range(NEWTON_STEPS):
        likely = (x @ direction).sigmoid()
        slope = x.T @ (weight * (y - likely)) - cost * direction
        bend = x.T @ ((weight * likely * (1 - likely))[:, None] * x) + torch.diag(cost)
        step = torch.linalg.solve(bend, slope)
        before = _lost(x, y, weight, cost, direction)
        while _lost(x, y, weight, cost, direction + step) > before and step.abs().max() > TOLERANCE:
            step = step / 2
        direction = direction + step
        if step.abs().max() <= TOLERANCE:
            break
    return direction


def _lost(x: Tensor, y: Tensor, weight: Tensor, cost: Tensor, direction: Tensor) -> Tensor:
    lost = F.binary_cross_entropy_with_logits(x @ direction, y, weight, reduction="sum")
    return lost + 0.5 * (cost * direction**2).sum()


def _gain(x: Tensor, y: Tensor, direction: Tensor) -> Tensor:
    """Nats that each row is told better than by a coin."""
    return math.log(2) - F.binary_cross_entropy_with_logits(x @ direction, y, reduction="none")
