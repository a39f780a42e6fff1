"""Records that were made elsewhere: a prompt, replies to it, and what somebody made of them. Pure.

Knows nothing of files or tables. Nobody here generated the texts, so there are no token ids, log-probabilities
or sides: a night tokenises them as it does a correction.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from learner.engine.base import ChatMessage

PLATFORM = "import"  # where imported exchanges stand: chat and person are the name of their source


@dataclass(frozen=True)
class ImportedRecord:
    """One row of another tool's data: (chosen, rejected), or one reply that was called desirable or not."""

    prompt: tuple[ChatMessage, ...]
    replies: tuple[str, ...]
    desirable: bool | None = None  # of a single reply; None: the first of two is preferred

    def __post_init__(self) -> None:
        if len(self.replies) != (2 if self.desirable is None else 1):
            raise ValueError(f"{len(self.replies)} replies, desirable={self.desirable}: give a pair or a rated reply")

    def key(self, mind: str, source: str) -> str:
        """The id of its exchange: the same whenever the row is imported again from `source` into `mind`."""
        said = [[message.role, message.content] for message in self.prompt]
        told = json.dumps([mind, source, said, self.replies, self.desirable])
        return f"import-{hashlib.sha256(told.encode()).hexdigest()[:32]}"


@dataclass(frozen=True)
class ImportCount:
    """How many records were new, and how many were there already."""

    added: int
    known: int


def teacher_of(source: str) -> str:
    """Who taught what came from `source`, unless somebody is named."""
    return f"{PLATFORM}:{source}"
