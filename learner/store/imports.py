"""Stores records that were made elsewhere as exchanges and feedback, each once.

Knows nothing of the files they came from; each function runs in its caller's transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, insert, select

from learner.imported import PLATFORM, ImportCount, ImportedRecord, teacher_of
from learner.store import people
from learner.store.rows import Known
from learner.store.schema import candidates, exchanges, feedback

Values = dict[str, Any]


def add(
    c: Connection, mind: str, bot: str, source: str, teacher: str, records: Sequence[ImportedRecord], at: float
) -> ImportCount:
    """Store what is new of `records` from `source`, taught by `teacher` ("" for the source itself, an owner).

    A record that another teacher brought before gets this one's word too.
    """
    word_of = teacher or teacher_of(source)
    wanted = {record.key(mind, source): record for record in records}
    stored = set(c.execute(select(exchanges.c.id).where(exchanges.c.id.in_(list(wanted)))).scalars())
    said = and_(feedback.c.exchange.in_(list(wanted)), feedback.c.teacher == word_of)
    judged = set(c.execute(select(feedback.c.exchange).where(said)).scalars())
    new = {key: record for key, record in wanted.items() if key not in stored}
    if not teacher:
        people.note(c, Known(bot, PLATFORM, source, source, owner=True, teacher=True))
    _insert(c, exchanges, [_exchange(key, mind, bot, source, record, at) for key, record in new.items()])
    _insert(c, candidates, [row for key, record in new.items() for row in _candidates(key, record)])
    told = [_word(key, mind, word_of, record, at) for key, record in wanted.items() if key not in judged]
    _insert(c, feedback, told)
    return ImportCount(len(told), len(records) - len(told))


def _insert(c: Connection, table: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        c.execute(insert(table), rows)


def _exchange(key: str, mind: str, bot: str, source: str, record: ImportedRecord, at: float) -> Values:
    return {
        "id": key,
        "mind": mind,
        "bot": bot,
        "platform": PLATFORM,
        "chat": source,
        "person": source,
        "inbox_id": None,
        "state": "final",
        "offer": "chosen" if record.desirable is None else "none",
        "expires_at": None,
        "prompt": [{"role": one.role, "content": one.content} for one in record.prompt],
        "prompt_ids": (),
        "at": at,
        "finished_at": at,
        "tainted": False,
        "retry_of": None,
    }


def _candidates(key: str, record: ImportedRecord) -> list[Values]:
    """The texts; that the preferred one is first says nothing, see `learner.records`."""
    blank: Values = {"token_ids": (), "logprobs": (), "lora": None, "sampling": {}, "seed": 0, "finish": "stop"}
    return [{"exchange": key, "side": side, "text": text, **blank} for side, text in enumerate(record.replies, 1)]


def _word(key: str, mind: str, teacher: str, record: ImportedRecord, at: float) -> Values:
    rating = "good" if record.desirable else "bad"
    return {
        "mind": mind,
        "exchange": key,
        "teacher": teacher,
        "trusted": True,
        "kind": "choice" if record.desirable is None else "rating",
        "value": "1" if record.desirable is None else rating,
        "correction": "",
        "keep": None,
        "keep_text": None,
        "inbox_id": None,
        "at": at,
    }
