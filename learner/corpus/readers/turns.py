"""Reads datasets of whole conversations: ShareGPT, XTuner, LLaMA-Factory's messages, dialogues of a character.

Knows nothing of what becomes of the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from learner.corpus.dialogues import Dialogue
from learner.corpus.readers import Reading
from learner.corpus.readers.json_rows import json_rows
from learner.corpus.readers.pairs import answered
from learner.corpus.rows import Dropped, Given, Row, malformed
from learner.engine.base import ChatMessage, Role

ROLES: dict[str, Role] = {
    "system": "system", "developer": "system", "human": "user", "user": "user", "gpt": "assistant",
    "assistant": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "model": "assistant",
}  # fmt: skip
TOOLS = {"function", "function_call", "observation", "tool", "tool_call", "tool_response"}
Said = tuple[str, str, bool]  # who, what, whether it is learned where it is the assistant's


def read_sharegpt(path: Path, reading: Reading) -> Iterator[Row]:
    """Rows of {conversations: [{from, value}], system?}, or of {messages: [{role, content}]}."""
    for line, row in json_rows(path):
        yield row if isinstance(row, Dropped) else _conversation(row, line, f"sharegpt:{path.name}")


def read_character(path: Path, reading: Reading) -> Iterator[Row]:
    """Rows that are a list of {role, content}, or {messages: such a list}, or {prompt, output}."""
    for line, row in json_rows(path):
        yield row if isinstance(row, Dropped) else _conversation(row, line, f"character:{path.name}")


def read_xtuner(path: Path, reading: Reading) -> Iterator[Row]:
    """Rows of {conversation: [{system?, input, output}]}; without system and input they are texts for pretraining."""
    for line, row in json_rows(path):
        yield row if isinstance(row, Dropped) else _xtuner(row, line, path)


def _conversation(row: Any, line: int, source: str) -> Row:
    if isinstance(row, dict) and isinstance(row.get("prompt"), str) and isinstance(row.get("output"), str):
        return answered([ChatMessage("user", row["prompt"]), ChatMessage("assistant", row["output"])], source)
    turns = row if isinstance(row, list) else None
    if isinstance(row, dict):
        turns = next((row[name] for name in ("conversations", "messages") if isinstance(row.get(name), list)), None)
    if turns is None:
        return malformed(line, "expected a list of messages, {conversations: […]}, {messages: […]} or {prompt, output}")
    said = [_said(turn) for turn in turns]
    if any(one is None for one in said):
        number = said.index(None)
        return malformed(line, f"message {number}: expected {{from, value}} or {{role, content}}, both being texts")
    system = row.get("system") if isinstance(row, dict) else None
    if not isinstance(system or "", str):
        return malformed(line, "system is to be a text")
    return _dialogue([("system", system, True)] if system else [], [one for one in said if one], line, source)


def _said(turn: Any) -> Said | None:
    if not isinstance(turn, dict):
        return None
    who = turn["from"] if "from" in turn else turn.get("role")
    what = turn["value"] if "value" in turn else turn.get("content")
    if isinstance(what, list):  # LLaMA-Factory's v1: parts of a message
        parts = [part.get("value", part.get("text")) if isinstance(part, dict) else None for part in what]
        what = "".join(parts) if all(isinstance(part, str) for part in parts) else None  # type: ignore[arg-type]
    if not isinstance(who, str) or not isinstance(what, str):
        return None
    return who.lower(), what, turn.get("loss_weight", 1) != 0


def _dialogue(head: list[Said], said: list[Said], line: int, source: str) -> Row:
    if any(who in TOOLS for who, _, _ in said):
        return Dropped("tool call")
    strange = next((number for number, (who, _, _) in enumerate(said) if who not in ROLES), None)
    if strange is not None:
        return malformed(line, f"message {strange}: expected human, gpt, system, user or assistant")
    messages, learned, opened = list[ChatMessage](), list[int](), False
    for who, what, counts in [*head, *said]:
        role = ROLES[who]
        if role == "user" and not what and not opened:  # the assistant spoke first
            continue
        opened = opened or role != "system"
        learned += [len(messages)] if role == "assistant" and counts else []
        messages.append(ChatMessage(role, what))
    while messages and messages[-1].role == "user":  # nobody answered it
        messages.pop()
    row = answered(messages, source)
    if isinstance(row, Dropped) or len(learned) == sum(one.role == "assistant" for one in messages):
        return row
    return Given((Dialogue(tuple(messages), source, tuple(learned)),)) if learned else Dropped("no answer")


def _xtuner(row: Any, line: int, path: Path) -> Row:
    turns = row.get("conversation") if isinstance(row, dict) else None
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return malformed(line, "expected {conversation: [{system, input, output}]}")
    messages, texts = list[ChatMessage](), list[str]()
    for number, turn in enumerate(turns):
        parts = [turn.get(name) or "" for name in ("system", "input", "output")]
        if not all(isinstance(part, str) for part in parts):
            return malformed(line, f"conversation {number}: system, input and output are to be texts")
        system, asked, answer = parts
        if not (system or asked or messages):
            texts.append(answer)
            continue
        messages += [ChatMessage("system", system)] if system else []
        messages += [ChatMessage("user", asked)] if asked else []
        messages.append(ChatMessage("assistant", answer))
    if messages:
        return answered([*(ChatMessage("assistant", text) for text in texts), *messages], f"xtuner:{path.name}")
    texts = [text for text in texts if text.strip()]
    return Given((), tuple(texts)) if texts else Dropped("empty")
