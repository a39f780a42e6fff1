"""`nightschool records import`: other tools' preference files become exchanges and feedback.

Reads the files here and hands them over in batches, to the bot that runs or to the parts themselves.
Knows nothing of formats or tables.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bots.cli_learning import reach
from bots.control import ControlError
from bots.imports import as_json
from bots.settings import Settings
from learner.formats.dataset_info import layout_of
from learner.formats.imports import FORMATS, REASONS, BadRow, From, record_of
from learner.formats.rows import FileUnreadable, rows_of
from learner.imported import ImportedRecord, teacher_of

BATCH = 500  # records a call: one transaction, short enough that a bot that talks does not wait for it
SHOWN_FAULTS = 50  # on the terminal; --verbose shows all
SOURCE = re.compile(r"[^\x00-\x1f\x7f]{1,64}")
TEACHER = re.compile(r"[^:\s]+:.+")
Arguments = argparse.Namespace
HandOver = Callable[..., dict[str, Any]]


@dataclass
class Report:
    """What an import came to, as it goes: read = kept + dropped."""

    read: int = 0
    kept: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """The last line of `--json`."""
        dropped = sum(self.reasons.values())
        return {"read": self.read, "kept": self.kept, "dropped": dropped, "reasons": dict(sorted(self.reasons.items()))}

    def __str__(self) -> str:
        lines = [f"{self.read} rows read, {self.kept} records kept, {sum(self.reasons.values())} dropped"]
        return "\n".join([*lines, *(f"  {count}: {REASONS[reason]}" for reason, count in self.reasons.most_common())])


def add_commands(records: Any, add: Callable[..., Any]) -> Any:
    """Add `import` to `nightschool records`; returns it."""
    command = add(records, "import", records_import, "learn from preference files of other tools too")
    command.add_argument("files", nargs="+", type=Path, metavar="FILE", help="JSON or JSONL")
    command.add_argument(
        "--from", dest="format", choices=FORMATS, default="auto", help="whose format (default: each row's)"
    )
    command.add_argument("--source", default="", metavar="NAME", help="what to call it (default: the file's name)")
    command.add_argument(
        "--teacher",
        default="",
        metavar="PERSON",
        help="whose word it is, as in web:local (default: its own, which counts as yours)",
    )
    command.add_argument("--json", action="store_true", help="end with one line of JSON")
    return command


def records_import(settings: Settings, arguments: Arguments) -> int:
    """Import every file; 1 when one can't be read, or no row gives a record."""
    _check(arguments)
    report, unreadable = Report(), False
    with reach(settings) as call:
        for path in arguments.files:
            source = arguments.source or path.stem[:64]
            try:
                _import(path, source, arguments, report, call)
            except FileUnreadable as error:
                print(f"nightschool: {error}", file=sys.stderr)
                unreadable = True
                continue
            if not arguments.json:
                print(f"{path}: taught by {arguments.teacher or teacher_of(source)}")
    print(json.dumps(report.as_json(), ensure_ascii=False) if arguments.json else report)
    return 1 if unreadable or not (report.kept or report.reasons["known"]) else 0


def _check(arguments: Arguments) -> None:
    """Raises ControlError for names that can't be stored, before anything is."""
    if arguments.source and not SOURCE.fullmatch(arguments.source):
        raise ControlError("--source must be 1 to 64 characters on one line")
    if arguments.teacher and not TEACHER.fullmatch(arguments.teacher):
        raise ControlError(f"--teacher {arguments.teacher!r} is no person: write PLATFORM:ID, as in web:local")


def _import(path: Path, source: str, arguments: Arguments, report: Report, call: HandOver) -> None:
    seen: set[str] = set()
    batch: list[ImportedRecord] = []
    for number, record in _records(path, arguments, report):
        key = record.key("", source)
        if key in seen:
            _drop(report, path, number, "duplicate", arguments)
            continue
        seen.add(key)
        batch.append(record)
        if len(batch) == BATCH:
            _hand_over(batch, source, arguments, report, call)
            _show(report)
            batch = []
    _hand_over(batch, source, arguments, report, call)


def _records(path: Path, arguments: Arguments, report: Report) -> Iterator[tuple[int, ImportedRecord]]:
    """The records of a file with where they stand; what gives none is told of and counted."""
    source: From = arguments.format
    layout = layout_of(path) if source in ("auto", "llamafactory") else None
    for row in rows_of(path):
        report.read += 1
        try:
            if row.fault:
                raise BadRow(row.fault)
            yield row.number, record_of(layout.common(row.value) if layout else row.value, source)
        except BadRow as bad:
            _drop(report, path, row.number, bad.reason, arguments)


def _drop(report: Report, path: Path, number: int, reason: str, arguments: Arguments) -> None:
    report.reasons[reason] += 1
    dropped = sum(report.reasons.values())
    if dropped <= SHOWN_FAULTS or arguments.verbose:
        print(f"{path}, row {number}: {REASONS[reason]}", file=sys.stderr)
    elif dropped == SHOWN_FAULTS + 1:
        print("further rows that give no record are only counted; --verbose names them", file=sys.stderr)


def _hand_over(
    batch: Sequence[ImportedRecord], source: str, arguments: Arguments, report: Report, call: HandOver
) -> None:
    done = call("import_records", mind=arguments.mind, source=source, teacher=arguments.teacher, records=as_json(batch))
    report.kept += done["added"]
    if done["known"]:
        report.reasons["known"] += done["known"]


def _show(report: Report) -> None:
    if sys.stderr.isatty():
        print(f"\r{report.read} rows read, {report.kept} kept", end="", file=sys.stderr, flush=True)
