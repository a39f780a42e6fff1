"""Tries learning rates and picks the strongest LoRA whose canaries hold.

Knows nothing of how a LoRA is trained or measured: both are passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from learner.training.canaries import CanaryFigures
from learner.training.preferences import Trained


@dataclass(frozen=True)
class Tried:
    """One rung: what was trained, how its canaries did, and whether they hold."""

    trained: Trained
    canary: CanaryFigures
    holds: bool


Try = Callable[[float], Tried]


def climb(rates: Sequence[float], try_rate: Try, tries_all: bool) -> tuple[Tried, list[Tried]]:
    """Return the pick and all that was tried; the gentlest is picked when none holds.

    `rates` go from gentle to strong. With `tries_all` the strongest is tried first and the first
    that holds is the pick; otherwise the middle is where to start.
    """
    start = len(rates) - 1 if tries_all else len(rates) // 2
    tried: list[Tried] = []
    for rate in reversed(rates[: start + 1]):
        tried.append(try_rate(rate))
        if tried[-1].holds:
            break
    return tried[-1], tried
