"""Turns exchanges and the feedback on them into preference records. Pure.

Knows nothing of platforms, the database or torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from learner.engine.base import ChatMessage

FeedbackKind = Literal["choice", "rating", "correction", "retract"]
# value: choice -> "1" | "2" | "both_bad" | "tie"; rating -> "good" | "bad"; else ""


@dataclass(frozen=True)
class ShownCandidate:
    """One candidate as it was generated and shown."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    lora: str | None
    sampling: dict[str, float | int]
    seed: int
    side: int  # 1 or 2: where it was shown
    finish: str = "stop"


@dataclass(frozen=True)
class Exchange:
    """A prompt and the candidates that were shown for it."""

    id: str
    mind: str
    bot: str
    platform: str
    chat: str
    person: str
    prompt: tuple[ChatMessage, ...]
    prompt_ids: tuple[int, ...]
    candidates: tuple[ShownCandidate, ...]
    created_at: float  # unix seconds


@dataclass(frozen=True)
class Feedback:
    """What one person did with one exchange; the newest of a person on an exchange counts."""

    id: int
    exchange: str
    teacher: str  # "platform:person id"
    trusted: bool
    kind: FeedbackKind
    value: str
    correction: str
    created_at: float


@dataclass(frozen=True)
class Provenance:
    """Where a record comes from."""

    exchange: str
    chat: str
    teacher: str
    session: str  # a chat's run of exchanges without a gap of SESSION_GAP seconds
    created_at: float
    loras: tuple[str | None, ...] = field(default=())


@dataclass(frozen=True)
class PreferencePair:
    """One DPO row. Token ids are None where nobody generated the text (a correction)."""

    prompt: tuple[ChatMessage, ...]
    prompt_ids: tuple[int, ...]
    chosen: str
    rejected: str
    chosen_ids: tuple[int, ...] | None
    rejected_ids: tuple[int, ...] | None
    source: Literal["choice", "correction"]
    provenance: Provenance


@dataclass(frozen=True)
class RatedReply:
    """One KTO row: a completion somebody called desirable (True) or undesirable (False)."""

    prompt: tuple[ChatMessage, ...]
    prompt_ids: tuple[int, ...]
    completion: str
    completion_ids: tuple[int, ...] | None
    desirable: bool
    source: Literal["rating", "both_bad"]
    provenance: Provenance


@dataclass(frozen=True)
class PreferenceRecords:
    """All that counts for a mind, and how much was left out and why."""

    pairs: tuple[PreferencePair, ...]
    ratings: tuple[RatedReply, ...]
    ties: int
    left_out: dict[str, int]


SESSION_GAP = 6 * 3600.0


def derive(exchanges: Iterable[Exchange], feedback: Sequence[Feedback]) -> PreferenceRecords:
    """Derive the records that count; see learner/records.py's tests for each rule."""
    raise NotImplementedError  # contract stub: replaced by the store engineer in this same change
