"""Reads the JSON that Telegram Desktop exports: one chat, or all of them.

Knows nothing of conversations.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from learner.corpus.clock import unix_time
from learner.corpus.media import FORWARDED
from learner.corpus.opening import open_text
from learner.corpus.readers import Reading, Unreadable
from learner.corpus.readers.json_stream import JsonStream, NotJson
from learner.corpus.rows import TEXT, Dropped, Row, Said, malformed

CHATS = ("personal_chat", "private_group", "private_supergroup", "public_group", "public_supergroup")
NOT_CHATS = {
    "saved_messages": "saved messages",
    "bot_chat": "chat with a bot",
    "private_channel": "channel",
    "public_channel": "channel",
    "replies": "channel",
    "verification_codes": "chat with a bot",
}
MEDIA = {
    "sticker": "sticker", "voice_message": "voice", "video_message": "video", "video_file": "video",
    "animation": "sticker", "audio_file": "music",
}  # fmt: skip
HELD = {  # what a message without a media_type may hold
    "photo": "image", "location_information": "location", "contact_information": "card", "poll": "poll",
    "invoice_information": "money", "game_title": "other", "file": "file",
}  # fmt: skip


def read_telegram(path: Path, reading: Reading) -> Iterator[Row]:
    """The messages of `path`. Raises Unreadable where it does not say who is meant by me."""
    with open_text(path) as file:
        stream = JsonStream(file)
        if stream.peek() != "{":
            raise Unreadable(f"{path} is not an export of Telegram Desktop: expected result.json, an object")
        try:
            yield from _export(stream, path, reading)
        except NotJson as error:
            if not stream.gave_up:
                yield malformed(stream.line, f"not JSON from here on: {error}")


def _export(stream: JsonStream, path: Path, reading: Reading) -> Iterator[Row]:
    me = frozenset(reading.me)
    head: dict[str, Any] = {}  # where the export is of one chat, it stands at the top
    for name in stream.members():
        if name in ("chats", "left_chats") and stream.peek() == "{":
            for part in stream.members():
                if part != "list":
                    stream.value()
                    continue
                for _ in stream.each():
                    yield from _chat(stream, path, reading, me)
        elif name == "messages":
            yield from _messages(stream, head, path, reading, me)
        else:
            head[name] = stream.value()
            if name == "personal_information" and isinstance(head[name], dict) and not reading.me:
                me = frozenset((str(head[name].get("user_id")),))


def _chat(stream: JsonStream, path: Path, reading: Reading, me: frozenset[str]) -> Iterator[Row]:
    head: dict[str, Any] = {}
    for name in stream.members():
        if name == "messages":
            yield from _messages(stream, head, path, reading, me)
        else:
            head[name] = stream.value()


def _messages(
    stream: JsonStream, chat: dict[str, Any], path: Path, reading: Reading, me: frozenset[str]
) -> Iterator[Row]:
    if not me and chat.get("type") in CHATS and chat.get("type") != "personal_chat":
        raise Unreadable(f"{path}: it does not say who you are; add --me with your name or id in it, as in user12345")
    for line, row in stream.elements():
        if isinstance(row, NotJson):
            yield malformed(line, f"not JSON: {row}")
        elif not isinstance(row, dict):
            yield malformed(line, "expected a message, an object")
        elif chat.get("type") in NOT_CHATS:
            yield Dropped(NOT_CHATS[chat["type"]])
        else:
            yield _message(row, line, chat, reading, me)


def _message(row: dict[str, Any], line: int, chat: dict[str, Any], reading: Reading, me: frozenset[str]) -> Row:
    if row.get("type") == "service":
        return Dropped("system message")
    if row.get("type") != "message":
        return malformed(line, "type is to be message or service")
    at = unix_time(str(row.get("date_unixtime") or row.get("date") or ""), reading.zone)
    if at is None:
        return malformed(line, "date is not a time as in 2024-10-04T11:42:05")
    text = _text(row.get("text", ""))
    if text is None:
        return malformed(line, "text is to be a text, or a list of texts and {text}")
    sender, name = str(row.get("from_id") or ""), str(row.get("from") or "")
    mine = bool(me & {name, sender, sender.removeprefix("user")})
    if not me:  # a private chat has the other's id
        mine = sender != f"user{chat.get('id')}"
    key, answers = (str(row.get(one, "")) for one in ("id", "reply_to_message_id"))
    where = f"telegram\0{chat['id']}" if "id" in chat else f"telegram\0{chat.get('name')}"
    group = chat.get("type", "personal_chat") != "personal_chat"
    return Said(where, name or sender, mine, at, text, _kind(row), group, key, answers)


def _kind(row: dict[str, Any]) -> str:
    if any(name in row for name in ("forwarded_from", "forwarded_from_id", "saved_from")):
        return FORWARDED
    kind = MEDIA.get(str(row.get("media_type")), "file" if "media_type" in row else "")
    return kind or next((kind for name, kind in HELD.items() if name in row), TEXT)


def _text(text: Any) -> str | None:
    """A message's text as it was written: its entities are parts of it."""
    parts = [text] if isinstance(text, str) else text
    if not isinstance(parts, list):
        return None
    found = [part if isinstance(part, str) else part.get("text") if isinstance(part, dict) else None for part in parts]
    return "".join(found) if all(isinstance(part, str) for part in found) else None  # type: ignore[arg-type]
