"""What is set for a chat or for a bot while it runs, and a chat that goes on under another id.

Knows nothing of commands; each function runs in its caller's transaction.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from learner.store.rows import ChatState, Place
from learner.store.schema import (
    at_place,
    chats,
    exchanges,
    inbox,
    notes,
    outbox,
    place_values,
    resets,
    sent_messages,
    turns,
)


def state(c: Connection, place: Place) -> ChatState:
    """What is set for the chat."""
    row = c.execute(select(chats).where(at_place(chats, place))).one_or_none()
    if row is None:
        return ChatState()
    return ChatState(row.allowed, row.paused, row.noticed, row.language, row.persona)


def change(c: Connection, place: Place, **changes: Any) -> ChatState:
    """Set what is given of ChatState's fields."""
    now = replace(state(c, place), **changes)
    if c.execute(update(chats).where(at_place(chats, place)).values(asdict(now))).rowcount == 0:
        c.execute(insert(chats).values(**place_values(place), **asdict(now)))
    return now


def move(c: Connection, place: Place, to: str) -> None:
    """Let everything of the chat belong to `to` from now on; what was set for `to` alone goes."""
    if c.execute(select(chats.c.id).where(at_place(chats, place))).first() is not None:
        c.execute(delete(chats).where(at_place(chats, Place(place.bot, place.platform, to))))
    for table in (chats, exchanges, outbox, resets, sent_messages, turns, inbox):
        c.execute(update(table).where(at_place(table, place)).values(chat=to))
    for row in c.execute(select(outbox).where(at_place(outbox, Place(place.bot, place.platform, to)))).all():
        if row.payload.get("chat") == place.chat:
            payload = {**row.payload, "chat": to}
            c.execute(update(outbox).where(outbox.c.seq == row.seq).values(payload=payload))


def note(c: Connection, bot: str, name: str) -> str:
    """What was set for the bot under `name`; "" for nothing."""
    query = select(notes.c.value).where(notes.c.bot == bot, notes.c.name == name)
    return c.execute(query).scalar() or ""


def set_note(c: Connection, bot: str, name: str, value: str, author: str) -> None:
    """Set it; "" takes it back. Forgetting `author` forgets it."""
    c.execute(delete(notes).where(notes.c.bot == bot, notes.c.name == name))
    if value:
        c.execute(insert(notes).values(bot=bot, name=name, value=value, author=author))
