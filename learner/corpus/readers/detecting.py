"""Says which format a file is in, by what is in it.

Knows nothing of file names: exports are renamed.
"""

from __future__ import annotations

import csv
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

from learner.corpus.opening import open_text
from learner.corpus.readers import FORMATS, Unreadable, memotrace, telegram, weclone
from learner.corpus.readers.json_rows import json_rows
from learner.corpus.readers.json_stream import JsonStream, NotJson
from learner.corpus.rows import Dropped

LOOKED_AT = 50  # rows
HEAD = 4096  # letters
CHOICES = {"chosen", "rejected", "choesn", "chosen_messages", "completion"}


def format_of(path: Path) -> str:
    """The name of the format. Raises Unreadable."""
    with open_text(path, newline="") as file:
        start = file.read(HEAD).lstrip("\ufeff \t\r\n")
    if not start:
        raise Unreadable(f"{path} is empty")
    if not start.startswith(("{", "[")):
        return _of_table(path, start)
    if start.startswith("{") and _is_telegram(path):
        return "telegram"
    found = Counter(_of_row(row) for _, row in islice(json_rows(path), LOOKED_AT))
    del found[""]
    if not found:
        raise Unreadable(f"{path}: its rows look like none of {', '.join(FORMATS)}; name the format with --from")
    name = found.most_common(1)[0][0]
    if name == "preferences":
        raise Unreadable(f"{path} holds preferences, not dialogues: nightschool records import reads them")
    return name


def _of_table(path: Path, start: str) -> str:
    head = [name.strip() for name in next(csv.reader([start.splitlines()[0]]), [])]
    if memotrace.holds(head):
        return "memotrace"
    if weclone.holds(head):
        return "weclone"
    if path.suffix.lower() == ".txt":
        return "text"
    raise Unreadable(f"{path}: neither JSON nor a CSV file of MemoTrace or WeClone; name the format with --from")


def _is_telegram(path: Path) -> bool:
    """Whether the object at the start is an export: it is known by the names before its first messages."""
    with open_text(path) as file:
        stream = JsonStream(file)
        kind: Any = None
        try:
            for name in stream.members():
                if name in ("chats", "left_chats"):
                    return stream.peek() == "{"
                if name == "messages":
                    return kind in (*telegram.CHATS, *telegram.NOT_CHATS) or _is_telegram_message(stream)
                value = stream.value()
                kind = value if name == "type" else kind
        except NotJson:
            pass
    return False


def _is_telegram_message(stream: JsonStream) -> bool:
    if stream.peek() != "[":
        return False
    first = next(stream.elements(), (0, None))[1]
    return first is None or (isinstance(first, dict) and {"type", "date"} <= set(first))


def _of_row(row: Any) -> str:
    if isinstance(row, Dropped):
        return ""
    if isinstance(row, list):
        return "character" if row and all(isinstance(one, dict) and "content" in one for one in row) else ""
    if not isinstance(row, dict):
        return ""
    names = set(row)
    if names & CHOICES or {"messages", "label"} <= names:
        return "preferences"
    for name, needed in (
        ("sharegpt", {"conversations"}), ("xtuner", {"conversation"}), ("rolebench", {"role", "question", "generated"}),
        ("styled", {"问", "答"}), ("alpaca", {"instruction"}), ("character", {"prompt", "output"}),
        ("character", {"messages"}), ("text", {"text"}),
    ):  # fmt: skip
        if needed <= names:
            return name
    return ""
