"""Reads the rows of a JSON array or of JSON lines one at a time, however long the file.

Knows nothing of what is in a row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from learner.corpus.opening import encoding_of, open_text, undecoded
from learner.corpus.readers.json_stream import JsonStream, NotJson
from learner.corpus.rows import Dropped, malformed

PEEK = 4 * 2**20  # letters of a line that is looked at


def json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Each row with the line where it begins; `Dropped` in the place of one that is not JSON."""
    clean = encoding_of(path).clean
    for line, row in _lines(path) if is_lines(path) else _array(path):
        if not clean and not isinstance(row, Dropped) and undecoded(json.dumps(row, ensure_ascii=False)):
            yield line, malformed(line, "holds bytes that are neither UTF-8 nor GB 18030")
        else:
            yield line, row


def is_lines(path: Path) -> bool:
    """Whether `path` holds a JSON value in each line, and not one array of rows."""
    with open_text(path) as file:
        first, second = ([*islice(filter(str.strip, _peeked(file)), 2), "", ""])[:2]
    first, second = first.strip(), second.strip()
    if not first.startswith("["):
        return True
    if second:
        return first.endswith("]") and second.startswith(("[", "{"))
    try:
        only = json.loads(first)
    except ValueError:
        return False
    # one line that is a list: an array of rows, unless it is the messages of one dialogue
    return bool(only) and all(isinstance(one, dict) and {"role", "content"} <= set(one) for one in only)


def _peeked(file: Any) -> Iterator[str]:
    while line := file.readline(PEEK):
        yield line


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                yield number, malformed(number, f"not JSON: {_fault(error)}")


def _array(path: Path) -> Iterator[tuple[int, Any]]:
    with open_text(path) as file:
        stream = JsonStream(file)
        try:
            for line, value in stream.elements():
                yield line, malformed(line, f"not JSON: {value}") if isinstance(value, NotJson) else value
        except NotJson as error:
            yield stream.line, malformed(stream.line, f"the rest is not JSON: {error}")


def _fault(error: Exception) -> str:
    return f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else "nested too deeply"
