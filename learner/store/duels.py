"""The offers in which one LoRA was shown, and what was said about them.

Knows nothing of who wins; each function runs in its caller's transaction.
"""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import Connection, and_, select

from learner.duels import Offer
from learner.records import Feedback
from learner.store import said
from learner.store.schema import candidates, exchanges, feedback


def offers_with(c: Connection, mind: str, version: str) -> list[Offer]:
    """The mind's offers that the LoRA `version` made a candidate of and that somebody judged, oldest first."""
    answered = and_(exchanges.c.mind == mind, exchanges.c.state == "final", exchanges.c.offer != "none")
    made = (
        select(exchanges.c.id)
        .join(candidates, candidates.c.exchange == exchanges.c.id)
        .where(and_(answered, candidates.c.lora == version))
    )
    words: dict[str, list[Feedback]] = defaultdict(list)
    for row in c.execute(select(feedback).where(feedback.c.exchange.in_(made)).order_by(feedback.c.id)):
        words[row.exchange].append(said.as_feedback(row))
    shown: dict[str, list[str | None]] = defaultdict(list)
    of_them = select(candidates.c.exchange, candidates.c.lora).where(candidates.c.exchange.in_(made))
    for row in c.execute(of_them.order_by(candidates.c.exchange, candidates.c.side)):
        shown[row.exchange].append(row.lora)
    return [Offer(tuple(shown[exchange]), tuple(given)) for exchange, given in words.items()]
