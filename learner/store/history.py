"""A chat's history: turns, and marks from which it starts anew.

Knows nothing of prompts; each function runs in its caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, Row, and_, func, insert, select, update

from learner.store.rows import Place, Turn
from learner.store.schema import at_place, inbox, outbox, place_values, resets, turns


def add(c: Connection, mind: str, place: Place, turn: Turn) -> None:
    """Append `turn`."""
    values = {
        "mind": mind,
        **place_values(place),
        "role": turn.role,
        "person": turn.person,
        "text": turn.text,
        "exchange": turn.exchange,
        "at": turn.at,
    }
    c.execute(insert(turns).values(values))


def newest(c: Connection, place: Place, limit: int, block: int = 1) -> list[Turn]:
    """The newest `limit` turns since the last reset (up to `block` - 1 more), oldest first.

    The oldest one's number in the chat is a multiple of `block`, so that it stays the oldest, and a
    prompt's prefix the same, while the next ones come.
    """
    current = _current(c, place)
    count = c.execute(select(func.count()).select_from(turns).where(current)).scalar_one()
    wanted = limit + (count - limit) % block if count > limit else count
    query = select(turns).where(current).order_by(turns.c.id.desc()).limit(wanted)
    return [_turn(row) for row in reversed(c.execute(query).all())]


def replace_reply(c: Connection, place: Place, old: str, new: str, text: str) -> None:
    """Let the reply of the exchange `old` be that of `new`, which answers the same words."""
    of_old = and_(at_place(turns, place), turns.c.exchange == old)
    c.execute(update(turns).where(and_(of_old, turns.c.role == "assistant")).values(text=text))
    c.execute(update(turns).where(of_old).values(exchange=new))


def rewrite_question(c: Connection, exchange: str, text: str) -> bool:
    """Let the history hold `text` as what `exchange` answered; whether it held it still."""
    asked = and_(turns.c.exchange == exchange, turns.c.role == "user")
    return c.execute(update(turns).where(asked).values(text=text)).rowcount > 0


def any_turn(c: Connection, place: Place) -> bool:
    """Whether anything was ever said in the chat that the history holds."""
    return c.execute(select(turns.c.id).where(at_place(turns, place)).limit(1)).first() is not None


def is_untouched(c: Connection, place: Place) -> bool:
    """Whether nothing was ever said in the chat, by anybody."""
    told = (turns, inbox, outbox)
    return not any(c.execute(select(table.c.mind).where(at_place(table, place)).limit(1)).first() for table in told)


def owner_spoke_at(c: Connection, place: Place) -> float | None:
    """When the owner last wrote here in the bot's place."""
    theirs = and_(at_place(turns, place), turns.c.role == "owner")
    return c.execute(select(func.max(turns.c.at)).where(theirs)).scalar()


def reset(c: Connection, place: Place, at: float) -> None:
    """History starts anew from here; nothing is deleted."""
    last = c.execute(select(func.max(turns.c.id)).where(at_place(turns, place))).scalar() or 0
    c.execute(insert(resets).values(**place_values(place), after_turn=last, at=at))


def restart(c: Connection, mind: str, place: Place, first: Sequence[Turn], at: float) -> None:
    """History starts anew with `first`."""
    reset(c, place, at)
    for turn in first:
        add(c, mind, place, turn)


def latest_exchange(c: Connection, place: Place) -> str | None:
    """The exchange of the bot's newest reply since the last reset."""
    replied = and_(_current(c, place), turns.c.role == "assistant", turns.c.exchange.is_not(None))
    query = select(turns.c.exchange).where(replied).order_by(turns.c.id.desc()).limit(1)
    return c.execute(query).scalar()


def rewrite_reply(c: Connection, place: Place, exchange: str, text: str) -> None:
    """Let the history hold `text` as the reply of `exchange`, unless the chat has moved on."""
    query = select(turns).where(at_place(turns, place)).order_by(turns.c.id.desc()).limit(1)
    last = c.execute(query).one_or_none()
    if last is not None and last.role == "assistant" and last.exchange == exchange:
        c.execute(update(turns).where(turns.c.id == last.id).values(text=text))


def _current(c: Connection, place: Place) -> ColumnElement[bool]:
    mark = c.execute(select(func.max(resets.c.after_turn)).where(at_place(resets, place))).scalar()
    return and_(at_place(turns, place), turns.c.id > (mark or 0))


def _turn(row: Row) -> Turn:
    return Turn(row.role, row.person, row.text, row.exchange, row.at, row.id)
