"""Every table, as it is now; `migrations/` says how it came to be, and a test compares the two.

Knows no queries. Rows are ordered by their integer key: it grows, clocks do not always.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Table,
    UniqueConstraint,
    and_,
    false,
)

from learner.store.columns import CleanText, Json, Logprobs, TokenIds
from learner.store.rows import Place

metadata = MetaData()


def _key(name: str = "id") -> Column[int]:
    return Column(name, Integer, primary_key=True, autoincrement=True)


def _text(name: str, *, unique: bool = False, nullable: bool = False) -> Column[str]:
    return Column(name, CleanText, unique=unique, nullable=nullable)


def _place() -> tuple[Column[str], Column[str], Column[str]]:
    return _text("bot"), _text("platform"), _text("chat")


def _exchange_key() -> Column[str]:
    target = ForeignKey("exchanges.id", ondelete="CASCADE")
    return Column("exchange", CleanText, target, nullable=False)


inbox = Table(
    "inbox",
    metadata,
    _key(),
    _text("mind"),
    *_place(),
    _text("external_id"),
    _text("person"),
    _text("kind"),
    Column("payload", Json, nullable=False),
    Column("at", Double, nullable=False),
    Column("done", Boolean, nullable=False),
    Column("merged_into", Integer),
    UniqueConstraint("bot", "platform", "external_id", name="uq_inbox_external"),
    Index("ix_inbox_done", "done"),
    Index("ix_inbox_place", "bot", "platform", "chat"),
    Index("ix_inbox_merged", "merged_into"),
    sqlite_autoincrement=True,
)

outbox = Table(
    "outbox",
    metadata,
    _key("seq"),
    _text("id", unique=True),
    _text("mind"),
    *_place(),
    Column("inbox_id", Integer, ForeignKey("inbox.id", ondelete="CASCADE")),
    _text("exchange", nullable=True),
    Column("payload", Json, nullable=False),
    _text("state"),
    Column("attempts", Integer, nullable=False),
    _text("reason"),
    Column("at", Double, nullable=False),
    Index("ix_outbox_state", "state"),
    Index("ix_outbox_inbox", "inbox_id"),
    Index("ix_outbox_place", "bot", "platform", "chat"),
    sqlite_autoincrement=True,
)

sent_messages = Table(
    "sent_messages",
    metadata,
    _key(),
    Column("outbox_id", CleanText, ForeignKey("outbox.id", ondelete="CASCADE"), nullable=False),
    *_place(),
    _text("message_id"),
    Index("ix_sent_messages_outbox", "outbox_id"),
    Index("ix_sent_messages_message", "bot", "platform", "message_id"),
    sqlite_autoincrement=True,
)

exchanges = Table(
    "exchanges",
    metadata,
    _key("seq"),
    _text("id", unique=True),
    _text("mind"),
    *_place(),
    _text("person"),
    Column("inbox_id", Integer, ForeignKey("inbox.id", ondelete="SET NULL")),
    _text("state"),
    _text("offer"),
    Column("expires_at", Double),
    Column("prompt", Json, nullable=False),
    Column("prompt_ids", TokenIds, nullable=False),
    Column("at", Double, nullable=False),
    Column("finished_at", Double),
    Column("tainted", Boolean, nullable=False),
    _text("retry_of", nullable=True),
    Column("expected", Integer),
    Index("ix_exchanges_mind", "mind"),
    Index("ix_exchanges_inbox", "inbox_id"),
    Index("ix_exchanges_place", "bot", "platform", "chat", "person"),
    sqlite_autoincrement=True,
)

candidates = Table(
    "candidates",
    metadata,
    _key(),
    _exchange_key(),
    Column("side", Integer, nullable=False),
    _text("text"),
    Column("token_ids", TokenIds, nullable=False),
    Column("logprobs", Logprobs, nullable=False),
    _text("lora", nullable=True),
    Column("sampling", Json, nullable=False),
    Column("seed", BigInteger, nullable=False),
    _text("finish"),
    UniqueConstraint("exchange", "side", name="uq_candidates_side"),
    sqlite_autoincrement=True,
)

turns = Table(
    "turns",
    metadata,
    _key(),
    _text("mind"),
    *_place(),
    _text("role"),
    _text("person"),
    _text("text"),
    Column("exchange", CleanText, ForeignKey("exchanges.id", ondelete="CASCADE")),
    Column("at", Double, nullable=False),
    Index("ix_turns_place", "bot", "platform", "chat"),
    Index("ix_turns_exchange", "exchange"),
    sqlite_autoincrement=True,
)

# Sentences as vectors, each by one embedding model. What a turn says is also in `recall_index` (FTS5), which triggers
# keep in step and which `metadata` does not know: see migrations/versions/v0003_recall.py.
vectors = Table(
    "vectors",
    metadata,
    Column("turn", Integer, ForeignKey("turns.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    _text("model"),
    Column("vector", LargeBinary, nullable=False),
)

# Which earlier turns an exchange's prompt was given, in the order of their rank.
recalls = Table(
    "recalls",
    metadata,
    _key(),
    _exchange_key(),
    Column("turn", Integer, ForeignKey("turns.id", ondelete="CASCADE"), nullable=False),
    UniqueConstraint("exchange", "turn", name="uq_recalls_turn"),
    Index("ix_recalls_turn", "turn"),
    sqlite_autoincrement=True,
)

# A reset is a mark: turns up to `after_turn` are no longer history. A chat's mark has no mind.
resets = Table(
    "resets",
    metadata,
    _key(),
    *_place(),
    Column("after_turn", Integer, nullable=False),
    Column("at", Double, nullable=False),
    Index("ix_resets_place", "bot", "platform", "chat"),
    sqlite_autoincrement=True,
)

feedback = Table(
    "feedback",
    metadata,
    _key(),
    _text("mind"),
    _exchange_key(),
    _text("teacher"),
    Column("trusted", Boolean, nullable=False),
    _text("kind"),
    _text("value"),
    _text("correction"),
    Column("keep", Integer),
    _text("keep_text", nullable=True),
    Column("inbox_id", Integer, ForeignKey("inbox.id", ondelete="SET NULL"), unique=True),
    Column("at", Double, nullable=False),
    Index("ix_feedback_exchange", "exchange"),
    Index("ix_feedback_teacher", "teacher"),
    Index("ix_feedback_mind", "mind"),
    sqlite_autoincrement=True,
)

people = Table(
    "people",
    metadata,
    _key(),
    _text("bot"),
    _text("platform"),
    _text("person"),
    _text("name"),
    Column("owner", Boolean, nullable=False),
    Column("teacher", Boolean, nullable=False),
    Column("claimed_at", Double),
    Column("admitted", Boolean, nullable=False, server_default=false()),
    _text("code", nullable=True),
    UniqueConstraint("bot", "platform", "person", name="uq_people_person"),
    sqlite_autoincrement=True,
)

# What is set for one chat: a group that was let in, a bot that was told to be quiet, a language, a persona.
chats = Table(
    "chats",
    metadata,
    _key(),
    *_place(),
    Column("allowed", Boolean, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("noticed", Boolean, nullable=False),
    _text("language"),
    Column("persona", CleanText, nullable=False, server_default=""),
    UniqueConstraint("bot", "platform", "chat", name="uq_chats_place"),
    sqlite_autoincrement=True,
)

# What was set for a bot while it ran, by name.
notes = Table(
    "notes",
    metadata,
    Column("bot", CleanText, primary_key=True),
    Column("name", CleanText, primary_key=True),
    _text("value"),
    _text("author"),
)

# `runs` holds what ran; `run_numbers` the highest number ever given, so that none comes twice.
runs = Table(
    "runs",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    _text("mind"),
    _text("state"),
    Column("started_at", Double, nullable=False),
    Column("finished_at", Double),
    Column("progress", Json, nullable=False),
    Column("verdict", Json, nullable=False),
    Index("ix_runs_mind", "mind"),
)

run_numbers = Table("run_numbers", metadata, Column("number", Integer, primary_key=True, autoincrement=False))


def at_place(table: Table, place: Place) -> ColumnElement[bool]:
    """The rows of `table` that belong to `place`."""
    c = table.c
    return and_(c.bot == place.bot, c.platform == place.platform, c.chat == place.chat)


def place_of(row: Row) -> Place:
    """The place that `row` belongs to."""
    return Place(row.bot, row.platform, row.chat)


def place_values(place: Place) -> dict[str, str]:
    """`place` as column values."""
    return {"bot": place.bot, "platform": place.platform, "chat": place.chat}
