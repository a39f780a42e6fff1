"""Reading the feedback on one exchange: all of it, and what of it stands.

Knows nothing of offers or history; functions that query run in their caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, Row, select

from learner.records import Feedback
from learner.store.schema import feedback as table
from learner.what_stands import without_retracted


def on_exchange(c: Connection, exchange: str) -> list[Row]:
    """All feedback rows on one exchange, oldest first."""
    query = select(table).where(table.c.exchange == exchange).order_by(table.c.id)
    return list(c.execute(query))


def standing(rows: Iterable[Row]) -> list[Row]:
    """Of one exchange's feedback, oldest first: what follows each teacher's last retract."""
    kept: list[Row] = []
    for row in rows:
        if row.kind != "retract":
            kept.append(row)
            continue
        left = without_retracted([one for one in kept if one.teacher == row.teacher], row)
        kept = [one for one in kept if one.teacher != row.teacher or one in left]
    return kept


def as_feedback(row: Row) -> Feedback:
    """A feedback row as the records know it."""
    return Feedback(
        id=row.id,
        exchange=row.exchange,
        teacher=row.teacher,
        trusted=row.trusted,
        kind=row.kind,
        value=row.value,
        correction=row.correction,
        created_at=row.at,
    )


def standing_feedback(c: Connection, exchange: str) -> list[Feedback]:
    """The feedback on one exchange that stands, oldest first."""
    return [as_feedback(row) for row in standing(on_exchange(c, exchange))]


def newest_word(c: Connection, exchange: str, teacher: str) -> tuple[str, str]:
    """What the teacher's word on the exchange is now, and the words of a correction; "" for none."""
    mine = [row for row in standing(on_exchange(c, exchange)) if row.teacher == teacher]
    if not mine or mine[-1].kind == "retry":
        return "", ""
    return (mine[-1].value or mine[-1].kind), mine[-1].correction
