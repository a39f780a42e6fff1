"""Reads the CSV of PyWxDump that WeClone works on, and its own.

Knows nothing of conversations. `room_name` is the chat; where a file leaves it out, its folder is, as WeClone
keeps a folder for each person with that person's messages in several files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from learner.corpus.clock import unix_time
from learner.corpus.media import FORWARDED, SYSTEM
from learner.corpus.readers import Reading
from learner.corpus.readers.csv_rows import table
from learner.corpus.rows import TEXT, Dropped, Row, Said, malformed

COLUMNS = (  # those that must be there first; a file's own order is another
    "type_name", "is_sender", "msg", "CreateTime", "talker", "room_name", "MsgSvrID", "is_forward",
)  # fmt: skip
NEEDED = 4
KINDS = {  # the names that PyWxDump and WeClone give, in Chinese and in English, divided by "|"
    TEXT: "文本|text",
    "quote": "引用回复|带有引用的文本消息|reply with quote|quote",
    "image": "图片|image|photo",
    "voice": "语音|voice",
    "video": "视频|video|(分享)视频号视频|(share) video account video",
    "sticker": "动画表情|sticker|emoji|用户上传的gif表情",
    "file": "文件|file",
    "link": "(分享)卡片式链接|卡片式链接|(share) card link|link|(分享)笔记|(share) note|(分享)收藏夹|(share) favorites"
    "|粘贴的文本|pasted text",
    "music": "(分享)音乐|(share) music",
    "miniprogram": "(分享)小程序|小程序|分享的小程序|(share) mini program",
    "location": "位置|位置共享|location|location sharing",
    "card": "推荐公众号|名片|(分享)视频号名片|(share) video account card|recommend official account",
    "call": "语音通话|视频通话|voice call|call",
    "money": "转账|转账消息|红包|transfer",
    "records": "合并转发的聊天记录|merged forward chat records",
    SYSTEM: "系统通知|消息撤回|拍一拍|邀请加群|添加好友|群公告|system notification|message recall|pat pat"
    "|invite to group|add friend|group announcement",
}
KIND_OF = {name: kind for kind, names in KINDS.items() for name in names.split("|")}
QUOTED = ("\n\n[引用](", "\n[引用](", "\n\n「引用", "\n引用：")  # what PyWxDump puts after the words of a reply
YES = {"1", "true", "True", "TRUE"}


def holds(head: list[str]) -> bool:
    """Whether a CSV file with this head is one of these."""
    return set(COLUMNS[:NEEDED]) <= set(head)


def read_weclone(path: Path, reading: Reading) -> Iterator[Row]:
    """The messages of `path`. The file is read twice: first for which chats are groups."""
    groups = _groups(path)
    for row in table(path, COLUMNS, NEEDED):
        if isinstance(row, Dropped):
            yield row
            continue
        line, (type_name, is_sender, msg, time, talker, room, key, forwarded) = row
        at, kind = unix_time(time, reading.zone), KIND_OF.get(type_name.strip().lower(), "other")
        if at is None:
            yield malformed(line, "CreateTime is not a time as in 2024-10-04 11:42:05")
        elif is_sender not in ("0", "1"):
            yield malformed(line, "is_sender is to be 0 or 1")
        elif kind == SYSTEM:
            yield Dropped("system message")
        else:
            chat = _chat(room, path)
            text = msg if kind == TEXT else _own_words(msg) if kind == "quote" else ""
            kind = FORWARDED if forwarded in YES else TEXT if text else kind
            yield Said(f"weclone\0{chat}", talker, is_sender == "1", at, text, kind, chat in groups, key)


def _groups(path: Path) -> frozenset[str]:
    """The chats in which more than one other person speaks, or whose name says that they are rooms."""
    talkers: dict[str, set[str]] = defaultdict(set)
    for row in table(path, COLUMNS, NEEDED):
        if not isinstance(row, Dropped):
            _, is_sender, _, _, talker, room, _, _ = row[1]
            talkers[_chat(room, path)].update((talker,) if is_sender == "0" else ())
    return frozenset(chat for chat, found in talkers.items() if len(found) > 1 or chat.endswith("@chatroom"))


def _chat(room: str, path: Path) -> str:
    return room or f"\0{path.resolve().parent}"


def _own_words(text: str) -> str:
    """`text` without what it quotes."""
    for mark in QUOTED:
        text = text.partition(mark)[0]
    return text
