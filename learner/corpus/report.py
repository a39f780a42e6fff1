"""What an import read, kept and dropped and why, and what the result looks like, in figures.

Knows nothing of how the figures are drawn. It names no person: chats are numbered by their size.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import tzinfo
from pathlib import Path
from typing import Any

from learner.corpus.clock import QUARTER, months_and_hours
from learner.corpus.dialogues import Dialogue
from learner.corpus.rows import Dropped
from learner.formats.files import write_json

SHOWN = 100  # malformed rows that are kept with their place; the others are counted
LENGTHS = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # letters of a reply: from here to below the next


class ReportMissing(Exception):
    """There is no report beside a file, or it can't be read."""


@dataclass(frozen=True)
class Source:
    """A file that was read: its name, the format it was in, its rows."""

    name: str
    format: str
    rows: int


@dataclass(frozen=True)
class Fault:
    """A malformed row: its file, the line where it begins, and what is wrong."""

    file: str
    line: int
    detail: str


@dataclass(frozen=True)
class Report:
    """All that is known of an import. `read` = `kept` + `dropped` counts rows; `dropped` is the sum of `reasons`."""

    sources: tuple[Source, ...] = ()
    read: int = 0
    kept: int = 0
    dropped: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    dialogues: int = 0
    texts: int = 0
    replies: int = 0
    masked: dict[str, int] = field(default_factory=dict)
    months: dict[str, int] = field(default_factory=dict)  # messages kept, by "2024-05"
    hours: tuple[int, ...] = ()  # replies learned, by hour of the day; empty where no time is known
    lengths: tuple[int, ...] = ()  # replies learned, by LENGTHS
    chats: tuple[int, ...] = ()  # messages kept, by chat, the largest first


class Tally:
    """Counts while rows are read; `report` says what came of it."""

    def __init__(self) -> None:
        self.kept = self.dialogues = self.texts = self.replies = 0
        self.reasons: Counter[str] = Counter()
        self.masked: Counter[str] = Counter()
        self._sources: list[Source] = []
        self._faults: list[Fault] = []
        self._quarters: Counter[int] = Counter()  # messages
        self._spoken: Counter[int] = Counter()  # replies
        self._lengths: Counter[int] = Counter()
        self._chats: Counter[int] = Counter()

    def source(self, path: Path, format: str, rows: int) -> None:
        """A file was read to its end."""
        self._sources.append(Source(path.name, format, rows))

    def drop(self, row: Dropped, file: str) -> None:
        """A row can't be used."""
        self.reasons[row.reason] += 1
        if row.detail and len(self._faults) < SHOWN:
            self._faults.append(Fault(file, row.line, row.detail))

    def mask(self, kind: str) -> None:
        """Something personal is masked."""
        self.masked[kind] += 1

    def reply(self, text: str, at: int | None = None) -> None:
        """A reply is learned; `at` in Unix seconds where that is known."""
        self.replies += 1
        self._lengths[_bucket(len(text))] += 1
        if at is not None:
            self._spoken[at // QUARTER] += 1

    def messages(self, chat: int, at: int, count: int) -> None:
        """So many messages of a turn are kept."""
        self._chats[chat] += count
        self._quarters[at // QUARTER] += count

    def made(self, dialogue: Dialogue) -> None:
        """A dialogue that was made of nothing: a row of its own."""
        self.kept += 1
        self.dialogue(dialogue)

    def dialogue(self, dialogue: Dialogue) -> None:
        """A dialogue of a dataset is written."""
        self.dialogues += 1
        learned = dialogue.learned
        for place, message in enumerate(dialogue.messages):
            if message.role == "assistant" and (learned is None or place in learned):
                self.reply(message.content)

    def report(self, zone: tzinfo | None) -> Report:
        """The figures, with months and hours as clocks in `zone` showed them."""
        dropped, read = self.reasons.total(), sum(source.rows for source in self._sources)
        months, _ = months_and_hours(self._quarters, zone)
        _, hours = months_and_hours(self._spoken, zone)
        return Report(
            tuple(self._sources),
            read,
            self.kept,
            dropped,
            dict(self.reasons.most_common()),
            tuple(self._faults),
            self.dialogues,
            self.texts,
            self.replies,
            dict(self.masked.most_common()),
            months,
            hours if self._spoken else (),
            tuple(self._lengths[place] for place in range(len(LENGTHS))),
            tuple(count for _, count in self._chats.most_common()),
        )


def beside(output: Path) -> Path:
    """Where the report of a corpus stands."""
    return output.with_name(output.name + ".report.json")


def save(report: Report, output: Path) -> None:
    """Write the report beside `output`, whole or not at all."""
    write_json(beside(output), asdict(report))


def load(output: Path) -> Report:
    """The report beside `output`, or in it. Raises ReportMissing."""
    path = output if output.name.endswith(".report.json") else beside(output)
    try:
        return _report(json.loads(path.read_text("utf-8")))
    except FileNotFoundError as error:
        raise ReportMissing(
            f"{path} is missing: it is written by nightschool corpus import, identity and roles"
        ) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ReportMissing(f"{path} is not the report of a corpus: {error}") from error


def row(report: Report) -> dict[str, Any]:
    """The report as JSON has it."""
    return asdict(report)


def _report(row: dict[str, Any]) -> Report:
    rows: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in row.items()}
    rows["sources"] = tuple(Source(**one) for one in row["sources"])
    rows["faults"] = tuple(Fault(**one) for one in row["faults"])
    return Report(**rows)


def _bucket(length: int) -> int:
    return max(place for place, least in enumerate(LENGTHS) if length >= least or place == 0)
