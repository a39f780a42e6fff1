"""The file that every corpus command writes and every training reads: one dialogue a line.

Knows nothing of where a dialogue came from or what is trained on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from learner.engine.base import ChatMessage, Role

ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class Dialogue:
    """Some messages of one conversation, in order; those of the assistant are what is to be learned.

    `source` says where it came from ("memotrace:FILE", "character:NAME"), `about` whatever else its maker knows.
    An assistant may speak first. `learned` names the messages (by index) that train; None: every assistant's.
    """

    messages: tuple[ChatMessage, ...]
    source: str = ""
    learned: tuple[int, ...] | None = None
    about: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line, without its end."""
        row: dict[str, Any] = {"messages": [{"role": one.role, "content": one.content} for one in self.messages]}
        row |= {"source": self.source} if self.source else {}
        row |= {"learned": list(self.learned)} if self.learned is not None else {}
        row |= {"about": self.about} if self.about else {}
        return json.dumps(row, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> Dialogue:
        """The dialogue of one line. Raises ValueError, which says what is wrong."""
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"not JSON: {error}") from error
        if not isinstance(row, dict) or not isinstance(row.get("messages"), list) or not row["messages"]:
            raise ValueError('expected {"messages": [{"role": …, "content": …}, …]}')
        messages = tuple(_message(one, number) for number, one in enumerate(row["messages"]))
        return cls(messages, str(row.get("source", "")), _learned(row, messages), dict(row.get("about") or {}))


def write(path: Path, dialogues: Iterable[Dialogue]) -> int:
    """Write `path` whole or not at all; the number of dialogues."""
    count, unfinished = 0, path.with_name(path.name + ".part")
    with unfinished.open("w", encoding="utf-8") as file:
        for dialogue in dialogues:
            file.write(dialogue.to_json() + "\n")
            count += 1
    unfinished.replace(path)
    return count


def read(path: Path) -> Iterator[Dialogue]:
    """The dialogues of `path`, one at a time. Raises ValueError with the file and line of what can't be read."""
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield Dialogue.from_json(line)
                except ValueError as error:
                    raise ValueError(f"{path}:{number}: {error}") from error


def _message(row: Any, number: int) -> ChatMessage:
    if not isinstance(row, dict) or row.get("role") not in ROLES or not isinstance(row.get("content"), str):
        raise ValueError(f"messages.{number}: expected a role of {', '.join(ROLES)} and a text as content")
    return ChatMessage(row["role"], row["content"])


def _learned(row: dict[str, Any], messages: tuple[ChatMessage, ...]) -> tuple[int, ...] | None:
    learned = row.get("learned")
    if learned is None:
        return None
    if not isinstance(learned, list) or not all(
        isinstance(i, int) and 0 <= i < len(messages) and messages[i].role == "assistant" for i in learned
    ):
        raise ValueError("learned: expected the indices of assistant messages")
    return tuple(learned)
