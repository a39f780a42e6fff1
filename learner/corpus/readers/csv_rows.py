"""Reads a CSV file row by row and finds its way again after a row that is none.

Knows nothing of what the columns mean.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import TextIO

from learner.corpus.opening import encoding_of, open_text, undecoded
from learner.corpus.readers import Unreadable
from learner.corpus.rows import Dropped, malformed

LONGEST_FIELD = 16 * 2**20  # letters; a quote that is never closed must not swallow the file


class _Lines:
    """The lines of a file, which may be given back when they turn out to be no part of a row."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._again: deque[str] = deque()
        self._taken: list[str] = []
        self._number = 0  # of the last line that is known to be a row's

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._file)
        self._taken.append(line)
        return line

    def keep(self) -> int:
        """What was taken is a row; the number of its first line."""
        first = self._number + 1
        self._number += len(self._taken)
        self._taken.clear()
        return first

    def give_back(self) -> int:
        """Only the first line of what was taken was read; its number."""
        self._again.extendleft(reversed(self._taken[1:]))
        del self._taken[1:]
        return self.keep()


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]] | Dropped]:
    """The rows of `path`, its head first, each with the number of its first line, or why it is none.

    A row that is not closed costs its first line only: what follows is read anew.
    """
    csv.field_size_limit(LONGEST_FIELD)  # the module knows only one limit for all; its own is 128 KiB
    encoding = encoding_of(path)
    with open_text(path, newline="", encoding=encoding) as file:
        lines = _Lines(file)
        reader = csv.reader(lines, strict=True)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield malformed(lines.give_back(), f"not CSV: {error}")
                reader = csv.reader(lines, strict=True)
                continue
            first = lines.keep()
            if not encoding.clean and any(undecoded(field) for field in row):
                yield malformed(first, "holds bytes that are neither UTF-8 nor GB 18030")
            elif row:
                yield first, row


def table(path: Path, columns: Sequence[str], needed: int) -> Iterator[tuple[int, tuple[str, ...]] | Dropped]:
    """The rows of `path` below its head, each with the values of `columns` in this order.

    The head must name the first `needed` of them, in whatever order; the values of others that it does not name,
    or that a row ends before, are "". Raises Unreadable for another head.
    """
    rows = csv_rows(path)
    head = next(rows, None)
    names = [name.strip() for name in head[1]] if isinstance(head, tuple) else []
    if not set(columns[:needed]) <= set(names):
        raise Unreadable(f"{path}: the first line does not name the columns {', '.join(columns)}")
    places = [names.index(name) if name in names else len(names) for name in columns]
    of_row, least = itemgetter(*places), 1 + max(places[:needed])
    for row in rows:
        if isinstance(row, Dropped):
            yield row
            continue
        line, fields = row
        if not least <= len(fields) <= len(names):
            yield malformed(line, f"{len(fields)} fields, and the head names {len(names)}")
        else:
            fields += [""] * (len(names) + 1 - len(fields))
            yield line, of_row(fields)
