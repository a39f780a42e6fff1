"""What a night's report holds, put together from its verdict and from what was recorded while it ran. Pure.

Knows nothing of files, languages or how a report looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Ended:
    """How a night ended, as the store knows it."""

    number: int
    mind: str
    state: str
    started_at: float
    verdict: Row


@dataclass(frozen=True)
class Curves:
    """One round of training, step by step."""

    learning_rate: float
    number: int
    drawn: int
    losses: tuple[float | None, ...]
    margins: tuple[float | None, ...]


@dataclass(frozen=True)
class Stood:
    """One figure of the gate beside its bounds; None is a figure that is not finite, or no bound."""

    kind: str
    value: float | None
    held: bool
    low: float | None = None
    high: float | None = None
    reference: float | None = None


@dataclass(frozen=True)
class Step:
    """A candidate on the way back to the anchor: the share of the way, and its canaries there.

    `sampled` is how many of its drawn replies were right; None where none were drawn.
    """

    learning_rate: float
    share: float
    canaries: float
    sampled: float | None
    holds: bool


@dataclass(frozen=True)
class Told:
    """A prompt, and what was answered before and after."""

    prompt: str
    before: str
    after: str


@dataclass(frozen=True)
class Report:
    """One night. `recorded` is False for nights that recorded nothing but a verdict."""

    number: int
    mind: str
    state: str
    started_at: float
    reasons: tuple[str, ...]
    recorded: bool
    counts: dict[str, int]
    left_out: dict[str, int]
    reward: dict[str, float] | None
    reward_sought: bool
    rounds: tuple[Curves, ...]
    tried: tuple[Step, ...]
    checks: tuple[Stood, ...]
    samples: tuple[Told, ...]
    before: str
    seconds: dict[str, float]
    total_seconds: float | None
    peak_bytes: int | None
    figures: dict[str, float] = field(default_factory=dict)
    imported: dict[str, int] = field(default_factory=dict)


def build(ended: Ended, recorded: Row | None) -> Report:
    """The report of a night; `recorded` is None when it left no record of itself."""
    verdict, trace = ended.verdict, recorded or {}
    samples = trace.get("samples") or {}
    return Report(
        number=ended.number,
        mind=ended.mind,
        state=ended.state,
        started_at=ended.started_at,
        reasons=tuple(verdict.get("reasons", ())),
        recorded=recorded is not None,
        counts=_counts(verdict, trace),
        left_out=dict((trace.get("learned") or {}).get("left_out", {})),
        reward=trace.get("reward"),
        reward_sought="reward" in trace,
        rounds=tuple(_curves(row) for row in trace.get("rounds", ())),
        tried=tuple(_step(row) for row in verdict.get("tried", ())),
        checks=stood(verdict),
        samples=tuple(Told(row["prompt"], row["before"], row["after"]) for row in samples.get("rows", ())),
        before=samples.get("before", "anchor"),
        seconds=dict(trace.get("seconds", {})),
        total_seconds=verdict.get("seconds"),
        peak_bytes=trace.get("peak_bytes"),
        imported=dict((trace.get("learned") or {}).get("imported", {})),
        figures={} if verdict.get("checks") else _flat(verdict.get("gate") or {}),
    )


def stood(verdict: Row) -> tuple[Stood, ...]:
    """The gate's figures in a verdict, each beside its bounds; none in verdicts of old nights."""
    names = ("kind", "value", "held", "low", "high", "reference")
    return tuple(Stood(**{name: row.get(name) for name in names}) for row in verdict.get("checks", ()))


def _counts(verdict: Row, trace: Row) -> dict[str, int]:
    """How much was learned from, by source; of old nights only pairs and ratings are known."""
    known = verdict.get("records") or {}
    learned = trace.get("learned")
    if learned is None:
        return {name: known[name] for name in ("pairs", "ratings") if name in known}
    sources = learned["sources"]
    pairs = {"pairs": learned["pairs"], **{name: sources.get(name, 0) for name in ("choice", "correction", "retry")}}
    rated = {"ratings": learned["ratings"], **{name: sources.get(name, 0) for name in ("rating", "both_bad")}}
    others = {name: count for name, count in sources.items() if name not in pairs | rated}
    cut = {name: known[name] for name in ("cut_prompts", "cut_replies", "rested") if known.get(name)}
    return {**pairs, **rated, **others, "ties": learned["ties"], "people": learned["people"], **cut}


def _curves(row: Row) -> Curves:
    losses, margins = tuple(row["losses"]), tuple(row["margins"])
    return Curves(row["learning_rate"], row["number"], row["drawn"], losses, margins)


def _step(row: Row) -> Step:
    sampled = row.get("sampled")
    right = sampled["right"] if sampled else None
    return Step(row["learning_rate"], row["share"], row["canary"]["right"], right, row["holds"])


def _flat(row: Row, under: str = "") -> dict[str, float]:
    """Nested figures under dotted names, without what is not a number."""
    found: dict[str, float] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{under}{name}.")
        elif isinstance(value, (int, float)):
            found[f"{under}{name}"] = value
    return found
