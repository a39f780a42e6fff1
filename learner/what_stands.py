"""Which of the things that people said about a reply stand: the newest, and not what was taken back. Pure.

Knows nothing of records, the database or torch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from learner.records import Feedback


def newest_of_each(feedback: Iterable[Feedback]) -> list[Feedback]:
    """The newest feedback of each teacher on each exchange, oldest first; retracts included."""
    said: dict[tuple[str, str], list[Feedback]] = defaultdict(list)
    for one in sorted(feedback, key=lambda one: one.id):
        words = said[one.exchange, one.teacher]
        words[:] = without_retracted(words, one)
        if one.kind != "retract" or not words:
            words.append(one)
    return sorted((words[-1] for words in said.values()), key=lambda one: one.id)


class Said(Protocol):
    """What tells which words a retract takes back."""

    @property
    def kind(self) -> str: ...

    @property
    def value(self) -> str: ...


S = TypeVar("S", bound=Said)


def without_retracted(words: Sequence[S], newest: Said) -> list[S]:
    """What of one teacher's earlier `words` on an exchange stands after `newest`."""
    if newest.kind != "retract":
        return list(words)
    return [one for one in words if newest.value == "rating" and one.kind != "rating"]


def settled_on(feedback: Iterable[Feedback]) -> int | None:
    """The candidate (1 or 2) that feedback on one offer, oldest first, leaves chosen; None: neither.

    A tie, "both bad" and a correction unsettle a choice, a rating or a retry does not: it is about the choice.
    """
    chosen: dict[str, int | None] = {}
    for said in feedback:
        if said.kind in ("rating", "retry") or (said.kind == "retract" and said.value == "rating"):
            continue
        chosen.pop(said.teacher, None)  # so that the newest word stands last
        if said.kind != "retract":
            chosen[said.teacher] = int(said.value) if said.value in ("1", "2") else None
    return next(reversed(chosen.values()), None)
