"""Preference records in the formats of TRL and LLaMA-Factory, and dialogues in that of LLaMA-Factory.

Knows nothing of the store. TRL files are JSONL of message lists; LLaMA-Factory files are JSON arrays
in ShareGPT form, with their entry in the `dataset_info.json` beside them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from learner.corpus.dialogues import Dialogue
from learner.engine.base import ChatMessage
from learner.formats.files import write_json, write_jsonl
from learner.records import PreferencePair, PreferenceRecords, RatedReply

Kind = Literal["dpo", "kto"]
Format = Literal["trl", "llamafactory"]
Row = dict[str, Any]
KINDS = get_args(Kind)
FORMATS = get_args(Format)


class FormatError(ValueError):
    """A file or a wish that a format does not allow."""


def export(records: PreferenceRecords, kind: Kind, format: Format, path: Path) -> int:
    """Write the pairs ("dpo") or the ratings ("kto") to `path`; returns how many rows.

    Raises FormatError for an unknown kind or format and a broken dataset_info.json.
    """
    if kind not in KINDS or format not in FORMATS:
        raise FormatError(f"can't export {kind!r} as {format!r}: kind is one of {KINDS}, format one of {FORMATS}")
    rows = records.pairs if kind == "dpo" else records.ratings
    if format == "trl":
        write_jsonl(path, [trl_row(row) for row in rows])
    else:
        _write_llamafactory(rows, kind, path)
    return len(rows)


def export_dialogues(dialogues: Iterable[Dialogue], path: Path) -> tuple[int, int]:
    """Write dialogues for LLaMA-Factory's SFT, with their entry in dataset_info.json: how many, and of how many a part.

    LLaMA-Factory learns every reply of a dialogue: one that is not to be learned makes the dialogue end before it,
    and one without any is left out. Raises FormatError for a broken dataset_info.json.
    """
    registry = path.parent / "dataset_info.json"
    known = _read_registry(registry)
    rows: list[Row] = []
    parts = 0
    for dialogue in dialogues:
        messages = _learned_throughout(dialogue)
        parts += messages != dialogue.messages
        if messages:
            system, turns = _alternating(messages)
            rows.append({"conversations": [_line(turn) for turn in turns], "system": system})
    write_json(path, rows)
    entry = {"file_name": path.name, "formatting": "sharegpt"}
    write_json(registry, {**known, path.stem: {**entry, "columns": {"messages": "conversations", "system": "system"}}})
    return len(rows), parts


def _learned_throughout(dialogue: Dialogue) -> tuple[ChatMessage, ...]:
    """The beginning of a dialogue whose replies are all to be learned, up to the last of them."""
    replies = [place for place, one in enumerate(dialogue.messages) if one.role == "assistant"]
    wanted = replies if dialogue.learned is None else [place for place in replies if place in dialogue.learned]
    shared = 0
    while shared < len(wanted) and wanted[shared] == replies[shared]:
        shared += 1
    return dialogue.messages[: wanted[shared - 1] + 1] if shared else ()


def trl_row(record: PreferencePair | RatedReply) -> Row:
    """`record` as TRL's conversational preference or unpaired preference row."""
    prompt = [_message(message.role, message.content) for message in record.prompt]
    if isinstance(record, RatedReply):
        completion = [_message("assistant", record.completion)]
        return {"prompt": prompt, "completion": completion, "label": record.desirable}
    return {
        "prompt": prompt,
        "chosen": [_message("assistant", record.chosen)],
        "rejected": [_message("assistant", record.rejected)],
    }


def llamafactory_row(record: PreferencePair | RatedReply) -> Row:
    """`record` as LLaMA-Factory's ShareGPT DPO or KTO row, the system prompt in its own column."""
    system, turns = _alternating(record.prompt)
    if isinstance(record, RatedReply):
        turns.append(ChatMessage("assistant", record.completion))
        messages = [_message(turn.role, turn.content) for turn in turns]
        return {"messages": messages, "label": record.desirable, "system": system}
    return {
        "conversations": [_line(turn) for turn in turns],
        "chosen": {"from": "gpt", "value": record.chosen},
        "rejected": {"from": "gpt", "value": record.rejected},
        "system": system,
    }


def dataset_info(kind: Kind, file_name: str) -> Row:
    """What LLaMA-Factory's dataset_info.json has to say about the file."""
    info: Row = {"file_name": file_name, "formatting": "sharegpt"}
    if kind == "dpo":
        columns = {name: name for name in ("chosen", "rejected", "system")}
        return {**info, "ranking": True, "columns": {"messages": "conversations", **columns}}
    tags = {"role_tag": "role", "content_tag": "content"}
    roles = {"user_tag": "user", "assistant_tag": "assistant", "system_tag": "system"}
    columns = {"messages": "messages", "kto_tag": "label", "system": "system"}
    return {**info, "columns": columns, "tags": {**tags, **roles}}


def _write_llamafactory(rows: Sequence[PreferencePair | RatedReply], kind: Kind, path: Path) -> None:
    registry = path.parent / "dataset_info.json"
    known = _read_registry(registry)  # before anything is written: it may be broken
    write_json(path, [llamafactory_row(row) for row in rows])
    write_json(registry, {**known, path.stem: dataset_info(kind, path.name)})


def _read_registry(path: Path) -> Row:
    if not path.exists():
        return {}
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise FormatError(f"{path} is not JSON ({exc}); mend it or export to another folder") from exc
    if not isinstance(known, dict):
        raise FormatError(f"{path} is not a JSON object; mend it or export to another folder")
    return known


def _alternating(prompt: Sequence[ChatMessage]) -> tuple[str, list[ChatMessage]]:
    """The system prompt, and turns that go user, assistant, …, user, as LLaMA-Factory demands.

    Neighbours of one role are joined by a line break; a bot that spoke first answers an empty line.
    """
    system = "\n".join(message.content for message in prompt if message.role == "system")
    turns: list[ChatMessage] = []
    for message in prompt:
        if message.role == "system":
            continue
        if turns and turns[-1].role == message.role:
            message = ChatMessage(message.role, f"{turns.pop().content}\n{message.content}")
        turns.append(message)
    if turns and turns[0].role == "assistant":
        turns.insert(0, ChatMessage("user", ""))
    return system, turns


def _line(turn: ChatMessage) -> Row:
    return {"from": "human" if turn.role == "user" else "gpt", "value": turn.content}


def _message(role: str, content: str) -> Row:
    return {"role": role, "content": content}
