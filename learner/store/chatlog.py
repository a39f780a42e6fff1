"""A chat as the page shows it after a reload: what was said, offered, answered and noticed.

Knows nothing of HTML; each function runs in its caller's transaction.
"""

from __future__ import annotations

from sqlalchemy import Connection, Row, and_, select

from learner.store import exchanges, said
from learner.store.rows import ExchangeView, LogEntry, OfferState, Place
from learner.store.schema import at_place, inbox, outbox

# Where a line stands: when the message it belongs to arrived, that message, its place in the answer.
_Position = tuple[float, int, int]


def chat_log(c: Connection, place: Place, limit: int, now: float | None) -> list[LogEntry]:
    """The chat's newest `limit` lines, oldest first; replies follow the message they answer."""
    lines = [*_user_lines(c, place, limit), *_bot_lines(c, place, limit)]
    lines.sort(key=lambda line: line[0])
    return [
        LogEntry("user", row.payload.get("text", ""), row.at, id=row.external_id)
        if by_user
        else _bot_entry(c, row, now)
        for _, by_user, row in lines[-limit:]
    ]


def _user_lines(c: Connection, place: Place, limit: int) -> list[tuple[_Position, bool, Row]]:
    theirs = and_(at_place(inbox, place), inbox.c.kind == "Message")
    query = select(inbox).where(theirs).order_by(inbox.c.id.desc()).limit(limit)
    return [((row.at, row.id, 0), True, row) for row in c.execute(query)]


def _bot_lines(c: Connection, place: Place, limit: int) -> list[tuple[_Position, bool, Row]]:
    query = (
        select(outbox, inbox.c.at.label("arrived"))
        .join(inbox, inbox.c.id == outbox.c.inbox_id, isouter=True)
        .where(at_place(outbox, place))
        .order_by(outbox.c.seq.desc())
        .limit(limit)
    )
    return [(_position(row), False, row) for row in c.execute(query)]


def _position(row: Row) -> _Position:
    if row.inbox_id is None:
        return (row.at, 0, row.seq)
    return (row.arrived, row.inbox_id, row.seq)


def _bot_entry(c: Connection, row: Row, now: float | None) -> LogEntry:
    text = row.payload.get("text", "")
    shown = exchanges.view(c, row.exchange)
    if shown is None:
        return LogEntry("assistant" if row.payload.get("greets") else "notice", text, row.at, id=row.id)
    word, correction = said.newest_word(c, shown.id, f"{shown.place.platform}:{shown.person}")
    offered = len(shown.candidates) == 2
    return LogEntry(
        role="assistant",
        text=text,
        at=row.at,
        exchange=shown.id,
        candidates=tuple(one.text for one in shown.candidates) if offered else (),
        offer=_offer_now(shown.offer, shown.expires_at, now),
        feedback=word,
        correction=correction,
        lora=_speaker(shown),
        id=row.id,
        kept=shown.kept,
        recalled=shown.recalled,
    )


def _speaker(shown: ExchangeView) -> str | None:
    """The LoRA that made the reply; of an offer by two LoRAs the chosen one, and none until then: choices are blind."""
    if shown.kept is not None and shown.candidates:
        return shown.candidates[shown.kept - 1].lora
    loras = {one.lora for one in shown.candidates}
    return loras.pop() if len(loras) == 1 else None


def _offer_now(state: OfferState, expires_at: float | None, now: float | None) -> OfferState:
    if state == "open" and now is not None and exchanges.has_expired(expires_at, now):
        return "expired"
    return state
