"""Brings the messages of many chats into the order of each chat, on disk, so that memory stays bounded.

Knows nothing of what is said. The file is SQLite's private temporary one: it has no name that
another process could open, and is gone when the process ends, however it ends.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import groupby
from marshal import dumps, loads  # half the time of a column for each value; only this process reads it
from operator import itemgetter
from typing import Any

from learner.corpus.rows import Said

CACHE_KIB = 32 * 1024
BATCH = 2000


class Spill:
    """Messages in, in any order; chats out, each sorted by time, then by arrival."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        for pragma in (f"cache_size=-{CACHE_KIB}", "journal_mode=OFF", "synchronous=OFF", "temp_store=FILE"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute("CREATE TABLE said (chat, at, rest)")
        self._database.execute("BEGIN")
        self._chats: dict[str, int] = {}
        self._waiting: list[tuple[Any, ...]] = []

    def add(self, said: Said) -> None:
        """Keep one message."""
        chat = self._chats.setdefault(said.chat, len(self._chats) + 1)
        self._waiting.append((chat, said.at, dumps((str(chat), *said[1:]))))
        if len(self._waiting) >= BATCH:
            self._write()

    def chats(self) -> Iterator[tuple[int, Iterator[Said]]]:
        """Each chat's number, from 1 in the order of its first message, with its messages.

        A chat's messages are to be taken before the next chat is asked for.
        """
        self._write()
        found = self._database.execute("SELECT chat, rest FROM said ORDER BY chat, at, rowid")
        for number, rows in groupby(found, key=itemgetter(0)):
            yield number, map(_said, rows)

    def close(self) -> None:
        """Delete what was kept."""
        self._database.close()

    def _write(self) -> None:
        self._database.executemany("INSERT INTO said VALUES (?, ?, ?)", self._waiting)
        self._waiting.clear()


def _said(row: tuple[Any, ...]) -> Said:
    return Said._make(loads(row[1]))
