"""The first schema: conversations, feedback, people and nightly runs.

Frozen: types are spelled out here and do not follow learner/store/schema.py.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _key(name: str = "id") -> sa.Column[Any]:
    return sa.Column(name, sa.Integer, primary_key=True, autoincrement=True)


def _text(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, nullable=nullable)


def _time(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Double, nullable=nullable)


def _flag(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean, nullable=False)


def _place() -> list[sa.Column[Any]]:
    return [_text("bot"), _text("platform"), _text("chat")]


def _inbox_key(ondelete: str) -> sa.Column[Any]:
    return sa.Column("inbox_id", sa.Integer, sa.ForeignKey("inbox.id", ondelete=ondelete))


def _exchange_key(nullable: bool = False) -> sa.Column[Any]:
    target = sa.ForeignKey("exchanges.id", ondelete="CASCADE")
    return sa.Column("exchange", sa.Text, target, nullable=nullable)


def upgrade() -> None:
    _inbox_and_outbox()
    _exchanges()
    _history()
    _feedback()
    _people_and_runs()


def _inbox_and_outbox() -> None:
    op.create_table(
        "inbox",
        *[_key(), _text("mind"), *_place(), _text("external_id"), _text("person"), _text("kind")],
        *[_text("payload"), _time("at"), _flag("done")],
        sa.UniqueConstraint("bot", "platform", "external_id", name="uq_inbox_external"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_inbox_done", "inbox", ["done"])
    op.create_index("ix_inbox_place", "inbox", ["bot", "platform", "chat"])
    op.create_table(
        "outbox",
        *[_key("seq"), sa.Column("id", sa.Text, nullable=False, unique=True), _text("mind")],
        *[*_place(), _inbox_key("CASCADE"), _text("exchange", nullable=True), _text("payload")],
        *[_text("state"), sa.Column("attempts", sa.Integer, nullable=False), _text("reason")],
        _time("at"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_state", "outbox", ["state"])
    op.create_index("ix_outbox_inbox", "outbox", ["inbox_id"])
    op.create_index("ix_outbox_place", "outbox", ["bot", "platform", "chat"])
    outbox_id = sa.ForeignKey("outbox.id", ondelete="CASCADE")
    op.create_table(
        "sent_messages",
        *[_key(), sa.Column("outbox_id", sa.Text, outbox_id, nullable=False)],
        *[*_place(), _text("message_id")],
        sqlite_autoincrement=True,
    )
    op.create_index("ix_sent_messages_outbox", "sent_messages", ["outbox_id"])
    columns = ["bot", "platform", "chat", "message_id"]
    op.create_index("ix_sent_messages_place", "sent_messages", columns)


def _exchanges() -> None:
    op.create_table(
        "exchanges",
        *[_key("seq"), sa.Column("id", sa.Text, nullable=False, unique=True), _text("mind")],
        *[*_place(), _text("person"), _inbox_key("SET NULL"), _text("state"), _text("offer")],
        *[_time("expires_at", nullable=True), _text("prompt")],
        *[sa.Column("prompt_ids", sa.LargeBinary, nullable=False), _time("at")],
        *[_time("finished_at", nullable=True), _flag("tainted")],
        sqlite_autoincrement=True,
    )
    op.create_index("ix_exchanges_mind", "exchanges", ["mind"])
    op.create_index("ix_exchanges_inbox", "exchanges", ["inbox_id"])
    op.create_index("ix_exchanges_place", "exchanges", ["bot", "platform", "chat", "person"])
    op.create_table(
        "candidates",
        *[_key(), _exchange_key(), sa.Column("side", sa.Integer, nullable=False), _text("text")],
        sa.Column("token_ids", sa.LargeBinary, nullable=False),
        sa.Column("logprobs", sa.LargeBinary, nullable=False),
        *[_text("lora", nullable=True), _text("sampling")],
        *[sa.Column("seed", sa.BigInteger, nullable=False), _text("finish")],
        sa.UniqueConstraint("exchange", "side", name="uq_candidates_side"),
        sqlite_autoincrement=True,
    )


def _history() -> None:
    op.create_table(
        "turns",
        *[_key(), _text("mind"), *_place(), _text("role"), _text("person"), _text("text")],
        *[_exchange_key(nullable=True), _time("at")],
        sqlite_autoincrement=True,
    )
    op.create_index("ix_turns_place", "turns", ["bot", "platform", "chat"])
    op.create_index("ix_turns_exchange", "turns", ["exchange"])
    op.create_table(
        "resets",
        *[_key(), *_place(), sa.Column("after_turn", sa.Integer, nullable=False), _time("at")],
        sqlite_autoincrement=True,
    )
    op.create_index("ix_resets_place", "resets", ["bot", "platform", "chat"])


def _feedback() -> None:
    inbox_id = sa.ForeignKey("inbox.id", ondelete="SET NULL")
    op.create_table(
        "feedback",
        *[_key(), _text("mind"), _exchange_key(), _text("teacher"), _flag("trusted")],
        *[_text("kind"), _text("value"), _text("correction"), sa.Column("keep", sa.Integer)],
        *[_text("keep_text", nullable=True)],
        *[sa.Column("inbox_id", sa.Integer, inbox_id, unique=True), _time("at")],
        sqlite_autoincrement=True,
    )
    op.create_index("ix_feedback_exchange", "feedback", ["exchange"])
    op.create_index("ix_feedback_teacher", "feedback", ["teacher"])
    op.create_index("ix_feedback_mind", "feedback", ["mind"])


def _people_and_runs() -> None:
    op.create_table(
        "people",
        *[_key(), _text("bot"), _text("platform"), _text("person"), _text("name")],
        *[_flag("owner"), _flag("teacher"), _time("claimed_at", nullable=True)],
        sa.UniqueConstraint("bot", "platform", "person", name="uq_people_person"),
        sqlite_autoincrement=True,
    )
    number = sa.Column("number", sa.Integer, primary_key=True, autoincrement=False)
    op.create_table(
        "runs",
        *[number, _text("mind"), _text("state"), _time("started_at")],
        *[_time("finished_at", nullable=True), _text("progress"), _text("verdict")],
    )
    op.create_index("ix_runs_mind", "runs", ["mind"])
    number = sa.Column("number", sa.Integer, primary_key=True, autoincrement=False)
    op.create_table("run_numbers", number)
