"""Feedback: append-only; the newest of a teacher on an exchange counts, "retract" cancels it.

Knows nothing of words or buttons; each function runs in its caller's transaction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import Connection, Row, and_, func, insert, select

from learner.records import Feedback
from learner.store import exchanges, history, mail, said
from learner.store.errors import ExchangeNotReady
from learner.store.rows import NewFeedback, OfferState, OutboxDraft, Place
from learner.store.schema import at_place, place_of
from learner.store.schema import exchanges as exchanges_table
from learner.store.schema import feedback as table


def add(c: Connection, inbox_id: int | None, new: NewFeedback, replies: Sequence[OutboxDraft]) -> int:
    """Store the feedback and all that follows from it; once per inbox row."""
    if inbox_id is not None:
        stored = c.execute(select(table.c.id).where(table.c.inbox_id == inbox_id)).scalar()
        if stored is not None:
            return stored
    exchange = exchanges.required(c, new.exchange)
    if exchange.state != "final":
        raise ExchangeNotReady(new.exchange, exchange.state, "final")
    number = _insert(c, inbox_id, exchange.mind, new)
    if new.kind == "retract":
        _take_back(c, exchange, new)
    else:
        _keep(c, exchange, new.keep, new.keep_text)
        if new.offer is not None:
            exchanges.set_offer(c, new.exchange, new.offer)
    mail.add_replies(c, exchange.mind, inbox_id, replies, new.at)
    mail.mark_done(c, inbox_id)
    return number


def latest(c: Connection, place: Place, teacher: str) -> Feedback | None:
    """The newest feedback of `teacher` in this chat that has not been taken back."""
    query = (
        select(table)
        .join(exchanges_table, exchanges_table.c.id == table.c.exchange)
        .where(and_(at_place(exchanges_table, place), table.c.teacher == teacher))
        .order_by(table.c.id)
    )
    by_exchange: dict[str, list[Row]] = defaultdict(list)
    for row in c.execute(query):
        by_exchange[row.exchange].append(row)
    standing = [row for rows in by_exchange.values() for row in said.standing(rows)]
    return said.as_feedback(max(standing, key=lambda row: row.id)) if standing else None


def of_mind(c: Connection, mind: str) -> list[Feedback]:
    """All feedback that a mind got, oldest first."""
    query = select(table).where(table.c.mind == mind).order_by(table.c.id)
    return [said.as_feedback(row) for row in c.execute(query)]


def words_of(c: Connection, mind: str, teacher: str) -> int:
    """On how many exchanges of a mind the teacher has said something."""
    said_so = and_(table.c.mind == mind, table.c.teacher == teacher)
    return c.execute(select(func.count(func.distinct(table.c.exchange))).where(said_so)).scalar_one()


def newest(c: Connection) -> int:
    """The number of the newest feedback, 0 before any."""
    return c.execute(select(func.max(table.c.id))).scalar() or 0


def kept_text(c: Connection, exchange: str) -> str:
    """The text that the feedback still standing wants in the history; candidate 1's without any."""
    shown = exchanges.shown_candidates(c, [exchange])[exchange]
    for row in reversed(said.standing(said.on_exchange(c, exchange))):
        if row.keep_text is not None:
            return row.keep_text
        if row.keep is not None:
            return shown[row.keep - 1].text
    return shown[0].text


def _insert(c: Connection, inbox_id: int | None, mind: str, new: NewFeedback) -> int:
    values = {
        "mind": mind,
        "exchange": new.exchange,
        "teacher": new.teacher,
        "trusted": new.trusted,
        "kind": new.kind,
        "value": new.value,
        "correction": new.correction,
        "keep": new.keep,
        "keep_text": new.keep_text,
        "inbox_id": inbox_id,
        "at": new.at,
    }
    return c.execute(insert(table).values(values).returning(table.c.id)).scalar_one()


def _keep(c: Connection, exchange: Row, keep: int | None, keep_text: str | None) -> None:
    text = keep_text
    if text is None and keep is not None:
        text = exchanges.shown_candidates(c, [exchange.id])[exchange.id][keep - 1].text
    if text is not None:
        history.rewrite_reply(c, place_of(exchange), exchange.id, text)


def _take_back(c: Connection, exchange: Row, new: NewFeedback) -> None:
    """The offer is as if it had not been answered, unless another teacher's answer stands."""
    history.rewrite_reply(c, place_of(exchange), exchange.id, kept_text(c, exchange.id))
    answered = any(row.kind != "rating" for row in said.standing(said.on_exchange(c, exchange.id)))
    if new.offer is not None:
        exchanges.set_offer(c, exchange.id, new.offer)
    elif not answered and exchange.offer == "chosen":
        exchanges.set_offer(c, exchange.id, _reopened(c, exchange, new.at))


def _reopened(c: Connection, exchange: Row, now: float) -> OfferState:
    if exchanges.has_expired(exchange.expires_at, now):
        return "expired"
    latest_id = exchanges.latest_id_of(c, place_of(exchange), exchange.person)
    return "open" if latest_id == exchange.id else "closed"
