"""What the app is put together from: the lock on the data folder, the engine, kinds of adapters.

Knows nothing of when each is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import filelock
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from bots.database import Database
from bots.embedding import Vectors
from bots.settings import Settings
from learner.engine.base import Engine
from learner.retrieval.embedding import SentenceTransformerEmbedder
from learner.store.store import Store


@runtime_checkable
class Announcing(Protocol):
    """An adapter that shows what happens beside the conversation."""

    def announce(self, event: str, data: Mapping[str, object]) -> None: ...


@runtime_checkable
class Served(Protocol):
    """An adapter that is reached by HTTP: its routes, and the guard before them."""

    def routes(self) -> list[BaseRoute]: ...

    def guard(self, app: ASGIApp) -> ASGIApp: ...


class AlreadyRunning(Exception):
    """Another process has the data folder."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(f"a bot already runs on {data_dir}; stop it, or use another data_dir in config.toml")


def lock(data_dir: Path) -> filelock.BaseFileLock:
    """Hold `data_dir` for this process. Raises AlreadyRunning."""
    data_dir.mkdir(parents=True, exist_ok=True)
    held = filelock.FileLock(data_dir / "nightschool.lock")
    try:
        held.acquire(timeout=0)
    except filelock.Timeout as error:
        raise AlreadyRunning(data_dir) from error
    return held


def embedding_of(settings: Settings, store: Store, database: Database) -> Vectors | None:
    """The embedding model that `[recall]` asks for, if it does; it is loaded when it is first used."""
    if not settings.recalls or not settings.recall.embedding:
        return None
    return Vectors(SentenceTransformerEmbedder(settings.recall.embedding), store, database)


def build_engine(settings: Settings) -> Engine:
    """The engine that `[model]` asks for."""
    model = settings.model
    if model.engine == "scripted":
        from learner.engine.scripted import ScriptedEngine

        return ScriptedEngine()
    from learner.engine.local import LocalEngine
    from learner.engine.local_settings import LocalSettings

    return LocalEngine(
        LocalSettings(
            model=model.name,
            device=model.device,
            dtype=model.dtype,
            quantisation=model.quantisation,
            max_batch=model.max_batch,
            max_queue=model.max_queue,
            kv_cache_bytes=model.kv_cache_mb * 2**20,
            threads=model.threads,
        )
    )
