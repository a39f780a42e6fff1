"""Keeps every answer that was paid for: one line of JSON each, on the disk before it counts.

Knows nothing of what was asked: a question is its key.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from learner.corpus.synthesis.errors import ItemFailed, JournalError
from learner.corpus.synthesis.wire import Answer
from learner.durable import sync_folder

MARK = "under_way"
MARK_SIGN = b', "under_way": '
BEGINNING = b'{"key": "'  # of every line, whole or torn


@dataclass(frozen=True)
class Entry:
    """What is known of one question: its answer, or that the endpoint refuses it for good."""

    key: str
    kind: str
    answer: Answer | None
    refused: str = ""

    def to_json(self) -> str:
        """One line, without its end."""
        row: dict[str, Any] = {"key": self.key, "kind": self.kind}
        if self.answer is None:
            return json.dumps(row | {"refused": self.refused}, ensure_ascii=False)
        a = self.answer
        row |= {"text": a.text, "finish": a.finish, "in": a.prompt_tokens, "out": a.completion_tokens}
        return json.dumps(row | ({} if a.counted else {"counted": False}), ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> Entry:
        """The entry of one line. Raises ValueError."""
        try:
            row = json.loads(line)
            key, kind = str(row["key"]), str(row["kind"])
            if "refused" in row:
                return cls(key, kind, None, str(row["refused"]))
            counted = bool(row.get("counted", True))
            answer = Answer(str(row["text"]), str(row["finish"]), int(row["in"]), int(row["out"]), counted)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError("no entry of a journal") from error
        return cls(key, kind, answer)


class Journal:
    """An append-only file that one run at a time holds: `with Journal(path) as journal`.

    A line that a crash left half-written is closed off and passed over; its call is made again. `interrupted` counts
    the calls that were under way when earlier runs were killed: they may have been charged, and are made again.
    """

    def __init__(self, path: Path, retry_refused: bool = False) -> None:
        self.path = path
        self._retry_refused = retry_refused
        self._known: dict[str, Entry] = {}
        self.interrupted = 0
        self._lock = FileLock(path.with_name(f".{path.name}.lock"))
        self._file: Any = None

    def __enter__(self) -> Journal:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise JournalError(f"another run is at work on {self.path}; wait for it, or stop it") from error
        try:
            self._known, self.interrupted = _scan(self.path)
            self._file = self.path.open("ab")
            if self._file.tell() and not self.path.read_bytes().endswith(b"\n"):
                self._append(b"\n")
            sync_folder(self.path.parent)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        self._lock.release()

    def answer(self, key: str) -> Answer | None:
        """What was answered to `key`; None when it never was. Raises ItemFailed where it was refused."""
        entry = self._known.get(key)
        if entry is None or (entry.answer is None and self._retry_refused):
            return None
        if entry.answer is None:
            raise ItemFailed("refused", entry.refused, lasting=True)
        return entry.answer

    def begin(self, key: str) -> None:
        """Note that a call is about to be sent. Not flushed to the disk: it need only outlive this process."""
        self._file.write(json.dumps({"key": key, MARK: 1}).encode() + b"\n")
        self._file.flush()

    def end(self, key: str) -> None:
        """Note that a call ended without an answer."""
        self._file.write(json.dumps({"key": key, MARK: -1}).encode() + b"\n")
        self._file.flush()

    def keep(self, entry: Entry) -> None:
        """Write an entry down; when this returns, it outlives a crash."""
        self._append(entry.to_json().encode() + b"\n")
        self._known[entry.key] = entry

    def entries(self) -> tuple[Entry, ...]:
        """All that is kept."""
        return tuple(self._known.values())

    def _append(self, line: bytes) -> None:
        self._file.write(line)
        self._file.flush()
        os.fsync(self._file.fileno())


def read(path: Path) -> dict[str, Entry]:
    """The entries of a journal by key, without holding it. Raises JournalError when the file is something else."""
    return _scan(path)[0]


def _scan(path: Path) -> tuple[dict[str, Entry], int]:
    """The entries, and how many calls were begun and never ended."""
    known: dict[str, Entry] = {}
    under_way = 0
    for number, line in enumerate(path.read_bytes().split(b"\n") if path.exists() else (), start=1):
        try:
            if (mark := _mark(line)) is not None:
                under_way += mark
                continue
            entry = Entry.from_json(line.decode("utf-8"))
        except ValueError:
            if not (line.startswith(BEGINNING) or BEGINNING.startswith(line)):
                raise JournalError(f"{path}:{number}: no line of a journal; move it away, or change --output") from None
            continue
        known[entry.key] = entry
        under_way -= 1
    return known, max(0, under_way)


def _mark(line: bytes) -> int | None:
    """What a line of `begin` or `end` counts; None for any other."""
    if MARK_SIGN not in line:
        return None
    row = json.loads(line)
    return int(row[MARK]) if isinstance(row, dict) and isinstance(row.get(MARK), int) else None
