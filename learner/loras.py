"""LoRA versions on disk: publish, list, activate, roll back, retire.

`loras_dir/NNNN/` is one published, immutable version; `loras_dir/active/SCOPE` names the one that
speaks. A scope is written as `learner/scopes.py` says: MIND, or MIND@NAME for chats with a LoRA of
their own. Knows nothing of torch, training or the engine.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from learner.durable import sync_file, sync_folder, write_whole
from learner.lora_folder import (
    RETIRED_FILE,
    LoraError,
    LoraMissing,
    LoraRetired,
    LoraUnfit,
    LoraVersion,
    Shape,
    check,
    read,
)
from learner.scopes import BASE, COMMON, rest_of

log = logging.getLogger(__name__)

VERSION = re.compile(r"\d{4,}")
SCOPE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(@[A-Za-z0-9_-]+)?")


def publish(built: Path, loras_dir: Path, version: str, fits: Shape) -> LoraVersion:
    """Move the finished LoRA folder `built` to its place with one rename.

    Raises LoraUnfit, leaving everything as it was, when it is broken or does not fit `fits`.
    """
    check(built, fits)
    loras_dir.mkdir(parents=True, exist_ok=True)
    place = loras_dir / version
    if place.exists():
        raise LoraUnfit(built, f"version {version} is published already, and a published LoRA is never replaced")
    for file in built.iterdir():
        sync_file(file)
    sync_folder(built)
    _move(built, place)
    sync_folder(loras_dir)
    return read(place)


def listing(loras_dir: Path, mind: str) -> list[LoraVersion]:
    """Every readable version of a mind and of its chats, oldest first; a broken folder is left out and logged."""
    return [version for version in _all(loras_dir) if version.mind == mind]


def show(loras_dir: Path, version: str) -> LoraVersion:
    """Read one version. Raises LoraMissing or LoraUnfit."""
    folder = loras_dir / version
    if not VERSION.fullmatch(version) or not folder.is_dir():
        raise LoraMissing(version, loras_dir)
    return read(folder)


def next_number(loras_dir: Path) -> int:
    """A number that no version has yet."""
    return max((int(version.version) for version in _all(loras_dir)), default=0) + 1


def active(loras_dir: Path, scope: str) -> str:
    """The version that speaks for a scope, or else "base", and for chats of their own "common"."""
    try:
        return _pointer(loras_dir, scope).read_text("utf-8").strip() or rest_of(scope)
    except FileNotFoundError:
        return rest_of(scope)


def active_folder(loras_dir: Path, scope: str) -> Path | None:
    """The folder of the scope's version that speaks, None where it has none."""
    version = active(loras_dir, scope)
    return None if version == rest_of(scope) else loras_dir / version


def set_active(loras_dir: Path, scope: str, version: str) -> str:
    """Let `version` (or "base", "common") speak for a scope. Raises LoraMissing, LoraUnfit or LoraRetired."""
    check_speakable(loras_dir, scope, version)
    _point(loras_dir, scope, version, "set")
    return version


def rollback(loras_dir: Path, scope: str) -> str:
    """Let the version before the active one speak again, and return it.

    That is the one that was active before, or else the active one's parent, or else the base (for chats
    of their own the common one); versions that are gone, retired or another scope's are passed over.
    """
    for version in _before(loras_dir, scope):
        with suppress(LoraError):
            check_speakable(loras_dir, scope, version)
            _point(loras_dir, scope, version, "rollback")
            return version
    spoken = {BASE: "the base model", COMMON: "the common LoRA"}[rest_of(scope)]
    raise LoraError(f"nothing to roll back to: {spoken} already speaks for {scope}")


def retire(loras_dir: Path, version: str, reason: str) -> None:
    """Mark a version as one that may not speak again. The caller rolls back if it is active."""
    folder = show(loras_dir, version).folder
    write_whole(folder / RETIRED_FILE, json.dumps({"reason": reason, "at": time.time()}) + "\n")


def check_speakable(loras_dir: Path, scope: str, version: str) -> None:
    """Raises LoraMissing, LoraUnfit or LoraRetired where `version` may not speak for a scope."""
    if version == rest_of(scope):
        return
    found = show(loras_dir, version)
    if found.scope != scope:
        whose = f"the mind {found.mind}" if found.name is None else f"the chats {found.name} of the mind {found.mind}"
        raise LoraUnfit(found.folder, f"it belongs to {whose}, not to {scope}")
    if found.retired is not None:
        raise LoraRetired(version, found.retired)


def _before(loras_dir: Path, scope: str) -> Iterator[str]:
    """Versions to roll back to, the likeliest first."""
    now = active(loras_dir, scope)
    if now == rest_of(scope):
        return
    yield from (version for version in reversed(_stack(loras_dir, scope)) if version != now)
    with suppress(LoraError):
        parent = show(loras_dir, now).parent
        if parent is not None:
            yield parent
    yield rest_of(scope)


def _stack(loras_dir: Path, scope: str) -> list[str]:
    """The versions that were made active and not rolled back from, the active one last."""
    stack: list[str] = []
    for entry in _history(loras_dir, scope):
        if entry["how"] == "rollback":
            while stack and stack[-1] != entry["version"]:
                stack.pop()
        if not stack or stack[-1] != entry["version"]:
            stack.append(entry["version"])
    return stack


def _history(loras_dir: Path, scope: str) -> list[dict[str, Any]]:
    try:
        lines = _history_file(loras_dir, scope).read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    entries = []
    for line in lines:
        with suppress(ValueError):  # a line cut short by a crash: its pointer was never moved
            entries.append(json.loads(line))
    return entries


def _point(loras_dir: Path, scope: str, version: str, how: str) -> None:
    """Move the pointer, then note it: a crash between the two loses the note, not the pointer."""
    pointer, history = _pointer(loras_dir, scope), _history_file(loras_dir, scope)
    pointer.parent.mkdir(parents=True, exist_ok=True)
    history.parent.mkdir(parents=True, exist_ok=True)
    write_whole(pointer, version + "\n")
    with history.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"version": version, "how": how, "at": time.time()}) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _pointer(loras_dir: Path, scope: str) -> Path:
    return loras_dir / "active" / named(scope)


def _history_file(loras_dir: Path, scope: str) -> Path:
    return loras_dir / "history" / named(scope)


def named(scope: str) -> str:
    """A scope as a file's name."""
    if not SCOPE.fullmatch(scope):
        raise LoraError(f"{scope!r} is no name for a mind or its chats: letters, digits, '_', '-' and '.' only")
    return scope


def _all(loras_dir: Path) -> Iterator[LoraVersion]:
    if not loras_dir.is_dir():
        return
    folders = [folder for folder in loras_dir.iterdir() if VERSION.fullmatch(folder.name) and folder.is_dir()]
    for folder in sorted(folders, key=lambda folder: int(folder.name)):
        try:
            yield read(folder)
        except LoraUnfit as exc:
            log.warning("left out of the list: %s", exc)


def _move(built: Path, place: Path) -> None:
    """One rename; across file systems a copy beside the place comes before it."""
    try:
        built.rename(place)
    except OSError:
        if place.exists():
            raise
        making = place.parent / f".{place.name}.{os.getpid()}"
        shutil.rmtree(making, ignore_errors=True)
        shutil.copytree(built, making)
        for file in making.iterdir():
            sync_file(file)
        sync_folder(making)
        making.rename(place)
