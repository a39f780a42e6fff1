"""Looks at everything that a bot needs before it runs, and says what to do about what is wrong.

Starts nothing. Knows nothing of what the platforms need: each adapter looks at its own.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters import registry
from adapters.base import Finding, Health, Person
from bots.parts import AlreadyRunning, lock, remote_settings
from bots.server import PortInUse, bind
from bots.settings import BotSettings, Settings
from learner import lora_folder
from learner.store.errors import StoreError
from learner.store.store import Store


@dataclass(frozen=True)
class Visitor:
    """The Host of an adapter that is only looked at."""

    bot: str
    folder: Path

    def report(self, health: Health) -> None:
        """Nothing is kept."""

    async def owned_by(self, person: Person) -> None:
        """Nobody is told."""


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """All findings, one after the other; those of a platform may take seconds."""
    for finding in _data(settings):
        yield finding
    if settings.model.engine == "remote":
        yield await _server(settings)
    for finding in _model(settings):
        yield finding
    for bot in settings.bots:
        for name in bot.adapters:
            for finding in await _adapter(settings, bot, name):
                yield finding


def _data(settings: Settings) -> Iterator[Finding]:
    what = f"data folder {settings.data_dir}"
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.data_dir):
            yield Finding(what, True)
    except OSError as error:
        yield Finding(what, False, f"can't be written to ({error}); change data_dir in config.toml or its rights")
        return
    try:
        held = lock(settings.data_dir)
    except AlreadyRunning:
        yield Finding("a bot runs on this folder; its page, port and logins are in use", True)
        return
    try:
        yield from _store(settings)
        if settings.has_page or settings.serves_api:
            yield _port(settings)
    finally:
        held.release()


def _store(settings: Settings) -> Iterator[Finding]:
    try:
        Store(settings.database_url).close()
        yield Finding("database", True)
    except StoreError as error:
        yield Finding("database", False, str(error))


def _port(settings: Settings) -> Finding:
    web = settings.adapters.web
    try:
        bind(web.host, web.port).close()
    except (PortInUse, OSError) as error:
        return Finding(f"port {web.port} of the page", False, str(error))
    return Finding(f"port {web.port} of the page", True)


def _model(settings: Settings) -> Iterator[Finding]:
    name = settings.model.name
    if settings.model.engine == "scripted":
        yield Finding("model: scripted, for tests", True)
    elif settings.model.engine == "remote" and not name:
        yield Finding("no base model to train: records are kept, and nights do nothing", True)
    elif not os.path.isabs(name):
        yield Finding(f"model {name}, which the hub gives at the first start", True)
    else:
        there = (Path(name) / "config.json").is_file()
        yield Finding(f"model {name}", there, "" if there else "has no config.json; set model.name to a model's folder")
    if settings.model.lora:
        yield _anchor(settings)
    if settings.model.quantisation == "nf4":
        yield _imports("bitsandbytes", 'pip install "nightschool[qlora]"')


def _anchor(settings: Settings) -> Finding:
    """Whether the LoRA that is to speak is one; that it fits the model is seen when it is loaded."""
    what = f"LoRA {settings.model.lora}"
    try:
        lora_folder.read(Path(settings.model.lora))
    except lora_folder.LoraError as error:
        return Finding(what, False, f"{error}; set model.lora to what nightschool train wrote, or to nothing")
    return Finding(what, True)


async def _server(settings: Settings) -> Finding:
    """Whether the server of the remote engine answers, and has the model."""
    from learner.engine.base import EngineError
    from learner.engine.remote_wire import RemoteClient

    wanted, client = settings.model.remote, RemoteClient(remote_settings(settings.model))
    what = f"model {wanted.model} on {wanted.base_url}"
    try:
        listed = await client.models()
    except EngineError as error:
        return Finding(what, False, str(error))
    finally:
        await client.close()
    there = wanted.model in listed
    return Finding(what, there, "" if there else f"is not there; it has: {', '.join(listed[:20]) or 'none'}")


def _imports(library: str, cure: str) -> Finding:
    from importlib.util import find_spec

    there = find_spec(library) is not None
    return Finding(library, there, "" if there else f"is not installed: {cure}")


async def _adapter(settings: Settings, bot: BotSettings, name: str) -> list[Finding]:
    """What the adapter finds about itself; one that can't look is told of, and stops nothing."""
    try:
        diagnose: Callable[..., Any] | None = getattr(registry.load(name), "diagnose", None)
    except registry.MissingLibrary as error:
        return [Finding(f"{bot.name}: {name}", False, str(error))]
    if diagnose is None:
        return []
    folder = settings.data_dir / "platforms" / bot.name / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        found: list[Finding] = await diagnose(settings.platform(bot, name), Visitor(bot.name, folder))
    except Exception as error:
        return [Finding(f"{bot.name}: {name}", False, f"could not be looked at: {type(error).__name__}: {error}")]
    return [Finding(f"{bot.name}: {name}: {one.what}", one.right, one.to_do) for one in found]
