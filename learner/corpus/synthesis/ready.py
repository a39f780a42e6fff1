"""Ready-made dialogues instead of made ones: our own file, or one JSON value a line as character datasets have it.

Knows nothing of endpoints. Other formats: `nightschool corpus import` turns them into our own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from learner.corpus.dialogues import Dialogue
from learner.corpus.synthesis import checking
from learner.corpus.synthesis.checking import Talk, Unfit
from learner.corpus.synthesis.errors import PromptError
from learner.corpus.synthesis.harvest import Rejected
from learner.engine.base import ChatMessage


def read(path: Path, name: str) -> Iterator[tuple[ChatMessage, ...] | Rejected]:
    """Each row's messages without the system's, or why it has none. `name` is the character's, which may be a role.

    A row is a line, or an element when the file is one JSON array: a dialogue of ours, a list of messages,
    an object that holds one, or {prompt, output}. Raises PromptError when the file can't be read at all.
    """
    for at, row in _rows(path):
        try:
            yield _messages(json.loads(row) if isinstance(row, str) else row, name)
        except (ValueError, ValidationError, RecursionError) as error:
            reason = "unreadable" if isinstance(error, json.JSONDecodeError) else "wrong shape"
            yield Rejected("ready", reason, f"{path}:{at}: {_first_line(error)}", str(row)[:2000])
        except Unfit as unfit:
            yield Rejected("ready", unfit.reason, f"{path}:{at}: {unfit.detail}", str(row)[:2000])


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"{path} can't be read: {error}") from error
    try:
        whole = json.loads(text)
    except ValueError:
        whole = None
    if isinstance(whole, list) and not _is_one_dialogue(whole):
        yield from enumerate(whole, start=1)
        return
    for number, line in enumerate(text.splitlines() if whole is None else [text], start=1):
        if line.strip():
            yield number, line


def _is_one_dialogue(rows: list[Any]) -> bool:
    return bool(rows) and all(isinstance(row, dict) and {"role", "content"} <= row.keys() for row in rows)


def _messages(row: Any, name: str) -> tuple[ChatMessage, ...]:
    if isinstance(row, dict) and {"prompt", "output"} <= row.keys():
        row = {"user": row["prompt"], "assistant": row["output"]}
    if isinstance(row, dict) and isinstance(row.get("messages"), list):
        row = row["messages"]
    return checking.messages(Talk.model_validate(row), name)


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return str(error.errors(include_input=False, include_url=False)[0]["msg"])
    return str(error).splitlines()[0]


def dialogues(path: Path) -> list[Dialogue]:
    """The dialogues of a file of ours. Raises PromptError."""
    from learner.corpus.dialogues import read as rows

    try:
        return list(rows(path))
    except (OSError, ValueError) as error:
        raise PromptError(f"{error}; nightschool corpus import turns other formats into dialogues") from error
