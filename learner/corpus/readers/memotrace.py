"""Reads the CSV that MemoTrace (留痕, WeChatMsg) writes: all chats in one file, or one chat.

Knows nothing of conversations. In the export of all chats `Remark` and `NickName` say who the *chat* is with, on
one's own rows too; in that of one group they say who *speaks*, and that of one private chat has neither:
its rows end after `StrTime`. `TalkerId` numbers the chats of one of WeChat's several databases, so that two chats
may share a number: where the names are the chat's, they tell them apart.
"""

from __future__ import annotations

import html
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from learner.corpus.media import SYSTEM
from learner.corpus.readers import Reading
from learner.corpus.readers.csv_rows import table
from learner.corpus.rows import TEXT, Dropped, Row, Said, malformed

COLUMNS = (  # those that must be there first; an export's own order is another
    "TalkerId", "Type", "IsSender", "CreateTime", "StrContent", "SubType", "Remark", "NickName", "Sender",
)  # fmt: skip
NEEDED = 5
KINDS = {
    1: TEXT, 3: "image", 34: "voice", 42: "card", 43: "video", 47: "sticker", 48: "location", 50: "call",
    62: "video", 10000: SYSTEM, 10002: SYSTEM,
}  # fmt: skip
SHARED = {  # SubType of Type 49
    3: "music", 5: "link", 6: "file", 8: "sticker", 19: "records", 33: "miniprogram", 36: "miniprogram",
    40: "records", 51: "video", 57: "quote", 62: SYSTEM, 63: "video", 87: SYSTEM, 2000: "money", 2001: "money",
    2003: "money",
}  # fmt: skip
TITLE = re.compile(r"<title>(?:<!\[CDATA\[(.*?)\]\]>|(.*?))</title>", re.DOTALL)
LATEST = 10**11  # a time beyond is in milliseconds


NAMELESS = ("", "")
Name = tuple[str, str]  # Remark and NickName


@dataclass
class _Talker:
    """What the rows of one TalkerId hold."""

    named_by_me: set[Name] = field(default_factory=set)
    senders: dict[Name, set[str]] = field(default_factory=lambda: defaultdict(set))  # on others' rows, by their name


@dataclass(frozen=True)
class _Chats:
    """Which chat a row belongs to, as far as the file's names tell."""

    path: Path
    talkers: dict[str, _Talker]
    named: bool  # the names on a row are the chat's

    def of(self, talker: str, name: Name) -> tuple[str, bool]:
        """The chat's key, and whether it is a group."""
        senders = self.talkers[talker].senders
        if self.named and name != NAMELESS:
            return f"memotrace\0{talker}\0{name[0]}\0{name[1]}", len(senders.get(name, ())) > 1
        theirs = (found for one, found in senders.items() if not self.named or one == NAMELESS)
        return f"memotrace\0{talker}\0{self.path}", len(set[str]().union(*theirs)) > 1


def holds(head: list[str]) -> bool:
    """Whether a CSV file with this head is one of MemoTrace's."""
    return set(COLUMNS[:NEEDED]) <= set(head)


def read_memotrace(path: Path, reading: Reading) -> Iterator[Row]:
    """The messages of `path`. The file is read twice: first for what its names name."""
    chats = _chats(path)
    found = dict[tuple[str, Name], tuple[str, bool]]()
    for row in table(path, COLUMNS, NEEDED):
        if isinstance(row, Dropped):
            yield row
            continue
        line, (talker, type_, is_sender, time, content, sub_type, remark, nick, sender) = row
        key = (talker, (remark, nick))
        chat = found.get(key) or found.setdefault(key, chats.of(*key))
        try:
            kind, at = _kind(int(type_), int(sub_type or 0)), int(time)
        except ValueError:
            yield malformed(line, "Type, SubType and CreateTime are to be whole numbers")
            continue
        if is_sender not in ("0", "1"):
            yield malformed(line, "IsSender is to be 0 or 1")
        elif kind == SYSTEM:
            yield Dropped("system message")
        else:
            text = content if kind == TEXT else _own_words(content) if kind == "quote" else ""
            kind = TEXT if text else kind
            at = at // 1000 if at > LATEST else at
            yield Said(chat[0], sender or remark or nick, is_sender == "1", at, text, kind, chat[1])


def _chats(path: Path) -> _Chats:
    talkers: dict[str, _Talker] = defaultdict(_Talker)
    for row in table(path, COLUMNS, NEEDED):
        if not isinstance(row, Dropped):
            talker, _, is_sender, _, _, _, remark, nick, sender = row[1]
            if is_sender == "1":
                talkers[talker].named_by_me.add((remark, nick))
            else:
                talkers[talker].senders[remark, nick].add(sender or remark or nick)
    named = any((one.named_by_me & set(one.senders)) - {NAMELESS} for one in talkers.values())
    return _Chats(path, talkers, named)


def _kind(type_: int, sub_type: int) -> str:
    return SHARED.get(sub_type, "link") if type_ == 49 else KINDS.get(type_, "other")


def _own_words(content: str) -> str:
    """What is said in a message that quotes another: the title of its XML, or all of it where it is none."""
    if not content.lstrip().startswith("<"):
        return content
    title = TITLE.search(content)
    return html.unescape(title[1] or title[2] or "") if title else ""
