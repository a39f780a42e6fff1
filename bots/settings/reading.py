"""Reads config.toml. Reports every error at once, each with its path."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adapters import registry
from bots import persona_files
from bots.settings.base import SettingsError
from bots.settings.paths import existing, folder, resolve_model
from bots.settings.talking import BotSettings, OtherPersonaSettings
from bots.settings.whole import Settings


def load(path: Path) -> Settings:
    """Read `path`. Raises SettingsError with every fault."""
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(path, ["no such file; name another one with --config"]) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(path, [f"can't be read: {error}"]) from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(path, [f"not valid TOML: {error}"]) from error
    return parse(raw, path)


def parse(raw: dict[str, Any], source: Path) -> Settings:
    """Validate `raw`; relative paths count from the folder of `source`."""
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        raise SettingsError(source, [line for fault in error.errors() for line in _problems(fault)]) from error
    home = source.resolve().parent
    bots, problems = _with_personas(settings, home)
    problems += _platform_problems(settings)
    if problems:
        raise SettingsError(source, problems)
    return settings.model_copy(
        update={
            "bots": bots,
            "data_dir": (home / settings.data_dir.expanduser()).resolve(),
            "model": settings.model.model_copy(
                update={"name": resolve_model(settings.model.name, home), "lora": existing(settings.model.lora, home)}
            ),
            "recall": settings.recall.model_copy(update={"embedding": folder(settings.recall.embedding, home)}),
            "learner": settings.learner.model_copy(update={"canaries": existing(settings.learner.canaries, home)}),
        }
    )


def _with_personas(settings: Settings, home: Path) -> tuple[tuple[BotSettings, ...], list[str]]:
    """The bots with the personas of their files, and what is wrong with those."""
    bots, problems = [], []
    for index, bot in enumerate(settings.bots):
        read: dict[str, str] = {}
        if bot.personas_file:
            try:
                read = persona_files.profiles(Path(existing(bot.personas_file, home)))
            except ValueError as error:
                problems.append(f"bots.{index}.personas_file: {error}")
        everybody = (*bot.personas, *(OtherPersonaSettings(name=name, profile=told) for name, told in read.items()))
        named = Counter(one.name.casefold() for one in everybody)
        twice = [one.name for one in everybody if named[one.name.casefold()] > 1]
        if twice:
            problems.append(f"bots.{index}.personas: two are called {twice[0]!r}; give each a name of its own")
        bots.append(bot.model_copy(update={"personas": everybody}))
    return tuple(bots), problems


def _platform_problems(settings: Settings) -> list[str]:
    """What is wrong with the settings of platforms, each adapter being asked about its own."""
    found = [
        f"adapters.{name}: no such adapter; there are {', '.join(registry.known())}"
        for name in settings.adapters.model_extra or {}
        if name not in registry.known()
    ]
    for index, bot in enumerate(settings.bots):
        for name in sorted({*bot.platforms} - {*bot.adapters}):
            found.append(f"bots.{index}.platforms.{name}: the bot's adapters do not name {name!r}")
        for name in (one for one in bot.adapters if one not in ("console", "web")):
            try:
                settings.platform(bot, name)
            except ValidationError as error:
                at = f"bots.{index}.platforms.{name}" if name in bot.platforms else f"adapters.{name}"
                found += [_problem(fault, at) for fault in error.errors()]
            except registry.MissingLibrary as error:
                found.append(f"bots.{index}.adapters: {error}")
    return found


def _problems(fault: Any) -> list[str]:
    """A line for each thing that one validator found."""
    if fault["type"] != "server":
        return [_problem(fault)]
    return [".".join((*fault["loc"], line)) for line in fault["msg"].split("\n")]


def _problem(fault: Any, under: str = "") -> str:
    path = ".".join(str(part) for part in (under, *fault["loc"]) if part != "") or "config"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        message = "unknown name; check its spelling, or the table that it stands in"
    return f"{path}: {message}"
