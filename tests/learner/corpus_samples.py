"""Writes files as other tools write them, and imports them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from learner.corpus import dialogues
from learner.corpus.dialogues import Dialogue
from learner.corpus.importing import Wishes, import_files
from learner.corpus.readers import Reading
from learner.corpus.report import Report

MEMOTRACE = (
    "localId", "TalkerId", "Type", "SubType", "IsSender", "CreateTime",
    "Status", "StrContent", "StrTime", "Remark", "NickName", "Sender",
)  # fmt: skip
WECLONE = ("id", "MsgSvrID", "type_name", "is_sender", "talker", "room_name", "msg", "src", "CreateTime")
NOON = 1_700_000_000 // 86400 * 86400 + 12 * 3600
MINUTE, HOUR = 60, 3600


class Wrote(NamedTuple):
    """A message as a test tells it; `chat` is who it is with, and `me` speaks or the one of that name."""

    chat: str
    who: str
    text: str
    at: int
    kind: int = 1


def memotrace(path: Path, said: Iterable[Wrote], encoding: str = "utf-8-sig", remarks: bool = True) -> Path:
    """The export of all chats: the names on every row are those of the chat."""
    numbers: dict[str, int] = {}
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(MEMOTRACE)
        for place, one in enumerate(said):
            number = numbers.setdefault(one.chat, len(numbers) + 1)
            remark, nick = (one.chat, "") if remarks else ("", "")
            sender = "我" if one.who == "me" else one.who
            mine = int(one.who == "me")
            writer.writerow([place, number, one.kind, 0, mine, one.at, 2, one.text, "", remark, nick, sender])
    return path


def weclone(path: Path, said: Iterable[Wrote]) -> Path:
    """One file for all rooms, as a table of all has it; times are written in UTC."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(WECLONE)
        for place, one in enumerate(said):
            kind = "文本" if one.kind == 1 else "图片"
            at = f"{datetime.fromtimestamp(one.at, UTC):%Y-%m-%d %H:%M:%S}"
            writer.writerow([place, place + 10**9, kind, int(one.who == "me"), one.who, one.chat, one.text, "", at])
    return path


def telegram(path: Path, said: Sequence[Wrote], group: bool = False) -> Path:
    """An export of all chats, as private ones or as groups."""
    chats: dict[str, list[dict[str, Any]]] = {}
    for place, one in enumerate(said):
        row = {
            "id": place,
            "type": "message",
            "date": f"{datetime.fromtimestamp(one.at, UTC):%Y-%m-%dT%H:%M:%S}",
            "from": one.who,
            "from_id": f"user{one.who}",
            "text": one.text,
        } | ({} if one.kind == 1 else {"photo": "(File not included)"})
        chats.setdefault(one.chat, []).append(row)
    kind = "private_group" if group else "personal_chat"
    listed = [{"name": name, "type": kind, "id": name, "messages": rows} for name, rows in chats.items()]
    export = {"about": "…", "personal_information": {"user_id": "me"}, "chats": {"about": "", "list": listed}}
    path.write_text(json.dumps(export, ensure_ascii=False, indent=1), "utf-8")
    return path


def imported(path: Path | Sequence[Path], **wishes: Any) -> tuple[Report, list[Dialogue]]:
    """What an import makes of files; times are UTC, personal data stays unless a test says otherwise."""
    paths = [path] if isinstance(path, Path) else list(path)
    output = paths[0].with_name("corpus.jsonl")
    wishes = {"reading": Reading(zone=UTC), "keep_personal": True} | wishes
    report = import_files(paths, output, Wishes(**wishes))
    assert report.read == report.kept + report.dropped == sum(source.rows for source in report.sources)
    assert report.dropped == sum(report.reasons.values())
    found = [] if report.texts and not report.dialogues else list(dialogues.read(output))
    assert report.dialogues == len(found)
    return report, found


def said_in(found: Iterable[Dialogue]) -> list[tuple[str, str]]:
    """Role and text of all messages, one after the other."""
    return [(message.role, message.content) for dialogue in found for message in dialogue.messages]
