"""Figures of the gate in words: their size, their bounds, and why one of them refuses. Pure.

Knows nothing of languages: sentences are asked for by name.
"""

from __future__ import annotations

from typing import Protocol

from learner.report.model import Stood

SHARES = (
    "canary_anchor", "canary_champion", "sampled_content", "sampled_language", "sampled_ended", "sampled_unrepeated",
    "split", "distinct", "commonest", "strayed",
)  # fmt: skip
COUNTS = ("records", "contradicted", "hanging", "own_anchor", "own_champion", "leak")
DIGITS = dict.fromkeys(COUNTS, 0) | {"length": 1, "length_chosen": 1, "kl": 2, "exposure": 1}


class Say(Protocol):
    """The sentence of a name, with its values filled in. Raises KeyError for a name without one."""

    def __call__(self, key: str, **values: object) -> str: ...


def words_for(say: Say, prefix: str, name: str) -> str:
    """What `name` is called; the name itself where nobody found words for it yet."""
    try:
        return say(prefix + name)
    except KeyError:
        return name


def figure(kind: str, value: float | None) -> str:
    """A figure of the gate as it is read: a share in percent, a count whole."""
    if value is None:
        return "—"
    return f"{rounded(100 * value, 1)}%" if kind in SHARES else rounded(value, DIGITS.get(kind, 3))


def rounded(value: float, digits: int) -> str:
    """`value` with so many digits; what rounds to nothing has no sign."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def bounds(one: Stood, say: Say) -> str:
    """Between what a figure must stay."""
    least = max(0.0, one.low) if one.low is not None and one.kind in SHARES else one.low
    low, high = figure(one.kind, least), figure(one.kind, one.high)
    if one.low is not None and one.high is not None:
        return f"{low} – {high}"
    if one.low is not None:
        return say("report_at_least", bound=low)
    return say("report_at_most", bound=high) if one.high is not None else "—"


def reason_of(one: Stood, say: Say) -> str:
    """Why a figure that does not hold refuses, in one plain clause."""
    lost = 100 * ((one.reference or 0) - (one.value or 0)) if one.kind in SHARES else 0.0
    values = {
        "points": f"{lost:.1f}".removesuffix(".0"),
        "value": figure(one.kind, one.value),
        "low": figure(one.kind, one.low),
        "high": figure(one.kind, one.high),
        "reference": figure(one.kind, one.reference),
    }
    try:
        return say(f"why_{one.kind}", **values)
    except KeyError:
        return one.kind
