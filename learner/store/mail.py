"""What arrived and what is to be sent: the inbox and the outbox.

Knows nothing of what a message means; each function runs in its caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Row, Select, and_, insert, select, update

from learner.store.rows import InboxRow, NewInbound, OutboxDraft, OutboxRow, Place, Received
from learner.store.schema import inbox, outbox, place_of, place_values, sent_messages


def receive(c: Connection, mind: str, inbound: NewInbound) -> Received:
    """Store `inbound`, or give what is stored when the platform delivered it before."""
    place = inbound.place
    same = and_(
        inbox.c.bot == place.bot,
        inbox.c.platform == place.platform,
        inbox.c.external_id == inbound.external_id,
    )
    known = c.execute(select(inbox).where(same)).one_or_none()
    if known is not None:
        return Received(_inbox_row(known), new=False)
    values = {
        "mind": mind,
        **place_values(place),
        "external_id": inbound.external_id,
        "person": inbound.person,
        "kind": inbound.kind,
        "payload": inbound.payload,
        "at": inbound.at,
        "done": False,
    }
    c.execute(insert(inbox).values(values))
    return Received(_inbox_row(c.execute(select(inbox).where(same)).one()), new=True)


def arrival(c: Connection, inbox_id: int) -> InboxRow | None:
    """One arrival as it is now."""
    row = c.execute(select(inbox).where(inbox.c.id == inbox_id)).one_or_none()
    return None if row is None else _inbox_row(row)


def knows(c: Connection, place: Place, message: str) -> bool:
    """Whether the bot was given the message `message`."""
    given = and_(inbox.c.bot == place.bot, inbox.c.platform == place.platform, inbox.c.external_id == message)
    return c.execute(select(inbox.c.id).where(given).limit(1)).first() is not None


def is_done(c: Connection, inbox_id: int) -> bool:
    """Whether nothing more is to be done about this arrival."""
    return bool(c.execute(select(inbox.c.done).where(inbox.c.id == inbox_id)).scalar())


def waiting(c: Connection) -> list[InboxRow]:
    """What has not been answered, in order of arrival."""
    rows = c.execute(select(inbox).where(inbox.c.done.is_(False)).order_by(inbox.c.id))
    return [_inbox_row(row) for row in rows]


def answer(c: Connection, inbox_id: int, replies: Sequence[OutboxDraft]) -> None:
    """Store `replies` and mark the inbox row done; nothing when it was done before."""
    row = c.execute(select(inbox).where(inbox.c.id == inbox_id)).one_or_none()
    if row is None or row.done:
        return  # forgotten meanwhile, or answered before
    add_replies(c, row.mind, inbox_id, replies, row.at)
    mark_done(c, inbox_id)


def mark_done(c: Connection, inbox_id: int | None) -> None:
    """Nothing more is to be done about this arrival."""
    c.execute(update(inbox).where(inbox.c.id == inbox_id).values(done=True))


def add_replies(c: Connection, mind: str, inbox_id: int | None, replies: Sequence[OutboxDraft], at: float) -> None:
    """Queue `replies`; one whose id is queued already is left as it is."""
    wanted = [reply.id for reply in replies]
    known = set(c.execute(select(outbox.c.id).where(outbox.c.id.in_(wanted))).scalars())
    for reply in replies:
        if reply.id in known:
            continue
        values = {
            "id": reply.id,
            "mind": mind,
            **place_values(reply.place),
            "inbox_id": inbox_id,
            "exchange": reply.payload.get("exchange"),
            "payload": reply.payload,
            "state": "pending",
            "attempts": 0,
            "reason": "",
            "at": at,
        }
        c.execute(insert(outbox).values(values))


def replies_to(c: Connection, inbox_id: int) -> list[OutboxRow]:
    """The replies to one arrival, in order."""
    return _outbox_rows(c, select(outbox).where(outbox.c.inbox_id == inbox_id))


def of_exchange(c: Connection, exchange: str) -> OutboxRow | None:
    """The reply that showed the exchange."""
    return next(iter(_outbox_rows(c, select(outbox).where(outbox.c.exchange == exchange))), None)


def unsent(c: Connection, bot: str | None, platform: str | None) -> list[OutboxRow]:
    """What is still to be sent, in order."""
    query = select(outbox).where(outbox.c.state == "pending")
    if bot is not None:
        query = query.where(outbox.c.bot == bot)
    if platform is not None:
        query = query.where(outbox.c.platform == platform)
    return _outbox_rows(c, query)


def is_unsent(c: Connection, outbox_id: str) -> bool:
    """Whether the reply is there and still to be sent."""
    return c.execute(select(outbox.c.state).where(outbox.c.id == outbox_id)).scalar() == "pending"


def unsendable(c: Connection, limit: int) -> list[OutboxRow]:
    """The newest that could not be sent, newest first."""
    query = select(outbox).where(outbox.c.state == "failed").order_by(outbox.c.seq.desc()).limit(limit)
    return [_outbox_row(row, ()) for row in c.execute(query)]


def mark_sent(c: Connection, outbox_id: str, message_ids: Sequence[str]) -> None:
    """The platform took it, and named what it made of it."""
    row = c.execute(select(outbox).where(outbox.c.id == outbox_id)).one_or_none()
    if row is None or row.state == "sent":
        return  # forgotten meanwhile, or told twice
    changed = {"state": "sent", "attempts": row.attempts + 1, "reason": ""}
    c.execute(update(outbox).where(outbox.c.id == outbox_id).values(changed))
    place = place_values(place_of(row))
    for message_id in message_ids:
        values = {"outbox_id": outbox_id, **place, "message_id": message_id}
        c.execute(insert(sent_messages).values(values))


def mark_failed(c: Connection, outbox_id: str, reason: str, permanent: bool) -> None:
    """An attempt failed; a permanent failure is not tried again."""
    values = {
        "state": "failed" if permanent else "pending",
        "attempts": outbox.c.attempts + 1,
        "reason": reason,
    }
    unsent_row = and_(outbox.c.id == outbox_id, outbox.c.state != "sent")
    c.execute(update(outbox).where(unsent_row).values(values))


def _outbox_rows(c: Connection, query: Select) -> list[OutboxRow]:
    rows = c.execute(query.order_by(outbox.c.seq)).all()
    ids: dict[str, list[str]] = {row.id: [] for row in rows}
    sent = select(sent_messages.c.outbox_id, sent_messages.c.message_id)
    wanted = sent.where(sent_messages.c.outbox_id.in_(query.with_only_columns(outbox.c.id)))
    for outbox_id, message_id in c.execute(wanted.order_by(sent_messages.c.id)):
        ids[outbox_id].append(message_id)
    return [_outbox_row(row, tuple(ids[row.id])) for row in rows]


def _outbox_row(row: Row, message_ids: tuple[str, ...]) -> OutboxRow:
    draft = OutboxDraft(row.id, place_of(row), row.payload)
    return OutboxRow(draft, row.inbox_id, row.state, row.attempts, message_ids, row.reason)


def _inbox_row(row: Row) -> InboxRow:
    place = Place(row.bot, row.platform, row.chat)
    inbound = NewInbound(place, row.external_id, row.person, row.kind, row.payload, row.at)
    return InboxRow(row.id, inbound, row.done)
