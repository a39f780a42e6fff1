"""Turns Telegram's updates into what the conversation takes. Pure: knows no network and keeps nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import telegram
from telegram.ext.filters import StatusUpdate

from adapters.base import Edited, Inbound, Joined, Message, MessageKind, Moved, Person, Pressed, Reacted
from adapters.telegram.ids import chat_id, message_id, pressed
from adapters.telegram.mentions import Me, read

GROUPS = ("group", "supergroup")
_KINDS: tuple[tuple[str, MessageKind], ...] = (
    ("text", "text"),
    ("voice", "voice"),
    ("photo", "image"),
    ("live_photo", "image"),
    ("sticker", "sticker"),
    ("animation", "video"),  # before document, which Telegram sets as well
    ("video_note", "video"),
    ("video", "video"),
    ("document", "file"),
    ("audio", "file"),
)
_EMOJIS = {"👍": "good", "❤": "good", "👎": "bad"}
_VARIATION = "\ufe0f"


def inbound_of(update: telegram.Update, me: Me, topic_of: Callable[[str], str | None]) -> tuple[Inbound, ...]:
    """What `update` says. Its ids are the same when Telegram sends it again.

    `topic_of` gives the chat of a message that stands in a topic: a reaction doesn't tell it.
    """
    update_id = f"u{update.update_id}"
    if update.message is not None:
        return tuple(_message(update, update.message, me))
    if update.edited_message is not None:
        return tuple(_edited(update_id, update.edited_message, me))
    if update.callback_query is not None:
        return tuple(_pressed(update_id, update.callback_query))
    if update.message_reaction is not None:
        return tuple(_reacted(update_id, update.message_reaction, topic_of))
    return ()


def moved(old: int, new: int, person: Person) -> Moved:
    """A group became a supergroup; both chats tell of it, and so may an answer to a message: it is one thing."""
    return Moved(f"moved:{old}:{new}", chat_id(old), person, chat_id(new))


def _message(update: telegram.Update, message: telegram.Message, me: Me) -> Iterable[Inbound]:
    chat, person = message.chat, _person(message)
    if message.migrate_to_chat_id is not None:
        yield moved(chat.id, message.migrate_to_chat_id, person or Person(chat_id(chat.id)))
    elif message.migrate_from_chat_id is not None:
        yield moved(message.migrate_from_chat_id, chat.id, person or Person(chat_id(chat.id)))
    elif message.new_chat_members:
        for user in message.new_chat_members:
            if not user.is_bot:
                id = f"{message_id(chat.id, message.message_id)}:{user.id}"
                yield Joined(id, _chat(message), _user(user), group=True)
    elif person is not None and chat.type != "channel" and not StatusUpdate.ALL.check_update(update):
        yield _said(message, person, me)


def _said(message: telegram.Message, person: Person, me: Me) -> Message:
    group = message.chat.type in GROUPS
    words = read(message, me, group)
    quoted = _quoted(message)
    to_me = quoted is not None and quoted.from_user is not None and quoted.from_user.id == me.id
    return Message(
        id=message_id(message.chat.id, message.message_id),
        chat=_chat(message),
        person=person,
        text=words.text,
        quote=message_id(message.chat.id, quoted.message_id) if quoted is not None else None,
        group=group,
        addressed=not words.to_another and (not group or words.to_me or to_me),
        kind=next((kind for name, kind in _KINDS if getattr(message, name)), "other"),
    )


def _edited(id: str, message: telegram.Message, me: Me) -> Iterable[Inbound]:
    # A shared place that moves on is an edit too, without words.
    person = _person(message)
    if person is not None and (message.text or message.caption):
        text = read(message, me, message.chat.type in GROUPS).text
        yield Edited(id, _chat(message), person, message_id(message.chat.id, message.message_id), text)


def _pressed(id: str, query: telegram.CallbackQuery) -> Iterable[Inbound]:
    meant = pressed(query.data)
    if meant is None or query.message is None or query.from_user.is_bot:
        return
    message = query.message
    chat = _chat(message) if isinstance(message, telegram.Message) else chat_id(message.chat.id)
    exchange, verdict = meant
    yield Pressed(id, chat, _user(query.from_user), exchange, verdict)


def _reacted(
    id: str, update: telegram.MessageReactionUpdated, topic_of: Callable[[str], str | None]
) -> Iterable[Inbound]:
    if update.user is None or update.user.is_bot:
        return  # anonymous: nobody whose taste could be learned
    before, after = _verdicts(update.old_reaction), _verdicts(update.new_reaction)
    added = after - before if len(after) > 1 else after
    message = message_id(update.chat.id, update.message_id)
    chat = topic_of(message) or chat_id(update.chat.id)
    if before == after:
        return
    if added == {"good"}:
        yield Reacted(id, chat, _user(update.user), message, "good")
    elif added == {"bad"}:
        yield Reacted(id, chat, _user(update.user), message, "bad")
    elif not after:
        yield Reacted(id, chat, _user(update.user), message, "retract")


def _verdicts(reactions: Iterable[telegram.ReactionType]) -> set[str]:
    emojis = (one.emoji for one in reactions if isinstance(one, telegram.ReactionTypeEmoji))
    return {_EMOJIS[emoji] for each in emojis if (emoji := each.replace(_VARIATION, "")) in _EMOJIS}


def _person(message: telegram.Message) -> Person | None:
    """Who wrote; None for bots and for what no person wrote."""
    chat = message.sender_chat
    if chat is not None:  # an anonymous administrator speaks as the group, others as their channel
        return None if message.is_automatic_forward else Person(chat_id(chat.id), chat.title or "")
    user = message.from_user
    return None if user is None or user.is_bot else _user(user)


def _user(user: telegram.User) -> Person:
    return Person(f"{user.id}", user.full_name)


def _chat(message: telegram.Message) -> str:
    return chat_id(message.chat.id, message.message_thread_id if message.is_topic_message else None)


def _quoted(message: telegram.Message) -> telegram.Message | None:
    """The message that is answered; in a topic every message formally answers the one that opened it."""
    quoted = message.reply_to_message
    return None if quoted is None or quoted.forum_topic_created is not None else quoted
