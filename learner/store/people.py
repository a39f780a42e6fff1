"""Who is known to a bot, who owns it, who teaches it.

Knows nothing of settings; each function runs in its caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, insert, select, update

from learner.store.rows import Known
from learner.store.schema import people


def known(c: Connection, bot: str, platform: str, person: str) -> Known | None:
    """The person, if the bot met them."""
    row = c.execute(select(people).where(_is(bot, platform, person))).one_or_none()
    return None if row is None else _known(row)


def note(c: Connection, who: Known) -> None:
    """Remember the person and their newest name; what they are allowed is never lowered here."""
    _ensure(c, who.bot, who.platform, who.person)
    raised: dict[str, Any] = {}
    if who.name:
        raised["name"] = who.name
    if who.owner:
        raised["owner"] = True
    if who.teacher:
        raised["teacher"] = True
    if who.code is not None:
        raised["code"] = who.code
    if raised:
        c.execute(update(people).where(_is(who.bot, who.platform, who.person)).values(raised))


def set_teacher(c: Connection, bot: str, platform: str, person: str, teacher: bool) -> None:
    """Let the person teach, or no longer."""
    _ensure(c, bot, platform, person)
    c.execute(update(people).where(_is(bot, platform, person)).values(teacher=teacher))


def admit(c: Connection, bot: str, code: str) -> Known | None:
    """Let the person talk who was given `code`, which stays theirs; None when nobody was."""
    given = and_(people.c.bot == bot, people.c.code == code)
    row = c.execute(select(people).where(given).order_by(people.c.id).limit(1)).one_or_none()
    if row is None:
        return None
    c.execute(update(people).where(people.c.id == row.id).values(admitted=True))
    return known(c, bot, row.platform, row.person)


def called(c: Connection, bot: str, platform: str, name: str) -> list[Known]:
    """The people of the platform whose id is `name`, or else all whose newest name it is."""
    exact = known(c, bot, platform, name)
    if exact is not None:
        return [exact]
    named = and_(people.c.bot == bot, people.c.platform == platform, people.c.name == name)
    return [_known(row) for row in c.execute(select(people).where(named).order_by(people.c.id))]


def names(c: Connection, bot: str, platform: str, ids: Sequence[str]) -> dict[str, str]:
    """The newest names of these people."""
    asked = and_(people.c.bot == bot, people.c.platform == platform, people.c.person.in_(ids))
    return {row.person: row.name for row in c.execute(select(people).where(asked))}


def claim_owner(c: Connection, bot: str, platform: str, person: str, at: float) -> None:
    """The person owns the bot, and so teaches it."""
    _ensure(c, bot, platform, person)
    values = {"owner": True, "teacher": True, "claimed_at": at}
    c.execute(update(people).where(_is(bot, platform, person)).values(values))


def owners(c: Connection, bot: str) -> list[Known]:
    """The bot's owners, in the order that they were met."""
    owned = and_(people.c.bot == bot, people.c.owner.is_(True))
    return [_known(row) for row in c.execute(select(people).where(owned).order_by(people.c.id))]


def _ensure(c: Connection, bot: str, platform: str, person: str) -> None:
    if known(c, bot, platform, person) is None:
        who = {"bot": bot, "platform": platform, "person": person}
        c.execute(insert(people).values(**who, name="", owner=False, teacher=False))


def _is(bot: str, platform: str, person: str) -> ColumnElement[bool]:
    return and_(people.c.bot == bot, people.c.platform == platform, people.c.person == person)


def _known(row: Row) -> Known:
    return Known(row.bot, row.platform, row.person, row.name, row.owner, row.teacher, row.admitted, row.code)
