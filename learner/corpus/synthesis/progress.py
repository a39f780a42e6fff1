"""How far a run is and how long it will take, by what the last calls took. Knows nothing of where it is shown."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

WINDOW = 200  # calls by which the pace is judged


@dataclass
class Pace:
    """Counts what is done of `wanted`; `clock` gives seconds. What was there at the start tells nothing of the pace."""

    wanted: int
    clock: Callable[[], float]
    done: int = 0
    stage: str = ""
    _calls: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _spent: int = 0
    _earned: int = 0

    def answered(self) -> None:
        """A call came back just now."""
        self._calls.append(self.clock())
        self._spent += 1

    def reached(self, done: int) -> None:
        """So many are done now."""
        if self._spent:
            self._earned += max(0, done - self.done)
        self.done = done

    def seconds_left(self) -> float | None:
        """About how long the rest takes; None while that can't be told."""
        if len(self._calls) < 3 or not self._earned:
            return None
        took = max(1e-6, self.clock() - self._calls[0])
        calls_needed = (self.wanted - self.done) * self._spent / self._earned
        return calls_needed * took / len(self._calls)

    def line(self, cost: float, priced: bool) -> str:
        """It in words."""
        share = 100 * self.done / max(1, self.wanted)
        money = f", {cost:.4f} spent" if priced else ""
        left = self.seconds_left()
        time_left = f", {duration(left)} left" if left is not None and self.done < self.wanted else ""
        return f"{self.stage}: {self.done} of {self.wanted} ({share:.0f} %){money}{time_left}"


def duration(seconds: float) -> str:
    """As 42 s, 12 min, 3 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
