"""Finds the strongest LoRA whose canaries hold: first along the way back to the anchor, then by gentler rates.

What is trained at one learning rate is a direction; how far to go along it is a second, far cheaper
choice, because it needs no training: weights between the anchor's and the trained ones give up
less of what the anchor knew than a gentler training that moves the preferences as far.
Knows nothing of how a LoRA is trained or measured: both are passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from learner.training.canaries import CanaryFigures
from learner.training.evaluation import Sampled
from learner.training.model import Weights
from learner.training.preferences import Trained


@dataclass(frozen=True)
class Tried:
    """What was trained, the share of the way from the anchor to it, and how its canaries did there.

    `sampled` is what it says when it is drawn as people see it; None where the greedy canaries had failed already.
    """

    trained: Trained
    share: float
    weights: Weights
    canary: CanaryFigures
    holds: bool
    sampled: Sampled | None = None

    @property
    def reach(self) -> float:
        """How far it goes: training so far of the way at this rate is like all of it at a so much gentler one."""
        return self.trained.learning_rate * self.share


Train = Callable[[float], Trained]
Try = Callable[[Trained, float], Tried]


def climb(
    rates: Sequence[float], shares: Sequence[float], train: Train, try_share: Try, start: int
) -> tuple[Tried, list[Tried]]:
    """Return the pick and all that was tried; the gentlest of all is picked when none holds.

    `rates` go from gentle to strong, `start` is the index of the first one to train. Gentler ones are trained as long
    as all of their way would go farther than what holds so far.
    """
    pick, tried = None, list[Tried]()
    for rate in reversed(rates[: start + 1]):
        if pick is not None and pick.holds and pick.reach >= rate:
            break
        best, some = walk_back(train(rate), shares, try_share)
        tried += some
        if pick is None or not pick.holds or (best.holds and best.reach > pick.reach):
            pick = best
    assert pick is not None, "a ladder has rungs"
    return pick, tried


def walk_back(trained: Trained, shares: Sequence[float], try_share: Try) -> tuple[Tried, list[Tried]]:
    """The largest share that holds, by bisection: what holds at a share holds at smaller ones."""
    ordered, tried = sorted(shares), {}
    low, high = 0, len(ordered) - 1
    at = high  # most nights hold as they are, or nearly
    while low <= high:
        tried[at] = try_share(trained, ordered[at])
        low, high = (at + 1, high) if tried[at].holds else (low, at - 1)
        at = (low + high + 1) // 2
    holding = [index for index, one in tried.items() if one.holds]
    return tried[max(holding) if holding else min(tried)], list(tried.values())
