"""What is shown, what is said about it, and the preference records that come of both (`deriving.py`). Pure.

Knows nothing of platforms, the database or torch.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from learner.engine.base import ChatMessage

FOLD_SALT = "nightschool fold 1"

FeedbackKind = Literal["choice", "rating", "correction", "retry", "retract"]
# value: choice -> "1" | "2" | "both_bad" | "tie"; rating -> "good" | "bad"; retry -> the exchange that
# says it again; retract -> "rating" when only ratings are taken back (a reaction); else ""


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
    expected: Literal[1, 2] | None = None  # the side that was known to be preferred when it was asked about


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
    """Where a record comes from, and when it was said.

    `loras` are the versions that made the record's generated texts: (chosen, rejected) of a choice,
    (rejected,) of a correction, (completion,) of a rating; none of what was imported from the source `imported`.
    """

    exchange: str
    chat: str
    teacher: str
    session: str  # a chat's run of exchanges without a long gap
    created_at: float
    loras: tuple[str | None, ...] = field(default=())
    imported: str = ""


@dataclass(frozen=True)
class PreferencePair:
    """One DPO row. Token ids are None where nobody here generated the text (a correction, an imported row).

    The prompt's are empty where it was imported. `chosen_side` is where the chosen reply was shown, of a choice
    between two here; a tie's order means nothing. `expected_side` is the side that what others taught surely
    preferred when the choice was asked for, None where that was not known or not looked for.
    """

    prompt: tuple[ChatMessage, ...]
    prompt_ids: tuple[int, ...]
    chosen: str
    rejected: str
    chosen_ids: tuple[int, ...] | None
    rejected_ids: tuple[int, ...] | None
    source: Literal["choice", "correction", "retry", "tie"]
    provenance: Provenance
    chosen_side: Literal[1, 2] | None = None
    expected_side: Literal[1, 2] | None = None


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
    """All that counts for a mind, and how much was left out and why.

    `ties` counts all that were said; `tied` are those that train. They are no choices and count as none.
    """

    pairs: tuple[PreferencePair, ...]
    ratings: tuple[RatedReply, ...]
    ties: int
    left_out: dict[str, int]
    tied: tuple[PreferencePair, ...] = ()

    def exchanges(self) -> frozenset[str]:
        """The exchanges that these records come from."""
        every: list[PreferencePair | RatedReply] = [*self.pairs, *self.ratings, *self.tied]
        return frozenset(record.provenance.exchange for record in every)

    def imported(self) -> dict[str, int]:
        """How many pairs and ratings were imported, by the name of their source."""
        every: list[PreferencePair | RatedReply] = [*self.pairs, *self.ratings]
        return dict(sorted(Counter(filter(None, (record.provenance.imported for record in every))).items()))


def fold_of(record: PreferencePair | RatedReply, folds: int) -> int:
    """Which of `folds` parts the record is judged with, 0 to folds − 1: a stable hash of what was asked.

    The key is the prompt's last user message alone, not the session or the chat: one long session
    would be one part as a whole, and the same question asked in two chats would stand in two parts,
    so that training on one would be rewarded on the other.
    """
    asked = [message.content for message in record.prompt if message.role == "user"]
    key = " ".join(asked[-1].split()).casefold() if asked else ""
    digest = hashlib.sha256(f"{FOLD_SALT}\0{key}".encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:8], "big") % folds
