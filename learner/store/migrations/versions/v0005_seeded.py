"""Seeded comparisons: which side of an offer was known to be preferred before it was asked about.

Frozen: types are spelled out here and do not follow learner/store/schema.py.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("exchanges", sa.Column("expected", sa.Integer, nullable=True))
