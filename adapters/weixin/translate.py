"""Turns a message of Weixin's bot interface into a Message. Pure: knows neither network nor files."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from adapters.base import Message, MessageKind, Person
from adapters.weixin.state import Contact
from adapters.weixin.wire import BOT, TEXT, id_text

VOICE = 3
WORDED = ((TEXT, "text_item"), (VOICE, "voice_item"))
MEDIA: Mapping[object, MessageKind] = {2: "image", 4: "file", 5: "video"}

Json = Mapping[str, Any]


def message(raw: Json, bot: str = "") -> Message | None:
    """What a person said; None for what a bot (this one is `bot`) said itself, and for what nobody sent.

    A message with a `group_id` is one of the direct chat with its sender, as in the published client.
    """
    sender, identifier = _text(raw.get("from_user_id")), _identifier(raw)
    if raw.get("message_type") == BOT or not sender or sender == bot or not identifier:
        return None
    items = _items(raw)
    text = _whole("\n".join(part for part in map(_words, items) if part))
    quote = next((quoted for quoted in map(_quoted, items) if quoted), None)
    return Message(identifier, sender, Person(sender), text, quote=quote, kind=_kind(items, text))


def contact(raw: Json, clock: Callable[[], float] = time.time) -> Contact | None:
    """What is needed to answer the sender, None where the message doesn't say it."""
    token = raw.get("context_token")
    if not isinstance(token, str) or not token:
        return None
    now, made = clock(), raw.get("create_time_ms")
    told = isinstance(made, int) and 0 < made / 1000 < now
    return Contact(token, made / 1000 if told and isinstance(made, int) else now)


def _kind(items: list[Json], text: str) -> MessageKind:
    """Words beside something unknown are words; a picture with words is a picture with a caption."""
    types = [item.get("type") for item in items]
    for found in types:
        if isinstance(found, int) and found in MEDIA:
            return MEDIA[found]
    if VOICE in types:
        return "voice"
    return "text" if text else "other"


def _words(item: Json) -> str:
    """The words of one item: its text, or the transcript of a voice message."""
    holder = next((name for number, name in WORDED if item.get("type") == number), "")
    inner = item.get(holder)
    words = inner.get("text") if isinstance(inner, dict) else None
    return words if isinstance(words, str) else ""


def _whole(text: str) -> str:
    """`text` without halves of characters, which JSON can hold and nothing else can."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _quoted(item: Json) -> str:
    """The server's id of what the item quotes, "" where it quotes nothing or doesn't name it."""
    quote = item.get("ref_msg")
    if not isinstance(quote, dict):
        return ""
    inner = quote.get("message_item")
    return id_text(quote.get("svr_id")) or (id_text(inner.get("msg_id")) if isinstance(inner, dict) else "")


def _identifier(raw: Json) -> str:
    """What stays the same when the message comes again."""
    for candidate in (raw, *_items(raw)):
        found = id_text(candidate.get("message_id")) or id_text(candidate.get("msg_id"))
        if found:
            return found
    sender, own, number = _text(raw.get("from_user_id")), _text(raw.get("client_id")), id_text(raw.get("seq"))
    return f"{sender}/{own or number}" if own or number else ""


def _items(raw: Json) -> list[Json]:
    found = raw.get("item_list")
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
