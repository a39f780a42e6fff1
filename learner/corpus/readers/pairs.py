"""Reads datasets of a question and its answer a row: Alpaca, and pairs of 问 and 答 as style transfer has them.

Knows nothing of what becomes of the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from learner.corpus.dialogues import Dialogue
from learner.corpus.readers import Reading
from learner.corpus.readers.json_rows import json_rows
from learner.corpus.rows import Dropped, Given, Row, malformed
from learner.engine.base import ChatMessage


def read_alpaca(path: Path, reading: Reading) -> Iterator[Row]:
    """Rows of {instruction, input?, output, system?, history?}; `history` is pairs of question and answer."""
    for line, row in json_rows(path):
        yield row if isinstance(row, Dropped) else _alpaca(row, line, path)


def read_styled(path: Path, reading: Reading) -> Iterator[Row]:
    """Rows of {问, 答, topic?}."""
    for line, row in json_rows(path):
        yield row if isinstance(row, Dropped) else _styled(row, line, path)


def answered(messages: list[ChatMessage], source: str, about: dict[str, Any] | None = None) -> Row:
    """A dialogue of `messages`, or why it is none: somebody must answer something."""
    if messages and messages[-1].role != "assistant":
        return Dropped("no answer")
    if not messages or not all(one.content.strip() for one in messages if one.role != "system"):
        return Dropped("empty")
    return Given((Dialogue(tuple(messages), source, None, about or {}),))


def _alpaca(row: Any, line: int, path: Path) -> Row:
    if not isinstance(row, dict) or not isinstance(row.get("instruction"), str):
        return malformed(line, "expected {instruction, input, output}, instruction being a text")
    for name in ("input", "output", "system"):
        if not isinstance(row.get(name) or "", str):
            return malformed(line, f"{name} is to be a text")
    history = row.get("history") or []
    if not isinstance(history, list) or not all(_is_pair(one) for one in history):
        return malformed(line, "history is to be a list of [question, answer]")
    asked = "\n".join(part for part in (row["instruction"], row.get("input") or "") if part)
    messages = [ChatMessage("system", row["system"])] if row.get("system") else []
    pairs = [*((question, answer) for question, answer in history), (asked, row.get("output") or "")]
    for number, (question, answer) in enumerate(pairs):
        if question or number:  # an empty question at the start: the assistant spoke first
            messages.append(ChatMessage("user", question))
        messages.append(ChatMessage("assistant", answer))
    if not any(one.role == "user" for one in messages) and not messages[-1].content.strip():
        return Dropped("empty")
    return answered(messages, f"alpaca:{path.name}")


def _is_pair(one: Any) -> bool:
    return isinstance(one, list) and len(one) == 2 and all(isinstance(part, str) for part in one)


def _styled(row: Any, line: int, path: Path) -> Row:
    if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in ("问", "答")):
        return malformed(line, "expected {问, 答}, both being texts")
    about = {"topic": row["topic"]} if row.get("topic") else {}
    return answered([ChatMessage("user", row["问"]), ChatMessage("assistant", row["答"])], f"styled:{path.name}", about)
