"""Forgetting a person: out of every table, and out of what quotes them.

Knows nothing of LoRAs or frozen runs: it says which exchanges were touched, the caller does the
rest. What other people typed themselves stays theirs, even where it repeats the person's words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, or_, select, update

from learner.store import feedback as feedback_queries
from learner.store import memories
from learner.store.quoting import quotes, scrub
from learner.store.rows import Forgotten, Place
from learner.store.schema import (
    at_place,
    candidates,
    chats,
    exchanges,
    feedback,
    inbox,
    metadata,
    notes,
    outbox,
    people,
    place_of,
    resets,
    runs,
    turns,
)


@dataclass(frozen=True)
class _Traces:
    """Where a person left something, gathered before anything is deleted."""

    own: frozenset[str]  # exchanges that answered them
    taught: frozenset[str]  # other people's exchanges that they gave feedback on
    corrected: frozenset[str]  # of those, the ones whose history may hold their words
    places: tuple[Place, ...]
    texts: frozenset[str]


def forget(c: Connection, person: str) -> Forgotten:
    """Delete all that "platform:id" said, was answered and taught. Files are another step."""
    platform, _, who = person.partition(":")
    before = _sizes(c)
    traces = _traces(c, platform, who)
    tainted = _taint(c, traces, memories.users_of(c, _said(platform, who)))
    _forget_teacher(c, person, traces)
    c.execute(delete(exchanges).where(_by(exchanges, platform, who)))
    c.execute(delete(turns).where(_by(turns, platform, who)))
    for place in traces.places:
        if not _others(c, place, who):
            for table in (outbox, turns, resets, chats):
                c.execute(delete(table).where(at_place(table, place)))
    c.execute(delete(inbox).where(_by(inbox, platform, who)))
    c.execute(delete(people).where(_by(people, platform, who)))
    c.execute(delete(notes).where(notes.c.author == person))
    _scrub_runs(c, traces.texts)
    memories.compact(c)
    after = _sizes(c)
    rows = {name: before[name] - after[name] for name in before if before[name] > after[name]}
    touched = traces.own | traces.taught | tainted
    return Forgotten(rows=rows, tainted=len(tainted), exchanges=touched, files_clean=False)


def with_files(forgotten: Forgotten, clean: bool) -> Forgotten:
    """`forgotten`, and whether the database's files hold none of it any more."""
    return replace(forgotten, files_clean=clean)


def _traces(c: Connection, platform: str, who: str) -> _Traces:
    teacher = feedback.c.teacher == f"{platform}:{who}"
    own = frozenset(c.execute(select(exchanges.c.id).where(_by(exchanges, platform, who))).scalars())
    taught = list(c.execute(select(feedback).where(teacher)))
    others = frozenset(row.exchange for row in taught) - own
    corrected = frozenset(row.exchange for row in taught if row.keep_text is not None) - own
    return _Traces(
        own=own,
        taught=others,
        corrected=corrected,
        places=tuple(_places(c, platform, who, others)),
        texts=frozenset(_texts(c, platform, who, taught)),
    )


def _places(c: Connection, platform: str, who: str, taught: Iterable[str]) -> set[Place]:
    found: set[Place] = set()
    for table in (inbox, turns, exchanges):
        query = select(table.c.bot, table.c.platform, table.c.chat)
        found |= {place_of(row) for row in c.execute(query.where(_by(table, platform, who)))}
    for exchange in taught:
        row = c.execute(select(exchanges).where(exchanges.c.id == exchange)).one()
        found.add(place_of(row))
    return found


def _texts(c: Connection, platform: str, who: str, taught: Iterable[Row]) -> set[str]:
    """What the person said and what they were answered: a prompt may hold either."""
    mine = select(exchanges.c.id).where(_by(exchanges, platform, who))
    found = set(c.execute(select(turns.c.text).where(_said(platform, who))).scalars())
    found |= set(c.execute(select(candidates.c.text).where(candidates.c.exchange.in_(mine))).scalars())
    for row in taught:
        found |= {row.correction, row.keep_text or ""}
    return {text.strip() for text in found if text.strip()}


def _said(platform: str, who: str) -> ColumnElement[bool]:
    """The turns in which they spoke or were answered."""
    mine = select(exchanges.c.id).where(_by(exchanges, platform, who))
    return or_(_by(turns, platform, who), turns.c.exchange.in_(mine))


def _taint(c: Connection, traces: _Traces, recalling: Iterable[str]) -> frozenset[str]:
    """Take the prompt out of other people's exchanges that quote the person, and the echoes too.

    `recalling` were given the person's words from before, wherever that was; the others are found by the words.
    """
    found = set(recalling) - traces.own
    for exchange in found:
        _taint_one(c, exchange, traces.texts)
    for place in traces.places:
        rows = c.execute(select(exchanges).where(at_place(exchanges, place))).all()
        for row in (row for row in rows if row.id not in traces.own):
            if any(quotes(message["content"], traces.texts) for message in row.prompt):
                found.add(row.id)
                _taint_one(c, row.id, traces.texts)
    return frozenset(found)


def _taint_one(c: Connection, exchange: str, texts: frozenset[str]) -> None:
    emptied = {"tainted": True, "prompt": [], "prompt_ids": ()}
    c.execute(update(exchanges).where(exchanges.c.id == exchange).values(emptied))
    for row in c.execute(select(candidates).where(candidates.c.exchange == exchange)).all():
        values = {"text": scrub(row.text, texts), "token_ids": (), "logprobs": ()}
        c.execute(update(candidates).where(candidates.c.id == row.id).values(values))
    replied = and_(turns.c.exchange == exchange, turns.c.role == "assistant")
    for row in c.execute(select(turns).where(replied)).all():
        c.execute(update(turns).where(turns.c.id == row.id).values(text=scrub(row.text, texts)))
    for row in c.execute(select(outbox).where(outbox.c.exchange == exchange)).all():
        payload = scrub(row.payload, texts)
        c.execute(update(outbox).where(outbox.c.seq == row.seq).values(payload=payload))


def _forget_teacher(c: Connection, person: str, traces: _Traces) -> None:
    """Their feedback goes, and their corrections out of other people's history."""
    c.execute(delete(feedback).where(feedback.c.teacher == person))
    for exchange in traces.corrected:
        text = feedback_queries.kept_text(c, exchange)
        replied = and_(turns.c.exchange == exchange, turns.c.role == "assistant")
        c.execute(update(turns).where(replied).values(text=text))


def _scrub_runs(c: Connection, texts: frozenset[str]) -> None:
    rows = c.execute(select(runs)).all()
    held = "\0".join(text for row in rows for text in _strings([row.progress, row.verdict]))
    texts = frozenset(text for text in texts if text in held)  # an imported source has a hundred thousand
    for row in rows:
        clean = {"progress": scrub(row.progress, texts), "verdict": scrub(row.verdict, texts)}
        if clean != {"progress": row.progress, "verdict": row.verdict}:
            c.execute(update(runs).where(runs.c.number == row.number).values(clean))


def _strings(value: Any) -> Iterator[str]:
    """Every text in a JSON value, names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in (*value, *value.values()) if isinstance(value, dict) else value:
            yield from _strings(one)


def _by(table: Any, platform: str, who: str) -> ColumnElement[bool]:
    return and_(table.c.platform == platform, table.c.person == who)


def _others(c: Connection, place: Place, who: str) -> bool:
    """Whether somebody else wrote in this chat."""
    query = select(inbox.c.id).where(at_place(inbox, place), inbox.c.person != who).limit(1)
    return c.execute(query).first() is not None


def _sizes(c: Connection) -> dict[str, int]:
    return {
        table.name: c.execute(select(func.count()).select_from(table)).scalar_one() for table in metadata.sorted_tables
    }
