"""OneBot events -> Inbound. Pure.

Knows nothing of sockets. A chat is a QQ number, or "group:" and a group's number; a message is its
chat, "/" and its message_id, so that an id is one message even where implementations number by chat.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapters.base import Inbound, Joined, Message, OwnerWrote, Person, Recalled
from nightschool_onebot.segments import parse, read, words

GROUP = "group:"
Event = Mapping[str, Any]


def group_of(chat: str) -> str | None:
    """The group's number, or None for a private chat."""
    return chat.removeprefix(GROUP) if chat.startswith(GROUP) else None


def message_key(chat: str, message_id: object) -> str:
    """Our id of a message."""
    return f"{chat}/{message_id}"


def message_number(key: str | None, chat: str) -> str:
    """OneBot's id of the message that we call `key`; "" when it is no message of `chat`."""
    mark = f"{chat}/"
    return key.removeprefix(mark) if key and key.startswith(mark) else ""


def is_own(event: Event) -> bool:
    """Whether the bot's account itself wrote it: by us, or by its owner on a phone."""
    if event.get("post_type") == "message_sent":
        return True
    return event.get("post_type") == "message" and event.get("user_id") == event.get("self_id")


def chat_of(event: Event) -> str:
    """The chat that `event` belongs to; "" when it does not say."""
    if group := event.get("group_id"):
        return f"{GROUP}{group}"
    return str((event.get("target_id") if is_own(event) else event.get("user_id")) or "")


def quoted(event: Event) -> str:
    """The message_id that a message quotes, or ""."""
    return read(parse(event.get("message")), str(event.get("self_id"))).quote


def written(event: Event) -> str:
    """A message's written words alone."""
    return words(parse(event.get("message")))


def to_inbound(event: Event, quotes_bot: bool = False) -> Inbound | None:
    """What `event` means for a conversation, or None. `quotes_bot`: what it quotes is the bot's own."""
    if is_own(event):
        return _owner_wrote(event)
    if event.get("post_type") == "message":
        return _message(event, quotes_bot)
    return _notice(event) if event.get("post_type") == "notice" else None


def _message(event: Event, quotes_bot: bool) -> Message:
    chat, group = chat_of(event), "group_id" in event
    content = read(parse(event.get("message")), str(event["self_id"]))
    return Message(
        id=message_key(chat, event["message_id"]),
        chat=chat,
        person=_sender(event),
        text=content.text,
        quote=message_key(chat, content.quote) if content.quote else None,
        group=group,
        addressed=not group or content.mentioned or quotes_bot,
        kind=content.kind,
    )


def _owner_wrote(event: Event) -> OwnerWrote | None:
    """Notes to oneself and what has no words are nobody's conversation."""
    chat, text = chat_of(event), written(event)
    if not text or chat in ("", str(event["self_id"])):
        return None
    return OwnerWrote(message_key(chat, event["message_id"]), chat, Person(str(event["self_id"])), text)


def _notice(event: Event) -> Inbound | None:
    kind, person = event.get("notice_type"), str(event.get("user_id"))
    if person == str(event.get("self_id")):
        return None
    chat = chat_of(event)
    if kind in ("group_recall", "friend_recall"):
        message = message_key(chat, event["message_id"])
        return Recalled(f"{message}/recall", chat, Person(str(event.get("operator_id") or person)), message)
    if kind in ("group_increase", "friend_add"):
        return Joined(f"{chat}/joined/{person}/{event.get('time')}", chat, Person(person), kind == "group_increase")
    return None


def _sender(event: Event) -> Person:
    sender = event.get("sender") or {}
    return Person(str(event["user_id"]), str(sender.get("card") or sender.get("nickname") or ""))
