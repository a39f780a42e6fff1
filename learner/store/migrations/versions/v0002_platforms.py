"""Platforms: who was let in, what is set for a chat, messages that became one turn, replies said again.

Frozen: types are spelled out here and do not follow learner/store/schema.py.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("people", sa.Column("admitted", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("people", sa.Column("code", sa.Text, nullable=True))
    op.add_column("inbox", sa.Column("merged_into", sa.Integer, nullable=True))
    op.create_index("ix_inbox_merged", "inbox", ["merged_into"])
    op.add_column("exchanges", sa.Column("retry_of", sa.Text, nullable=True))
    op.create_table(
        "chats",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("bot", sa.Text, nullable=False),
        sa.Column("platform", sa.Text, nullable=False),
        sa.Column("chat", sa.Text, nullable=False),
        sa.Column("allowed", sa.Boolean, nullable=False),
        sa.Column("paused", sa.Boolean, nullable=False),
        sa.Column("noticed", sa.Boolean, nullable=False),
        sa.Column("language", sa.Text, nullable=False),
        sa.UniqueConstraint("bot", "platform", "chat", name="uq_chats_place"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "notes",
        sa.Column("bot", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
    )
    op.drop_index("ix_sent_messages_place", "sent_messages")
    op.create_index("ix_sent_messages_message", "sent_messages", ["bot", "platform", "message_id"])
