"""Which pairs of replies are worth asking about: what a night's reward does not know yet, kept beside its LoRA.

An answer teaches a logistic regression p(1 − p) · xᵀ H⁻¹ x of information, with x the difference of the two replies'
features, p the odds that the reward gives already, and H how much it has learned in each direction (D-optimal design;
Chaudhuri and Mykland 1993). That is little for two replies that are alike, for a pair whose outcome is known, and for
one like those that were judged before. Pure numpy: the bot reads it while it talks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILE = "asking.safetensors"
MOST_AXES = 256

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Known:
    """What a reward knows. `axes` [axes, features] are orthonormal, `learned` says how much it has learned along each;
    along all others that is `penalty` alone. `scale` brings a difference of features to the reward's size.
    """

    direction: Vector
    scale: Vector
    axes: Vector
    learned: Vector
    penalty: float

    def log_odds(self, first: Sequence[float], second: Sequence[float]) -> float:
        """How likely people are to prefer the first of two replies with these features."""
        return float(np.clip(self._difference(first, second) @ self.direction, -50, 50))

    def worth(self, first: Sequence[float], second: Sequence[float]) -> float:
        """The information, in nats, that a choice between two replies with these features is expected to give."""
        difference = self._difference(first, second)
        likely = 1 / (1 + np.exp(-np.clip(difference @ self.direction, -50, 50)))
        along = self.axes @ difference
        beside = max(0.0, float(difference @ difference - along @ along))
        unknown = float((along**2 / self.learned).sum()) + beside / self.penalty
        return float(likely * (1 - likely)) * unknown

    def _difference(self, first: Sequence[float], second: Sequence[float]) -> Vector:
        return (np.asarray(first, np.float32) - np.asarray(second, np.float32)) * self.scale

    def save(self, folder: Path) -> None:
        """Write it into a LoRA's folder."""
        from safetensors.numpy import save_file

        penalty = np.array([self.penalty], np.float32)
        named = {"direction": self.direction, "scale": self.scale, "axes": self.axes, "learned": self.learned}
        save_file({name: np.ascontiguousarray(one) for name, one in (named | {"penalty": penalty}).items()},
                  folder / FILE)  # fmt: skip


def known(differences: Any, weights: Any, direction: Any, scale: Any, penalty: float) -> Known:
    """What is known after a regression on `differences` [records, features] with this `direction` and `penalty`."""
    x = np.asarray(differences, np.float64)
    likely = 1 / (1 + np.exp(-(x @ np.asarray(direction, np.float64))))
    seen = np.sqrt(np.asarray(weights, np.float64) * likely * (1 - likely))[:, None] * x
    _, sizes, axes = np.linalg.svd(seen, full_matrices=False)
    learned = sizes[:MOST_AXES] ** 2 + penalty
    return Known(_single(direction), _single(scale), _single(axes[:MOST_AXES]), _single(learned), penalty)


def _single(values: Any) -> Vector:
    return np.asarray(values, np.float32)


def load(folder: Path) -> Known | None:
    """What the night that made the LoRA in `folder` knew; None where it kept nothing, or nothing that can be read."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        held = load_file(folder / FILE)
        found = Known(held["direction"], held["scale"], held["axes"], held["learned"], float(held["penalty"][0]))
    except (OSError, SafetensorError, KeyError, IndexError):
        return None
    finite = all(np.isfinite(one).all() for one in held.values())
    fits = found.axes.shape == (len(found.learned), len(found.direction)) and found.scale.shape == found.direction.shape
    return found if finite and fits and found.penalty > 0 else None
