"""Messages that become one turn, and messages that are changed or taken back after they arrived.

Knows nothing of when that happens; each function runs in its caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Row, and_, or_, select, update

from learner.store import history, mail, memories
from learner.store.quoting import quotes
from learner.store.rows import Amended, Place
from learner.store.schema import at_place, exchanges, inbox, turns


def merge(c: Connection, host: int, earlier: Sequence[int]) -> None:
    """Let the arrival `host` be answered for `earlier` ones too; they are dealt with."""
    merged = inbox.c.id.in_(earlier) | inbox.c.merged_into.in_(earlier)
    c.execute(update(inbox).where(merged).values(merged_into=host, done=True))


def said_in(c: Connection, host: int) -> str:
    """The words that `host` is answered for, a line for each message, oldest first."""
    parts = c.execute(select(inbox).where(or_(inbox.c.id == host, inbox.c.merged_into == host)).order_by(inbox.c.id))
    return "\n".join(text for row in parts if (text := row.payload.get("text", "").strip()))


def amend(c: Connection, place: Place, message: str, text: str | None) -> Amended:
    """Let the message `message` say `text` (None: it is taken back), wherever it is by now.

    Taken back before its reply was made, it gets none. In the history it is replaced; what was generated
    for words that were taken back, or in sight of them, is left out of training.
    """
    row = _arrival(c, place, message)
    if row is None:
        return Amended()
    before = row.payload.get("text", "").strip()
    c.execute(update(inbox).where(inbox.c.id == row.id).values(payload={**row.payload, "text": text or ""}))
    host = row.merged_into or row.id
    now_said = said_in(c, host)
    if not c.execute(select(inbox.c.done).where(inbox.c.id == host)).scalar_one():
        if not now_said:
            mail.mark_done(c, host)
        return Amended(host, waiting=True)
    answers = _answers(c, host)
    rewritten = [history.rewrite_question(c, exchange, now_said or "…") for exchange in answers]
    if text is None and before:
        _taint(c, place, answers, before)
        used = memories.users_of(c, turns.c.exchange.in_(answers))
        c.execute(update(exchanges).where(exchanges.c.id.in_(used)).values(tainted=True))
    return Amended(host, history=any(rewritten))


def _answers(c: Connection, host: int) -> list[str]:
    """The exchanges that answered the arrival, and those that said it again."""
    found = list(c.execute(select(exchanges.c.id).where(exchanges.c.inbox_id == host)).scalars())
    for exchange in found:
        found += c.execute(select(exchanges.c.id).where(exchanges.c.retry_of == exchange)).scalars()
    return found


def _taint(c: Connection, place: Place, answers: Sequence[str], words: str) -> None:
    """Leave out of training what answered `words`, and what was generated later with them in its prompt."""
    for row in c.execute(select(exchanges).where(at_place(exchanges, place))).all():
        if row.id in answers or any(quotes(message["content"], [words]) for message in row.prompt):
            c.execute(update(exchanges).where(exchanges.c.id == row.id).values(tainted=True))


def _arrival(c: Connection, place: Place, message: str) -> Row | None:
    named = and_(
        inbox.c.bot == place.bot,
        inbox.c.platform == place.platform,
        inbox.c.external_id == message,
        inbox.c.kind == "Message",
    )
    return c.execute(select(inbox).where(named)).one_or_none()
