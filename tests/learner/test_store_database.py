"""Opening, migrating and refusing databases."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from learner.store import Store, StoreFromNewerVersion, StoreUnusable
from learner.store.columns import clean
from learner.store.database import Database, known_versions
from learner.store.schema import metadata


def is_ours(name: str | None, kind: str, parents: object) -> bool:
    """Not the tables that SQLite's full-text index keeps for itself."""
    return kind != "table" or name is None or not name.startswith("recall_")


def test_the_migrations_lead_to_the_schema(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/n.db")
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False, "include_name": is_ours})
        assert compare_metadata(context, metadata) == []
    database.close()


def test_every_commit_is_on_disk(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/deep/er/n.db")
    with database.read() as connection:
        found = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        }
        waits = connection.execute(text("PRAGMA busy_timeout")).scalar()
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}
    assert waits is not None
    assert waits >= 5000
    database.close()


def test_a_database_from_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "n.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
    connection.close()
    before = file.read_bytes()
    with pytest.raises(StoreFromNewerVersion, match=r"schema 9999.*Nothing was changed.*data_dir"):
        Store(f"sqlite:///{file}")
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["n.db"]


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "n.db"
    file.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreUnusable, match="not a database"):
        Store(f"sqlite:///{file}")
    assert file.read_bytes() == b"not a database at all" * 100


def test_opening_twice_migrates_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/n.db"
    for _ in range(2):
        database = Database(url)
        with database.read() as connection:
            version = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
        assert version == known_versions()[-1:]
        database.close()


def test_a_database_in_memory_works() -> None:
    store = Store("sqlite://")
    assert store.next_number() == 1
    assert store.next_number() == 2
    store.close()


@pytest.mark.parametrize(
    ("text", "kept"),
    [("a好", "a好"), ("\ud800", "\ufffd"), ("\ud83d\ude00", "\U0001f600"), ("a\0b", "a\ufffdb")],
)
def test_text_that_no_database_takes_is_mended(text: str, kept: str) -> None:
    assert clean(text) == kept
