"""What a reader yields for each row of a source: a chat message, training rows, or why it was dropped.

Knows nothing of any format, and nothing of what becomes of a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from learner.corpus.dialogues import Dialogue

TEXT = "text"


class Said(NamedTuple):
    """A message of a chat. A NamedTuple, as a million of them are made: a frozen dataclass takes three times as long.

    `chat` is the same for all messages of one chat and differs between chats; `who` is the speaker's name as a
    group shows it; `at` is in Unix seconds; `kind` is TEXT or a kind of learner.corpus.media. `key` is the
    platform's own id of the message ("" where there is none), `answers` the key of the message that it quotes.
    """

    chat: str
    who: str
    mine: bool
    at: int
    text: str
    kind: str = TEXT
    group: bool = False
    key: str = ""
    answers: str = ""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that can't be used: the reason that is counted, and for malformed rows where and what is wrong.

    `detail` never holds text of the row, as it is printed.
    """

    reason: str
    line: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Given:
    """A row of a dataset: the dialogues and the plain texts that it gives, at least one of either."""

    dialogues: tuple[Dialogue, ...] = ()
    texts: tuple[str, ...] = ()


Row = Said | Given | Dropped


def malformed(line: int, detail: str) -> Dropped:
    """A row that is not what its format says."""
    return Dropped("malformed", line, detail)
