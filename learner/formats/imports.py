"""Preference rows of other tools (TRL, LLaMA-Factory, XTuner, Chat-Style-Bot) as imported records. Pure.

Knows nothing of files or of the store. Texts are taken as they are, commas and blanks included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from learner.engine.base import ChatMessage
from learner.imported import ImportedRecord

From = Literal["auto", "trl", "llamafactory", "xtuner", "chat-style-bot"]
Columns = Mapping[str, Any]

# The columns that make a row one of a tool's, under the names of NAMES; a row fits by any of the sets.
SHAPES: Mapping[str, Sequence[frozenset[str]]] = {
    "trl": (frozenset({"chosen", "rejected"}), frozenset({"prompt", "completion", "label"})),
    "llamafactory": (
        frozenset({"conversations", "chosen", "rejected"}),
        frozenset({"instruction", "chosen", "rejected"}),
        frozenset({"conversations", "label"}),
        frozenset({"instruction", "output", "label"}),
        frozenset({"chosen_messages", "rejected_messages"}),
    ),
    "xtuner": (frozenset({"prompt", "chosen", "rejected"}),),
    "chat-style-bot": (frozenset({"conversations", "chosen", "rejected"}), frozenset({"conversations", "label"})),
}
FORMATS = ("auto", *SHAPES)
NAMES = {"choesn": "chosen", "kto_tag": "label", "messages": "conversations"}  # "choesn": Chat-Style-Bot's README
ROLES: Mapping[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
LABELS = {"true": True, "1": True, "false": False, "0": False}

REASONS = {
    "not_json": "it is not JSON",
    "not_an_object": "it is not a JSON object",
    "not_a_record": "it has the columns of no format that is known, or not of the one that --from names",
    "no_label": "it has a reply and no label of true or false",
    "no_prompt": "nothing was asked",
    "not_asked": "its prompt does not end with a person's words",
    "not_only_text": "a message has more than text, or no text",
    "unknown_role": "a message is by somebody else than system, user and assistant",
    "not_one_reply": "what is judged is not one message of the assistant",
    "empty_reply": "a reply is empty",
    "same_text": "both replies say the same",
    "duplicate": "it stands in the file twice",
    "known": "it was imported before",
}


class BadRow(ValueError):
    """A row gives no record; `reason` is a key of REASONS."""

    def __init__(self, reason: str) -> None:
        super().__init__(REASONS[reason])
        self.reason = reason


def record_of(row: object, source: From = "auto") -> ImportedRecord:
    """The record in a row of `source`'s format. Raises BadRow."""
    if not isinstance(row, dict):
        raise BadRow("not_an_object")
    columns = {NAMES.get(name) or name: value for name, value in row.items() if value is not None}
    _check_shape(columns, source)
    if columns.keys() & {"chosen", "chosen_messages"}:
        return _pair(columns)
    return _rated(columns)


def _check_shape(columns: Columns, source: From) -> None:
    shapes = [shape for name, own in SHAPES.items() if source in ("auto", name) for shape in own]
    if any(shape <= columns.keys() for shape in shapes):
        return
    unlabelled = any("label" in shape and shape - {"label"} <= columns.keys() for shape in shapes)
    raise BadRow("no_label" if unlabelled else "not_a_record")


def _pair(columns: Columns) -> ImportedRecord:
    chosen = _said(columns.get("chosen", columns.get("chosen_messages")))
    rejected = _said(columns.get("rejected", columns.get("rejected_messages")))
    prompt = _prompt(columns) if columns.keys() & {"prompt", "conversations", "instruction"} else None
    if prompt is None:
        prompt = [*_system(columns), *_shared(chosen, rejected)]
    replies = _reply(chosen, prompt), _reply(rejected, prompt)
    if replies[0].strip() == replies[1].strip():
        raise BadRow("same_text")
    return ImportedRecord(_asked(prompt), replies)


def _rated(columns: Columns) -> ImportedRecord:
    label = columns["label"]
    desirable = label if isinstance(label, bool) else LABELS.get(str(label).strip().lower())
    if desirable is None:
        raise BadRow("no_label")
    prompt = _prompt(columns)
    completion = columns.get("completion", columns.get("output"))
    if "conversations" in columns:
        if not prompt or prompt[-1].role != "assistant":
            raise BadRow("not_one_reply")
        prompt, completion = prompt[:-1], prompt[-1].content
    return ImportedRecord(_asked(prompt), (_reply(_said(completion), prompt),), desirable)


def _prompt(columns: Columns) -> list[ChatMessage]:
    """What was said before the reply, the system's words first."""
    given = columns.get("conversations", columns.get("prompt"))
    if isinstance(given, list):
        return [*_system(columns), *map(_message, given)]
    asked = given if given is not None else columns.get("instruction")
    parts = [part for part in (asked, columns.get("input")) if part != ""]
    if not all(isinstance(part, str) for part in parts if part is not None):
        raise BadRow("not_only_text")
    words = "\n".join(part for part in parts if part is not None)
    return [*_system(columns), *_history(columns), *([ChatMessage("user", words)] if words.strip() else [])]


def _system(columns: Columns) -> list[ChatMessage]:
    system = columns.get("system", "")
    return [ChatMessage("system", _text(system))] if system else []


def _history(columns: Columns) -> list[ChatMessage]:
    turns = columns.get("history") or []
    if not isinstance(turns, list) or not all(isinstance(turn, list) and len(turn) == 2 for turn in turns):
        raise BadRow("not_only_text")
    said = [(ChatMessage("user", _text(asked)), ChatMessage("assistant", _text(told))) for asked, told in turns]
    return [message for turn in said for message in turn]


def _said(value: object) -> list[ChatMessage]:
    """A reply as messages: text, a message, or a list of them."""
    if isinstance(value, list):
        return [_message(one) for one in value]
    return [_message(value) if isinstance(value, dict) else ChatMessage("assistant", _text(value))]


def _message(value: object) -> ChatMessage:
    if not isinstance(value, dict):
        raise BadRow("not_only_text")
    role = ROLES.get(str(value.get("role", value.get("from"))).strip().lower())
    if role is None:
        raise BadRow("unknown_role")
    return ChatMessage(role, _text(value.get("content", value.get("value"))))


def _text(value: object) -> str:
    """Text, or parts that are all text: [{"type": "text", "value" or "text": …}]."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise BadRow("not_only_text")
    parts = [part.get("text", part.get("value")) if _is_text(part) else None for part in value]
    if not all(isinstance(part, str) for part in parts):
        raise BadRow("not_only_text")
    return "".join(cast(list[str], parts))


def _is_text(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") == "text"


def _shared(chosen: Sequence[ChatMessage], rejected: Sequence[ChatMessage]) -> list[ChatMessage]:
    """What two conversations begin with alike, but for the last message of each."""
    shared: list[ChatMessage] = []
    for one, other in zip(chosen[:-1], rejected[:-1], strict=False):
        if one != other:
            break
        shared.append(one)
    return shared


def _reply(said: Sequence[ChatMessage], prompt: Sequence[ChatMessage]) -> str:
    """The one reply in `said`, which may begin with the prompt (as UltraFeedback's columns do)."""
    turns = [message for message in prompt if message.role != "system"]
    told = [message for message in said if message.role != "system"]
    if len(told) > 1 and told[: len(turns)] == turns:
        told = told[len(turns) :]
    if len(told) != 1 or told[0].role != "assistant":
        raise BadRow("not_one_reply")
    if not told[0].content.strip():
        raise BadRow("empty_reply")
    return told[0].content


def _asked(prompt: Sequence[ChatMessage]) -> tuple[ChatMessage, ...]:
    """`prompt` as a model is asked. An empty first line stands for nothing: it lets an assistant speak first."""
    head = [message for message in prompt if message.role == "system" and message.content.strip()]
    turns = [message for message in prompt if message.role != "system"]
    if len(turns) > 1 and turns[0].role == "user" and not turns[0].content.strip():
        del turns[0]
    if not turns or not any(message.role == "user" and message.content.strip() for message in turns):
        raise BadRow("no_prompt")
    if turns[-1].role != "user":
        raise BadRow("not_asked")
    return (*head, *turns)
