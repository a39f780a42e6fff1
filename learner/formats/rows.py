"""Reads rows of JSON out of a file: an array, a row a line, or rows one after another. Reports what is no JSON.

Knows nothing of what the rows mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BETWEEN = re.compile(r"[\s,]*")
NOT_JSON = "not_json"
_DECODER = json.JSONDecoder()


class FileUnreadable(ValueError):
    """A file is missing, no text in UTF-8, or no file."""


@dataclass(frozen=True)
class Row:
    """What stands at `number` (from 1; of a row a line, the line); `fault` says why it can't be read."""

    number: int
    value: Any = None
    fault: str = ""


def rows_of(path: Path) -> Iterator[Row]:
    """The rows of `path`, in order. Raises FileUnreadable.

    A broken line costs itself; an array that breaks off gives what stands before.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise FileUnreadable(f"{path} can't be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise FileUnreadable(f"{path} is not UTF-8 (byte {exc.start}); save it as UTF-8 and import it again") from exc
    if text.lstrip().startswith("["):
        return _values(text, text.index("[") + 1, closed=True)
    return _lines(text) if _is_lines(text) else _values(text, 0)


def _is_lines(text: str) -> bool:
    """Whether the first line is a row as it stands, or no row begins there at all: then that line is broken."""
    first = next(_lines(text), None)
    whole = next(_values(text, 0), None)
    return first is None or not first.fault or whole is None or bool(whole.fault)


def _lines(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield Row(number, json.loads(line))
        except (ValueError, RecursionError):
            yield Row(number, fault=NOT_JSON)


def _values(text: str, at: int, closed: bool = False) -> Iterator[Row]:
    """Rows from `at` on; what should be `closed` by a bracket and is not has one more, which is cut off."""
    number = 1
    while (at := _past(text, at)) < len(text) and text[at] != "]":
        try:
            value, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            yield Row(number, fault=NOT_JSON)  # nobody can tell where the next one begins
            return
        yield Row(number, value)
        number += 1
    if closed and at >= len(text):
        yield Row(number, fault=NOT_JSON)


def _past(text: str, at: int) -> int:
    between = BETWEEN.match(text, at)
    return between.end() if between else at
