"""What was said before, found by words and by vectors; and which of it an exchange was shown.

Knows nothing of prompts; each function runs in its caller's transaction. Words are found by SQLite's FTS5, which the
migration sets up; a database without it finds nothing, see `why_not`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    column,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    table,
    text,
)

from learner.retrieval import ranking
from learner.retrieval.terms import bot_scope, chat_scope, is_dense, query_terms
from learner.store.rows import Memory, Search
from learner.store.schema import at_place, exchanges, place_of, recalls, resets, turns, vectors

_INDEX = table("recall_index", column("rowid"))
CONSIDERED = 40  # best by BM25, of which those that cover enough are kept
OWN_WORDS = 0.8  # the bot was told nothing by what it said itself
GONE = "…"  # what a turn says whose words were taken back


def why_not(c: Connection) -> str:
    """Why this database finds nothing by words; "" when it does."""
    if c.dialect.name != "sqlite":
        return f"recall needs SQLite's full-text search, and this database is {c.dialect.name}"
    if c.execute(text("SELECT 1 FROM sqlite_master WHERE name = 'recall_index'")).first() is None:
        return "this Python's SQLite had no FTS5 when the database was made"
    return ""


def search(c: Connection, wanted: Search) -> list[Memory]:
    """What was said before and is about `wanted.words`, best first: relevant ones only, none twice, none empty."""
    by_words = _by_words(c, wanted)
    by_vector = [] if wanted.vector is None else _by_vector(c, wanted, wanted.vector)
    found = {memory.turn: memory for memory in [*by_words, *by_vector]}
    orders = [[memory.turn for memory in one] for one in (by_words, by_vector)]
    unlike: dict[str, Memory] = {}
    for turn in ranking.fused(orders):
        unlike.setdefault(" ".join(found[turn].text.split()), found[turn])
    return list(unlike.values())[: wanted.limit]


def note(c: Connection, exchange: str, memories: Iterable[int]) -> None:
    """Keep that the exchange's prompt was given these turns; those that are gone by now are left out."""
    for turn in dict.fromkeys(memories):
        there = select(bindparam("exchange", exchange), turns.c.id).where(turns.c.id == turn)
        c.execute(insert(recalls).from_select(["exchange", "turn"], there))


def shown_to(c: Connection, exchange: str) -> tuple[Memory, ...]:
    """What the exchange's prompt was given, as it reads now, oldest first; without what was taken back."""
    query = select(turns).join(recalls, recalls.c.turn == turns.c.id).where(recalls.c.exchange == exchange)
    rows = c.execute(query.where(turns.c.text != GONE).order_by(turns.c.id))
    return tuple(_memory(row, 1.0) for row in rows)


def users_of(c: Connection, said: ColumnElement[bool]) -> set[str]:
    """The exchanges whose prompt was given one of the turns that `said` selects, in whatever chat."""
    query = select(recalls.c.exchange).join(turns, turns.c.id == recalls.c.turn).where(said)
    return set(c.execute(query).scalars())


def compact(c: Connection) -> None:
    """Write the index anew, so that no part of it holds a term of a turn that is gone."""
    if not why_not(c):
        c.execute(text("INSERT INTO recall_index (recall_index) VALUES ('rebuild')"))


# By words -----------------------------------------------------------------------------------


def _by_words(c: Connection, wanted: Search) -> list[Memory]:
    terms = query_terms(wanted.words)
    if not terms or why_not(c):
        return []
    size = c.execute(select(func.max(turns.c.id))).scalar() or 0
    asked = ranking.question(wanted.words, _counts(c, terms, size), size)
    if not asked.wanted:
        return []
    rank: ColumnElement[float] = literal_column("bm25(recall_index, 0.0, 1.0)").label("rank")
    query = (
        select(turns, rank)
        .join(_INDEX, turns.c.id == _INDEX.c.rowid)
        .where(text("recall_index MATCH :match"), *_within(wanted))
        .order_by(text("rank"), turns.c.id.desc())
        .limit(CONSIDERED)
    )
    rows = c.execute(query, {"match": _match(wanted, asked.wanted)}).all()
    scored = [_memory(row, asked.coverage(row.text) * (OWN_WORDS if row.role == "assistant" else 1)) for row in rows]
    return [memory for memory in scored if memory.score >= wanted.least_coverage]


def _counts(c: Connection, terms: Sequence[str], size: int) -> dict[str, int]:
    """How many turns hold each term; one character, which is looked for as a beginning, passes for a common one."""
    query = text("SELECT term, doc FROM recall_vocabulary WHERE term IN :terms")
    rows = c.execute(query.bindparams(bindparam("terms", list(terms), expanding=True)))
    counts: dict[str, int] = {row.term: row.doc for row in rows}
    return counts | {term: max(1, size // 50) for term in terms if len(term) == 1 and is_dense(term)}


def _match(wanted: Search, terms: Sequence[str]) -> str:
    """The query in FTS5's language; the terms hold letters and digits only, so quoting is enough."""
    place = wanted.place
    here = chat_scope(place.bot, place.platform, place.chat) if wanted.across == "chat" else bot_scope(place.bot)
    one_of = " OR ".join(f'"{term}"*' if len(term) == 1 and is_dense(term) else f'"{term}"' for term in terms)
    return f"scope : {here} AND terms : ({one_of})"


# By vectors ---------------------------------------------------------------------------------


def _by_vector(c: Connection, wanted: Search, asked: Sequence[float]) -> list[Memory]:
    """The nearest by cosine, of those near enough."""
    query = select(turns, vectors.c.vector).join(vectors, vectors.c.turn == turns.c.id)
    query = query.where(vectors.c.model == wanted.model, turns.c.text != GONE, *_within(wanted))
    needle = pack(asked)
    if _has_vec(c):
        near = (1 - func.vec_distance_cosine(vectors.c.vector, needle)).label("near")
        best = c.execute(query.add_columns(near).order_by(near.desc(), turns.c.id.desc()).limit(CONSIDERED))
        return [_memory(row, row.near) for row in best if row.near >= wanted.least_similarity]
    rows = c.execute(query).all()
    if not rows:
        return []
    near_to = _cosines([row.vector for row in rows], needle)
    best_ = sorted(zip(near_to, rows, strict=True), key=lambda one: (-one[0], -one[1].id))[:CONSIDERED]
    return [_memory(row, near) for near, row in best_ if near >= wanted.least_similarity]


def _cosines(packed: Sequence[bytes], needle: bytes) -> list[float]:
    """How near each packed vector is to `needle`; all have length 1."""
    import numpy  # slow to import, and needed with an embedding model only

    matrix = numpy.frombuffer(b"".join(packed), "<f4").reshape(len(packed), -1)
    near: list[float] = (matrix @ numpy.frombuffer(needle, "<f4")).tolist()
    return near


def pack(vector: Sequence[float]) -> bytes:
    """A vector as it is stored: float32, little-endian, of length 1."""
    length = math.sqrt(sum(one * one for one in vector)) or 1.0
    return struct.pack(f"<{len(vector)}f", *(one / length for one in vector))


def without_vector(c: Connection, bot: str, model: str, limit: int) -> list[tuple[int, str]]:
    """The bot's newest turns that the model has made no vector of, as (turn, text)."""
    made = exists().where(vectors.c.turn == turns.c.id, vectors.c.model == model)
    query = select(turns.c.id, turns.c.text).where(turns.c.bot == bot, ~made).order_by(turns.c.id.desc()).limit(limit)
    return [(row.id, row.text) for row in c.execute(query)]


def add_vectors(c: Connection, model: str, made: Sequence[tuple[int, str, Sequence[float]]]) -> int:
    """Keep what the model made of (turn, text); not of turns that are gone or say something else by now."""
    kept = 0
    for turn, said, vector in made:
        c.execute(vectors.delete().where(vectors.c.turn == turn))
        there = select(turns.c.id, bindparam("model", model), bindparam("vector", pack(vector)))
        there = there.where(turns.c.id == turn, turns.c.text == said)
        kept += c.execute(insert(vectors).from_select(["turn", "model", "vector"], there)).rowcount
    return kept


def _has_vec(c: Connection) -> bool:
    query = "SELECT 1 FROM pragma_function_list WHERE name = 'vec_distance_cosine'"
    return c.dialect.name == "sqlite" and c.execute(text(query)).first() is not None


# Where it may come from ----------------------------------------------------------------------


def _within(wanted: Search) -> list[ColumnElement[bool]]:
    """What keeps a hit inside its mind, bot and chat, before the turns that a prompt holds and after a reset."""
    here = at_place(turns, wanted.place)
    same = [getattr(resets.c, name) == getattr(turns.c, name) for name in ("bot", "platform", "chat")]
    anew = exists().where(and_(*same, resets.c.after_turn >= turns.c.id))
    rules: list[ColumnElement[bool]] = [turns.c.mind == wanted.mind, turns.c.bot == wanted.place.bot, ~anew]
    rules.append(or_(turns.c.id < wanted.before, ~here) if wanted.before is not None else ~here)
    if wanted.across == "chat":
        rules.append(here)
    elif wanted.across == "person":
        mine = and_(turns.c.platform == wanted.place.platform, _of_person(wanted))
        rules.append(or_(here, mine))
    return rules


def _of_person(wanted: Search) -> ColumnElement[bool]:
    """What the person said, and what they were answered."""
    theirs = select(exchanges.c.id).where(
        exchanges.c.platform == wanted.place.platform, exchanges.c.person == wanted.person
    )
    said = and_(turns.c.role == "user", turns.c.person == wanted.person)
    return or_(said, and_(turns.c.role == "assistant", turns.c.exchange.in_(theirs)))


def _memory(row: Row[Any], score: float) -> Memory:
    return Memory(row.id, place_of(row), row.role, row.person, row.text, row.at, score)
