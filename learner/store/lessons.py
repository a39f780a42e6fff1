"""What a mind can learn from: its exchanges, the feedback on them, and their count.

Knows nothing of training; each function runs in its caller's transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, Row, and_, func, not_, or_, select

from learner.deriving import derive
from learner.engine.base import ChatMessage
from learner.records import Exchange, Feedback, PreferenceRecords
from learner.store import exchanges as exchange_queries
from learner.store import feedback as feedback_queries
from learner.store.rows import EVERY_CHAT, Chats, RecordStats
from learner.store.schema import exchanges, feedback
from learner.what_stands import newest_of_each


def exchanges_of(c: Connection, mind: str, chats: Chats = EVERY_CHAT) -> list[Exchange]:
    """The final exchanges of these chats that somebody gave feedback on, oldest first; none tainted."""
    judged = or_(exchanges.c.id.in_(select(feedback.c.exchange)), exchanges.c.retry_of.is_not(None))
    usable = and_(
        exchanges.c.mind == mind,
        exchanges.c.state == "final",
        exchanges.c.tainted.is_(False),
        judged,
        _in(chats),
    )
    shown = exchange_queries.shown_candidates(c, None, mind)
    rows = c.execute(select(exchanges).where(usable).order_by(exchanges.c.seq))
    return [
        Exchange(
            id=row.id,
            mind=row.mind,
            bot=row.bot,
            platform=row.platform,
            chat=row.chat,
            person=row.person,
            prompt=_messages(row),
            prompt_ids=row.prompt_ids,
            candidates=shown.get(row.id, ()),
            created_at=row.at,
            expected=row.expected,
        )
        for row in rows
    ]


def records_of(c: Connection, mind: str, chats: Chats = EVERY_CHAT) -> PreferenceRecords:
    """The preference records of these chats of the mind as they stand now."""
    said = feedback_queries.of_mind(c, mind)
    if chats != EVERY_CHAT:
        there = set(c.execute(select(exchanges.c.id).where(and_(exchanges.c.mind == mind, _in(chats)))).scalars())
        said = [one for one in said if one.exchange in there]
    return derive(exchanges_of(c, mind, chats), said)


def _in(chats: Chats) -> ColumnElement[bool]:
    """Exchanges that happened there."""
    named = (exchanges.c.platform + ":" + exchanges.c.chat).in_(sorted(chats.named))
    return not_(named) if chats.but else named


def stats(c: Connection, mind: str) -> RecordStats:
    """Counts of what stands now; of people who do not teach only how much there is."""
    given = newest_of_each(feedback_queries.of_mind(c, mind))
    taken_back = [one for one in given if one.kind == "retract"]
    standing = [one for one in given if one.kind != "retract"]
    trusted = [one for one in standing if one.trusted]
    said = Counter((one.kind, one.value) for one in trusted)
    offers = _offers(c, mind)
    records = records_of(c, mind)
    return RecordStats(
        exchanges=_final(c, mind),
        offers=sum(offers.values()),
        expired=offers["expired"],
        closed=offers["closed"],
        choices=said["choice", "1"] + said["choice", "2"],
        ties=said["choice", "tie"],
        both_bad=said["choice", "both_bad"],
        ratings_good=said["rating", "good"],
        ratings_bad=said["rating", "bad"],
        corrections=_kinds(trusted)["correction"],
        retracted=len(taken_back),
        untrusted=len(standing) - len(trusted),
        by_teacher=dict(sorted(Counter(one.teacher for one in trusted).items())),
        imported=records.imported(),
        pairs=len(records.pairs),
        ratings=len(records.ratings),
        left_out=records.left_out,
    )


def _kinds(given: Sequence[Feedback]) -> Counter[str]:
    return Counter(one.kind for one in given)


def _messages(row: Row) -> tuple[ChatMessage, ...]:
    return tuple(ChatMessage(one["role"], one["content"]) for one in row.prompt)


def _final(c: Connection, mind: str) -> int:
    final = and_(exchanges.c.mind == mind, exchanges.c.state == "final")
    return c.execute(select(func.count()).select_from(exchanges).where(final)).scalar_one()


def _offers(c: Connection, mind: str) -> Counter[str]:
    made = and_(exchanges.c.mind == mind, exchanges.c.offer != "none")
    query = select(exchanges.c.offer, func.count().label("n")).where(made).group_by(exchanges.c.offer)
    return Counter({row.offer: row.n for row in c.execute(query)})
