"""What a night comes to, and how that is told as JSON.

Knows nothing of how it comes about.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from learner.figures import GateFigures, PreferenceFigures
from learner.gate import Check
from learner.records import PreferencePair, PreferenceRecords, RatedReply
from learner.training.ladder import Tried
from learner.training.model import Weights
from learner.training.teachers import Trust


@dataclass(frozen=True)
class Outcome:
    """What a night came to: the weights, every figure, and why not, when not."""

    weights: Weights
    learning_rate: float
    share: float
    tried: tuple[Tried, ...]
    figures: GateFigures | None
    counts: dict[str, int]
    reasons: tuple[str, ...]
    checks: tuple[Check, ...] = ()
    trusted: tuple[Trust, ...] = ()

    @property
    def published(self) -> bool:
        return not self.reasons

    def verdict(self) -> dict[str, Any]:
        """The verdict as JSON; figures that are not finite become null."""
        row = {
            "outcome": "published" if self.published else "refused",
            "reasons": list(self.reasons),
            "learning_rate": self.learning_rate,
            "share": self.share,
            "records": self.counts,
            "teachers": [dataclasses.asdict(one) for one in self.trusted],
            "tried": [
                {
                    "learning_rate": one.trained.learning_rate,
                    "share": one.share,
                    "steps": one.trained.steps,
                    "loss": one.trained.loss,
                    "canary": dataclasses.asdict(one.canary),
                    "sampled": dataclasses.asdict(one.sampled.figures) if one.sampled else None,
                    "holds": one.holds,
                }
                for one in self.tried
            ],
            "gate": dataclasses.asdict(self.figures) if self.figures else None,
            "checks": [dataclasses.asdict(one) for one in self.checks],
        }
        return finite(row)


@dataclass(frozen=True)
class Evidence:
    """What people's words come to before anything is trained; `preference` is None where they are too few to tell."""

    checks: tuple[Check, ...]
    trusted: tuple[Trust, ...] = ()
    distrusted: int = 0  # examples that count nothing
    preference: PreferenceFigures | None = None


def faults_of(checks: Sequence[Check]) -> tuple[str, ...]:
    """What is wrong, a sentence for each check that does not hold."""
    return tuple(check.fault for check in checks if not check.held)


def told(records: PreferenceRecords) -> dict[str, Any]:
    """What people said, counted: what is learned from by its source, and what was left out by its reason."""
    every: list[PreferencePair | RatedReply] = [*records.pairs, *records.ratings]
    return {
        "pairs": len(records.pairs),
        "ratings": len(records.ratings),
        "sources": dict(Counter(one.source for one in every)),
        "good": sum(one.desirable for one in records.ratings),
        "ties": records.ties,
        "left_out": records.left_out,
        "imported": records.imported(),
        "people": len({one.provenance.teacher for one in every}),
    }


def finite(value: Any) -> Any:
    """`value` with null for numbers that JSON has no word for."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
