"""Closes the network but for this machine, keeps torch to one thread, and makes apps to test with."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # threads that wait for one another by spinning starve whatever runs beside

LOCAL = {"127.0.0.1", "::1", "localhost", ""}


@pytest.fixture(autouse=True)
def closed_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches beyond loopback fails."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in LOCAL:
            raise OSError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


def settings_for(data_dir: Path, **changes: Any) -> Any:
    """Settings of one bot on the memory platform with the scripted engine."""
    from bots.settings import parse

    raw: dict[str, Any] = {
        "data_dir": str(data_dir),
        "language": "en",
        "ask_rate": 0.0,
        "model": {"engine": "scripted"},
        "offers": {"max_per_hour": 10_000},
        "learner": {"enabled": False},
        "limits": {"person_per_minute": 100_000, "chat_per_minute": 100_000},
        "bots": [{"name": "tester", "adapters": ["memory"], "talkers": "everyone", "teachers": "everyone"}],
    }
    for name, value in changes.items():
        raw[name] = {**raw[name], **value} if isinstance(raw.get(name), dict) else value
    return parse(raw, data_dir / "config.toml")


@pytest.fixture
def running(tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[Any]]:
    """`async with running(ask_rate=1.0) as app:` is an app on tmp_path, started and stopped."""
    from bots.app import App

    @asynccontextmanager
    async def start(
        engine: Any = None,
        data_dir: Path = tmp_path / "data",
        seed: int = 0,
        clock: Callable[[], float] = time.time,
        **changes: Any,
    ) -> AsyncIterator[Any]:
        settings = settings_for(data_dir, **changes)
        engines = {"default": engine} if engine is not None else None
        app = App(settings, engines=engines, seed=seed, clock=clock)
        await app.start()
        try:
            yield app
        finally:
            await app.stop()

    return start
