"""Personas: which one a chat chose.

Frozen: types are spelled out here and do not follow learner/store/schema.py.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("chats", sa.Column("persona", sa.Text, nullable=False, server_default=""))
