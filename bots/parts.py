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
from bots.settings import ModelSettings, Settings
from learner.engine.base import Engine
from learner.engine.remote_settings import RemoteSettings
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
    if model.engine == "remote":
        from learner.engine.remote import RemoteEngine

        return RemoteEngine(remote_settings(model))
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
            anchor=model.lora,
            template=model.template,
            thinking=model.thinking,
            show_thoughts=model.show_thoughts,
        )
    )


def remote_settings(model: ModelSettings) -> RemoteSettings:
    """The server that `[model.remote]` names, as the engine takes it."""
    remote = model.remote
    return RemoteSettings(
        base_url=remote.base_url,
        model=remote.model,
        key=remote.key,
        key_env=remote.key_env,
        base=model.name,
        template=model.template,
        context_length=remote.context_tokens,
        max_running=model.max_batch,
        max_queue=model.max_queue,
        retries=remote.retries,
        pairs=remote.pairs,
        lora=remote.lora,
        lora_dir=remote.lora_dir,
        begins_thinking=remote.begins_thinking,
        show_thoughts=model.show_thoughts,
        extra=remote.extra,
    )
