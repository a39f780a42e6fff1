"""Recall: what was said as a search index, its vectors, and which of it each exchange was shown.

Frozen: types are spelled out here and do not follow learner/store/schema.py. The index is SQLite's FTS5 and is kept
in step by triggers, so that no way of changing a turn goes past it. `nightschool_terms` and `nightschool_scope` are
functions of every connection (learner/store/database.py).
"""

from __future__ import annotations

import logging

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

log = logging.getLogger(__name__)
BATCH = 5_000  # turns cut between two log lines at most; memory does not grow with it

_CUT = "nightschool_scope({0}.bot, {0}.platform, {0}.chat), nightschool_terms({0}.text)"
_INDEX = (
    "CREATE VIRTUAL TABLE recall_index USING fts5(scope, terms, tokenize = 'ascii')",
    "CREATE VIRTUAL TABLE recall_vocabulary USING fts5vocab('recall_index', 'row')",
    f"""CREATE TRIGGER recall_inserted AFTER INSERT ON turns BEGIN
      INSERT INTO recall_index (rowid, scope, terms) SELECT new.id, {_CUT.format("new")}; END""",
    f"""CREATE TRIGGER recall_updated AFTER UPDATE OF bot, platform, chat, text ON turns BEGIN
      DELETE FROM recall_index WHERE rowid = old.id;
      INSERT INTO recall_index (rowid, scope, terms) SELECT new.id, {_CUT.format("new")}; END""",
    "CREATE TRIGGER recall_deleted AFTER DELETE ON turns BEGIN DELETE FROM recall_index WHERE rowid = old.id; END",
    """CREATE TRIGGER recall_outdated AFTER UPDATE OF text ON turns BEGIN
      DELETE FROM vectors WHERE turn = old.id; END""",
)


def upgrade() -> None:
    _tables()
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":
        log.warning("recall: off, as it needs SQLite's full-text search and this database is not SQLite")
    elif not _has_fts5(connection):
        log.warning("recall: off, as this Python's SQLite was built without FTS5")
    else:
        for statement in _INDEX:
            connection.exec_driver_sql(statement)
        _index_what_is_there(connection)


def _tables() -> None:
    op.create_table(
        "vectors",
        sa.Column(
            "turn", sa.Integer, sa.ForeignKey("turns.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
        ),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "recalls",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("exchange", sa.Text, sa.ForeignKey("exchanges.id", ondelete="CASCADE"), nullable=False),
        sa.Column("turn", sa.Integer, sa.ForeignKey("turns.id", ondelete="CASCADE"), nullable=False),
        sa.UniqueConstraint("exchange", "turn", name="uq_recalls_turn"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_recalls_turn", "recalls", ["turn"])


def _has_fts5(connection: sa.Connection) -> bool:
    return bool(connection.exec_driver_sql("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'").scalar())


def _index_what_is_there(connection: sa.Connection) -> None:
    total = connection.exec_driver_sql("SELECT count(*) FROM turns").scalar_one()
    last, done = 0, 0
    while True:
        batch = f"SELECT id FROM turns WHERE id > {last} ORDER BY id LIMIT {BATCH}"
        newest, count = connection.exec_driver_sql(f"SELECT max(id), count(*) FROM ({batch})").one()
        if not count:
            return
        connection.exec_driver_sql(
            f"INSERT INTO recall_index (rowid, scope, terms) SELECT turns.id, {_CUT.format('turns')} "
            f"FROM turns WHERE id > {last} AND id <= {newest}"
        )
        last, done = newest, done + count
        log.info("recall: indexed %s of %s turns", done, total)
