"""Exchanges and the offers in them: begun, finished, interrupted, found again.

Knows nothing of how feedback is given; each function runs in its caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, and_, func, insert, select, update

from learner.engine.base import ChatMessage
from learner.records import ShownCandidate
from learner.store import history, mail, memories, said
from learner.store.errors import ExchangeNotReady, UnknownExchange
from learner.store.rows import ExchangeView, NewExchange, OfferState, OutboxDraft, Place, Turn
from learner.store.schema import at_place, exchanges, outbox, place_of, place_values, sent_messages
from learner.store.schema import candidates as candidates_table
from learner.what_stands import settled_on


def begin(c: Connection, new: NewExchange) -> None:
    """Store the exchange before its first token; an attempt that a crash cut short is marked so."""
    cut = and_(exchanges.c.inbox_id == new.inbox_id, exchanges.c.state == "generating")
    c.execute(update(exchanges).where(cut).values(state="interrupted"))
    values = {
        "id": new.id,
        "mind": new.mind,
        **place_values(new.place),
        "person": new.person,
        "inbox_id": new.inbox_id,
        "state": "generating",
        "offer": "none",
        "prompt": [{"role": m.role, "content": m.content} for m in new.prompt],
        "prompt_ids": new.prompt_ids,
        "at": new.at,
        "tainted": False,
        "retry_of": new.retry_of,
    }
    c.execute(insert(exchanges).values(values))
    memories.note(c, new.id, new.recalled)


def finish(
    c: Connection,
    exchange: str,
    candidates: Sequence[ShownCandidate],
    question: Turn,
    expires_at: float | None,
    replies: Sequence[OutboxDraft],
    at: float,
    expected: int | None = None,
) -> None:
    """Store the final texts, both turns, the replies to send and that the arrival is dealt with."""
    if len(candidates) not in (1, 2):
        raise ValueError(f"an exchange shows 1 or 2 candidates, not {len(candidates)}")
    row = required(c, exchange)
    if row.state == "final":
        return
    if row.state != "generating":
        raise ExchangeNotReady(exchange, row.state, "generating")
    _add_candidates(c, exchange, candidates)
    _close_open_offers(c, row)
    offer = "open" if len(candidates) == 2 else "none"
    values = {"state": "final", "offer": offer, "expires_at": expires_at, "finished_at": at, "expected": expected}
    c.execute(update(exchanges).where(exchanges.c.id == exchange).values(values))
    place = place_of(row)
    if row.retry_of is not None:
        history.replace_reply(c, place, row.retry_of, exchange, candidates[0].text)
    else:
        history.add(c, row.mind, place, replace(question, exchange=exchange))
        history.add(c, row.mind, place, Turn("assistant", "", candidates[0].text, exchange, at))
    mail.add_replies(c, row.mind, row.inbox_id, replies, at)
    mail.mark_done(c, row.inbox_id)


def interrupt(c: Connection, exchange: str | None) -> int:
    """Mark `exchange` (None: every one) interrupted if it is still generating; say how many."""
    unfinished = exchanges.c.state == "generating"
    if exchange is not None:
        unfinished = and_(unfinished, exchanges.c.id == exchange)
    return c.execute(update(exchanges).where(unfinished).values(state="interrupted")).rowcount


def required(c: Connection, exchange: str) -> Row:
    """The row of `exchange`. Raises UnknownExchange."""
    row = c.execute(select(exchanges).where(exchanges.c.id == exchange)).one_or_none()
    if row is None:
        raise UnknownExchange(exchange)
    return row


def view(c: Connection, exchange: str | None) -> ExchangeView | None:
    """The exchange with this id, if there is one."""
    row = c.execute(select(exchanges).where(exchanges.c.id == exchange)).one_or_none()
    if row is None:
        return None
    shown = shown_candidates(c, [row.id]).get(row.id, ())
    return ExchangeView(
        id=row.id,
        mind=row.mind,
        place=place_of(row),
        person=row.person,
        state=row.state,
        offer=row.offer,
        expires_at=row.expires_at,
        candidates=shown,
        at=row.at,
        kept=1 if len(shown) == 1 else settled_on(said.standing_feedback(c, row.id)),
        shown_at=row.finished_at,
        prompt=tuple(ChatMessage(one["role"], one["content"]) for one in row.prompt),
        prompt_ids=row.prompt_ids,
        recalled=memories.shown_to(c, row.id),
    )


def of_message(c: Connection, place: Place, message_id: str) -> ExchangeView | None:
    """The exchange that the platform's message `message_id` showed: its ids are unique over all of a bot's chats."""
    c_ = sent_messages.c
    named = and_(c_.bot == place.bot, c_.platform == place.platform, c_.message_id == message_id)
    query = (
        select(outbox.c.exchange)
        .join(sent_messages, sent_messages.c.outbox_id == outbox.c.id)
        .where(named)
        .order_by(sent_messages.c.id.desc())
        .limit(1)
    )
    return view(c, c.execute(query).scalar())


def open_offer(c: Connection, place: Place, person: str, now: float) -> ExchangeView | None:
    """The person's pending offer: their latest exchange here, open and not expired."""
    latest = view(c, latest_id_of(c, place, person))
    if latest is None or latest.offer != "open" or has_expired(latest.expires_at, now):
        return None
    return latest


def latest_id_of(c: Connection, place: Place, person: str) -> str | None:
    """The id of the person's newest final exchange in this chat."""
    mine = and_(at_place(exchanges, place), exchanges.c.person == person, exchanges.c.state == "final")
    return c.execute(select(exchanges.c.id).where(mine).order_by(exchanges.c.seq.desc()).limit(1)).scalar()


def has_expired(expires_at: float | None, now: float) -> bool:
    """Whether an offer's time is over."""
    return expires_at is not None and now >= expires_at


def set_offer(c: Connection, exchange: str, state: OfferState) -> None:
    """Move the offer to `state`; an exchange that offered nothing keeps "none"."""
    offered = and_(exchanges.c.id == exchange, exchanges.c.offer != "none")
    c.execute(update(exchanges).where(offered).values(offer=state))


def offers_since(c: Connection, place: Place, since: float) -> int:
    """How many offers this chat was made at or after `since`."""
    made = and_(at_place(exchanges, place), exchanges.c.offer != "none", exchanges.c.finished_at >= since)
    return c.execute(select(func.count()).select_from(exchanges).where(made)).scalar_one()


def shown_candidates(
    c: Connection, ids: Sequence[str] | None, mind: str | None = None
) -> dict[str, tuple[ShownCandidate, ...]]:
    """The candidates of these exchanges (or of a whole mind's), in shown order."""
    table = candidates_table
    query = select(table).order_by(table.c.exchange, table.c.side)
    if ids is not None:
        query = query.where(table.c.exchange.in_(ids))
    if mind is not None:
        query = query.join(exchanges, exchanges.c.id == table.c.exchange)
        query = query.where(exchanges.c.mind == mind)
    found: dict[str, tuple[ShownCandidate, ...]] = {}
    for row in c.execute(query):
        found[row.exchange] = (*found.get(row.exchange, ()), _candidate(row))
    return found


def _add_candidates(c: Connection, exchange: str, shown: Sequence[ShownCandidate]) -> None:
    for side, candidate in enumerate(shown, start=1):
        values: dict[str, Any] = {
            "exchange": exchange,
            "side": side,
            "text": candidate.text,
            "token_ids": candidate.token_ids,
            "logprobs": candidate.logprobs,
            "lora": candidate.lora,
            "sampling": candidate.sampling,
            "seed": candidate.seed,
            "finish": candidate.finish,
        }
        c.execute(insert(candidates_table).values(values))


def _close_open_offers(c: Connection, row: Row) -> None:
    """The person went on: what they were offered before is no longer pending."""
    earlier = and_(
        at_place(exchanges, place_of(row)),
        exchanges.c.person == row.person,
        exchanges.c.offer == "open",
    )
    c.execute(update(exchanges).where(earlier).values(offer="closed"))


def _candidate(row: Row) -> ShownCandidate:
    return ShownCandidate(
        text=row.text,
        token_ids=row.token_ids,
        logprobs=row.logprobs,
        lora=row.lora,
        sampling=row.sampling,
        seed=row.seed,
        side=row.side,
        finish=row.finish,
    )
