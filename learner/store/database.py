"""Opens the database: pragmas, transactions, the version check and the migrations.

Knows nothing of what the tables mean. On SQLite every commit is on disk when it returns
(WAL, synchronous=FULL), deleted content is overwritten (secure_delete), and a write takes the
write lock when it begins, so that it waits for another process instead of failing half-way.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool, StaticPool

from learner.retrieval.terms import index_terms, scope_terms
from learner.store.errors import StoreFromNewerVersion, StoreUnusable

log = logging.getLogger(__name__)

BUSY_SECONDS = 30
PRAGMAS = (
    f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA secure_delete=ON",
)
VERSIONS = Path(__file__).parent / "migrations" / "versions"


class Database:
    """A migrated database and its transactions."""

    def __init__(self, url: str, vectors: bool = False) -> None:
        self.url = make_url(url).render_as_string(hide_password=True)
        self.is_sqlite = make_url(url).get_backend_name() == "sqlite"
        self.file = _sqlite_file(url)
        with self._errors():
            _refuse_newer(url, self.file)
            self.engine = _connect(url, self.file)
            if vectors and self.is_sqlite:
                event.listen(self.engine, "connect", _load_vec)
            self._migrate()

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database."""
        with self._errors(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that holds the write lock; all of it is kept, or nothing."""
        engine = self.engine.execution_options(begin="BEGIN IMMEDIATE")
        with self._errors(), engine.begin() as connection:
            yield connection

    def purge(self) -> bool:
        """Remove what was deleted from the database's files. False: not now, it can be repeated."""
        if not self.is_sqlite:
            return False  # a server's own VACUUM, log archive and backups are not ours to reach
        engine = self.engine.execution_options(begin=None)
        try:
            with self._errors(), engine.connect() as connection:
                connection.execute(text("VACUUM"))
                return connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)")).one()[0] == 0
        except StoreUnusable as reason:
            log.warning("deleted rows may still be in the database's files: %s", reason)
            return False

    def _migrate(self) -> None:
        newest = known_versions()[-1]
        with self.read() as connection:
            if _version(connection) == newest:
                return
        with self.write() as connection:
            upgrade(connection)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """The one place where the driver's errors become ours; a bug's IntegrityError stays."""
        try:
            yield
        except DatabaseError as exc:
            if exc.orig is not None and type(exc.orig).__name__ in ("OperationalError", "DatabaseError"):
                raise StoreUnusable(self.url, str(exc.orig)) from exc
            raise


def known_versions() -> list[str]:
    """The schema versions that this program knows, oldest first."""
    names = (re.match(r"v(\d{4})_", path.name) for path in VERSIONS.iterdir())
    return sorted(name[1] for name in names if name)


def upgrade(connection: Connection, target: str = "head") -> None:
    """Run the missing migrations inside `connection`'s transaction."""
    from alembic import command  # slow to import, and needed once in a database's life
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "learner.store:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, target)


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _refuse_newer(url: str, file: Path | None) -> None:
    """Look at the version before any pragma or migration can change a byte."""
    if make_url(url).get_backend_name() == "sqlite" and (file is None or not file.exists()):
        return
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True)
    with engine.connect() as connection:
        found = _version(connection)
    newest = known_versions()[-1]
    if found is not None and found not in known_versions():
        raise StoreFromNewerVersion(make_url(url).render_as_string(hide_password=True), found, newest)


def _sqlite_file(url: str) -> Path | None:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(str(parsed.database))


def _connect(url: str, file: Path | None) -> Engine:
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url, hide_parameters=True)
    if file is None:
        engine = create_engine(
            url, poolclass=StaticPool, hide_parameters=True, connect_args={"check_same_thread": False}
        )
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(url, hide_parameters=True)
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    return engine


def _on_connect(dbapi_connection: Any, record: Any) -> None:
    dbapi_connection.isolation_level = None  # we say BEGIN ourselves, DDL included
    for pragma in PRAGMAS:
        dbapi_connection.execute(pragma)
    # what the triggers of the search index call, see migrations/versions/v0003_recall.py
    dbapi_connection.create_function("nightschool_terms", 1, index_terms, deterministic=True)
    dbapi_connection.create_function("nightschool_scope", 3, scope_terms, deterministic=True)


def _load_vec(dbapi_connection: Any, record: Any) -> None:
    """Let SQL compare vectors. Without it they are compared by numpy, which reads them all first."""
    try:
        import sqlite_vec

        dbapi_connection.enable_load_extension(True)
        sqlite_vec.load(dbapi_connection)
        dbapi_connection.enable_load_extension(False)
    except (ImportError, AttributeError) as reason:  # not installed; a Python built without extensions
        log.info("recall: vectors are compared without sqlite-vec: %s", reason)


def _on_begin(connection: Connection) -> None:
    begin = connection.get_execution_options().get("begin", "BEGIN")
    if begin is not None:  # None: VACUUM refuses to run inside a transaction
        connection.exec_driver_sql(begin)
