"""What a run brought in, in order: dialogues that are let in, and everything else with its reason.

Knows nothing of how it was made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from learner.corpus.dialogues import Dialogue
from learner.corpus.synthesis.client import Halt
from learner.corpus.synthesis.errors import NothingUsable
from learner.corpus.synthesis.near import Seen
from learner.formats.files import write_jsonl

HOPELESS = 30  # rejected in a row
ALIKE = ("duplicate", "near duplicate")


@dataclass(frozen=True)
class Made:
    """A dialogue that is fit; `compared` is the text by which duplicates are told."""

    dialogue: Dialogue
    compared: str


@dataclass(frozen=True)
class Rejected:
    """What was not fit: at which stage, why, and what the model said. `topic` helps to find it."""

    stage: str
    reason: str
    detail: str
    text: str = ""
    topic: str = ""


class Rejections:
    """What was rejected, by its number; counts it."""

    def __init__(self, rows: Iterable[tuple[int, Rejected]] = ()) -> None:
        self.rows = list(rows)

    @property
    def duplicates(self) -> int:
        """How many were too much like another."""
        return sum(one.reason in ALIKE for _, one in self.rows)

    def reasons(self) -> dict[str, int]:
        """The others by reason, the commonest first."""
        return dict(Counter(one.reason for _, one in self.rows if one.reason not in ALIKE).most_common())

    def write(self, path: Path) -> None:
        """One JSON object a line; no file when there was nothing."""
        if self.rows:
            write_jsonl(path, ({"index": index, **vars(one)} for index, one in self.rows))
        else:
            path.unlink(missing_ok=True)


class Harvest:
    """Takes results until there are `wanted` dialogues, no two of them nearly the same.

    `near` is the similarity from which two are; above 1 keeps even equal ones. `halt` is told when too many are unfit.
    """

    def __init__(self, wanted: int, near: float, halt: Halt | None, watch: Callable[[int], None]) -> None:
        self.wanted = wanted
        self.made: list[Dialogue] = []
        self.rejected = Rejections()
        self.taken = 0
        self._seen = Seen(near) if near <= 1 else None
        self._halt = halt
        self._watch = watch
        self._in_a_row = 0

    def more(self) -> int:
        """How many are missing."""
        return self.wanted - len(self.made)

    def take(self, index: int, result: Made | Rejected) -> None:
        """Let the next one in, or not. Raises NothingUsable when too many in a row were not."""
        self.taken += 1
        if isinstance(result, Made):
            alike = self._seen.admit(result.compared) if self._seen else ""
            if not alike:
                self.made.append(result.dialogue)
                self._in_a_row = 0
                self._watch(len(self.made))
                return
            topic = str(result.dialogue.about.get("topic", ""))
            result = Rejected("dialogue", alike, "much like an earlier one", result.compared, topic)
        self.rejected.rows.append((index, result))
        self._in_a_row += 1
        if self._in_a_row >= HOPELESS and self._halt is not None:
            self._halt.stop(self._hopeless())
            self._halt.check()

    def _hopeless(self) -> NothingUsable:
        reasons = Counter(one.reason for _, one in self.rejected.rows[-HOPELESS:])
        return NothingUsable(
            f"{HOPELESS} answers in a row were rejected, most often as {reasons.most_common(1)[0][0]!r}: stopped, so "
            "that no more money goes the same way. Look at the errors file; another model, prompt or topic may help"
        )


def letters_in(dialogue: Dialogue) -> bool:
    """Whether anybody says a word; an answer that repeats the question's form has none."""
    return any(char.isalnum() for one in dialogue.messages if one.role != "system" for char in one.content)
