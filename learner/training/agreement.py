"""How often a teacher agrees with what the others teach, and how often they take a side whatever stands there.

Knows nothing of what follows from it, or of models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from learner.training import reward
from learner.training.examples import Example
from learner.training.reward import Comparison, Reward, Scale

PENALTIES = (0.03, 0.3, 3.0)  # coarser than the night's own: it is fitted once for each teacher
SURE = 2.0  # standard errors that a reward has to be above a coin before anybody is held against it
FOLDS = 5  # of the words of somebody who has nobody to be held against
Z = 1.96  # of the intervals: 95 %
POSITION_RIDGE, ORDER_RIDGE = 0.25, 1.0


@dataclass(frozen=True)
class Told:
    """How often a teacher agreed with the others' reward, in how many comparisons; the reward's margins of choices.

    Of the comparisons `seeded` had an answer that was known before they were asked about, `rightly` were answered so.
    """

    agreed: int = 0
    compared: int = 0
    margins: tuple[tuple[int, float], ...] = ()  # (side that was taken, how much better the first one scores)
    rightly: int = 0
    seeded: int = 0


def told_by(
    rows: Sequence[Comparison], counts: Mapping[str, float], names: Sequence[str], scale: Scale, seed: int
) -> dict[str, Told]:
    """Everybody's agreement with the reward of the others; nobody's whom no reward could be found to compare with."""
    weighted = [replace(row, weight=counts[row.teacher]) for row in rows if counts[row.teacher] > 0]
    whole = sure(weighted, scale, seed)
    found: dict[str, Told] = {}
    for name in names:
        own = [row for row in rows if row.teacher == name]
        if not counts[name]:
            margins = _margins(own, whole)
        elif others := without(weighted, name):
            margins = _margins(own, sure(others, scale, seed))
        else:
            margins = _by_folds(own, scale, seed)
        if margins:
            found[name] = agreed(own, margins)
    return found


def _by_folds(own: Sequence[Comparison], scale: Scale, seed: int) -> list[float]:
    """The margins of somebody's words by a reward of their own words but these: who has nobody to be held against."""
    order = {exchange: place for place, exchange in enumerate(sorted({row.exchange for row in own}))}
    margins = [0.0] * len(own)
    for fold in range(FOLDS):
        inside = [i for i, row in enumerate(own) if order[row.exchange] % FOLDS == fold]
        outside = [row for row in own if order[row.exchange] % FOLDS != fold]
        some = _margins([own[i] for i in inside], sure(outside, scale, seed))
        if not some and inside:
            return []
        for i, margin in zip(inside, some, strict=True):
            margins[i] = margin
    return margins


def _margins(own: Sequence[Comparison], known: Reward | None) -> list[float]:
    """How much better the reward finds what was preferred (of a rating: what was rated, beside the usual reply)."""
    if known is None or not own:
        return []
    return [float(value) for value in torch.stack([row.difference for row in own]) @ known.direction]


def agreed(own: Sequence[Comparison], margins: Sequence[float] = ()) -> Told:
    """Choices agree where the preferred reply scores more; ratings where a liked reply scores more than a disliked.

    Ratings are held against one another, as some people call everything good. What was known before counts as it was
    known then, and is all that is judged where there are no `margins`.
    """
    seeded = [row.side == row.expected for row in own if row.expected]
    told = list(zip(own, margins, strict=True)) if margins else []
    pairs = [margin > 0 for row, margin in told if not row.rated and not row.expected]
    good = [margin for row, margin in told if row.rated and row.liked]
    bad = [margin for row, margin in told if row.rated and not row.liked]
    judged = seeded + pairs + [liked > disliked for liked, disliked in zip(good, bad, strict=False)]
    sided = [(row.side, margin) for row, margin in zip(own, margins or [0.0] * len(own), strict=True) if row.side]
    first = tuple((side, margin if side == 1 else -margin) for side, margin in sided)
    return Told(sum(judged), len(judged), first, sum(seeded), len(seeded))


def sides(examples: Sequence[Example], name: str) -> tuple[tuple[int, float], ...]:
    """The sides that somebody took, as `Told.margins` where no reward is known."""
    return tuple((one.side, 0.0) for one in examples if one.teacher == name and one.side)


def position_of(margins: Sequence[tuple[int, float]]) -> float:
    """The intercept b of P(first side) = σ(a · margin + b), both with a ridge, a's towards 1."""
    if not margins:
        return 0.0
    x = torch.tensor([[margin, 1.0] for _, margin in margins], dtype=torch.float64)
    y = torch.tensor([float(side == 1) for side, _ in margins], dtype=torch.float64)
    ridge, centre = torch.tensor([ORDER_RIDGE, POSITION_RIDGE]).double(), torch.tensor([1.0, 0.0]).double()
    found = centre.clone()
    for _ in range(25):
        likely = (x @ found).sigmoid()
        slope = x.T @ (y - likely) - ridge * (found - centre)
        bend = x.T @ ((likely * (1 - likely))[:, None] * x) + torch.diag(ridge)
        found = found + torch.linalg.solve(bend, slope).clamp(-2, 2)
    return float(found[1])


def habit_of(margins: Sequence[tuple[int, float]]) -> tuple[Literal[1, 2], float]:
    """The side that somebody favours, and at least what share of their choices they made by it alone.

    Sides are drawn by lot, so who takes one side with a share of s > 1/2 took it unseen in at least 2s − 1 of all;
    s is the lower end of Wilson's interval, so that a fair coin's luck is no habit.
    """
    first = sum(side == 1 for side, _ in margins)
    side: Literal[1, 2] = 1 if 2 * first >= len(margins) else 2
    low, _ = wilson(max(first, len(margins) - first), len(margins))
    return side, max(0.0, 2 * low - 1)


def wilson(agreed: int, compared: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    if not compared:
        return 0.0, 1.0
    share, squared = agreed / compared, Z * Z / compared
    centre = (share + squared / 2) / (1 + squared)
    half = Z * math.sqrt(share * (1 - share) / compared + squared / (4 * compared)) / (1 + squared)
    return max(0.0, centre - half), min(1.0, centre + half)


def sure(rows: Sequence[Comparison], scale: Scale, seed: int) -> Reward | None:
    """The reward of `rows` where it is surely better than a coin."""
    known = reward.fit(rows, scale, seed, PENALTIES)
    return known if known and known.gain > SURE * known.error else None


def without(rows: Sequence[Comparison], name: str) -> list[Comparison]:
    """All that others said."""
    return [row for row in rows if row.teacher != name]
