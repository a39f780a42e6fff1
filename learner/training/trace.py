"""What a night leaves for its report: curves, samples, where the time went. Recorded while it happens.

Knows nothing of how anything is trained, measured or shown.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Phase = Literal["load", "evidence", "baselines", "training", "judging"]
Save = Callable[[dict[str, Any]], None]


@dataclass
class Round:
    """One round of a training: the loss of each optimiser step, and how far it tells the record pairs in it apart.

    A margin is the mean of β·(log-ratio chosen − log-ratio rejected); None where a step saw no record pair.
    """

    learning_rate: float
    number: int
    drawn: int
    losses: list[float] = field(default_factory=list)
    margins: list[float | None] = field(default_factory=list)


@dataclass(frozen=True)
class Sample:
    """What was answered to somebody's prompt before and after, with the same sampling and seed."""

    prompt: str
    before: str
    after: str


class Trace:
    """Collects one night; `save` is given all of it whenever a phase ends, so that a night cut short has a report."""

    def __init__(self, save: Save = lambda _: None, clock: Callable[[], float] = time.monotonic) -> None:
        self._save, self._clock = save, clock
        self._facts: dict[str, Any] = {}
        self._seconds: dict[str, float] = {}
        self._rounds: list[Round] = []
        self._losses: list[float] = []
        self._margins: list[float] = []

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Time what is done inside; a phase that is gone through again adds up."""
        started = self._clock()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + self._clock() - started
            self._save(self.as_json())

    def note(self, name: str, fact: Any) -> None:
        """Keep a fact that is JSON already."""
        self._facts[name] = fact

    def round(self, learning_rate: float, drawn: int) -> None:
        """A round of training begins, with so many drawn pairs beside the records."""
        number = sum(one.learning_rate == learning_rate for one in self._rounds) + 1
        self._rounds.append(Round(learning_rate, number, drawn))

    def seen(self, loss: float, margins: Sequence[float]) -> None:
        """A forward pass of the step was made."""
        self._losses.append(loss)
        self._margins += margins

    def step(self) -> None:
        """The optimiser stepped, on the passes seen since the last step."""
        if self._rounds and self._losses:
            self._rounds[-1].losses.append(statistics.fmean(self._losses))
            self._rounds[-1].margins.append(statistics.fmean(self._margins) if self._margins else None)
        self._losses, self._margins = [], []

    def samples(self, champion: bool, samples: Sequence[Sample]) -> None:
        """Keep before and after; `before` is the champion's where there is one, else the anchor's."""
        self.note("samples", {"before": "champion" if champion else "anchor", "rows": [asdict(one) for one in samples]})

    def as_json(self) -> dict[str, Any]:
        """All that was recorded so far."""
        return {
            **self._facts,
            "rounds": [asdict(one) for one in self._rounds],
            "seconds": {name: round(seconds, 2) for name, seconds in self._seconds.items()},
            "peak_bytes": peak_bytes(),
        }


def peak_bytes() -> int | None:
    """The most memory that this process had at once; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
