"""Reads plain texts for pretraining: JSON rows of {text}, or a .txt file cut at its blank lines.

Knows nothing of what becomes of the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from learner.corpus.opening import encoding_of, open_text, undecoded
from learner.corpus.readers import Reading
from learner.corpus.readers.json_rows import json_rows
from learner.corpus.rows import Dropped, Given, Row, malformed


def read_text(path: Path, reading: Reading) -> Iterator[Row]:
    """A row for each {text}, or for each paragraph."""
    if path.suffix.lower() == ".txt":
        yield from _paragraphs(path)
        return
    for line, row in json_rows(path):
        yield row if isinstance(row, Dropped) else _row(row, line)


def _row(row: Any, line: int) -> Row:
    text = row.get("text") if isinstance(row, dict) else row
    if not isinstance(text, str):
        return malformed(line, "expected {text}, a text")
    return Given((), (text,)) if text.strip() else Dropped("empty")


def _paragraphs(path: Path) -> Iterator[Row]:
    encoding = encoding_of(path)
    with open_text(path, encoding=encoding) as file:
        lines, first = list[str](), 1
        for number, line in enumerate(_and_blank(file), start=1):
            if line.strip():
                first = first if lines else number
                lines.append(line)
            elif lines:
                text = "".join(lines).rstrip("\n")
                broken = not encoding.clean and undecoded(text)
                yield malformed(first, "holds bytes that can't be decoded") if broken else Given((), (text,))
                lines.clear()


def _and_blank(file: Any) -> Iterator[str]:
    yield from file
    yield ""
