"""LoRA versions on disk: publish, list, activate, roll back, retire.

`loras_dir/NNNN/` is one published, immutable version; `loras_dir/active/SCOPE` names the one that
speaks. A scope is written as `learner/scopes.py` says: MIND, or MIND@NAME for chats with a LoRA of
their own. Knows nothing of torch, training or the engine.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from learner.frozen import sync_folder
from learner.scopes import BASE, COMMON, Scope, rest_of

log = logging.getLogger(__name__)

ANOTHER_ANCHOR = "set [model] lora to the one it was trained from, or let another version speak"
CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "adapter_config.json", "adapter_model.safetensors", "nightschool.json"
RETIRED_FILE = "retired.json"
VERSION = re.compile(r"\d{4,}")
SCOPE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(@[A-Za-z0-9_-]+)?")


class LoraError(Exception):
    """Base of what goes wrong with LoRAs on disk.

    LoraError
    ├── LoraMissing   no such version
    ├── LoraUnfit     does not fit the base, the recipe, or is broken
    └── LoraRetired   may not speak again
    """


class LoraMissing(LoraError):
    def __init__(self, version: str, loras_dir: Path) -> None:
        super().__init__(f"LoRA {version} is not in {loras_dir}; 'nightschool lora list' shows what is")


class LoraUnfit(LoraError):
    def __init__(self, folder: Path, fault: str) -> None:
        super().__init__(f"the LoRA in {folder} does not fit: {fault}")


class LoraRetired(LoraError):
    def __init__(self, version: str, reason: str) -> None:
        super().__init__(f"LoRA {version} was retired ({reason}) and may not speak again")


@dataclass(frozen=True)
class Shape:
    """What a LoRA must fit: the base model's fingerprint, the recipe's shape, and the anchor that it began at.

    `anchor` is the `anchor_id` of a LoRA; empty: the base model itself.
    """

    base: str
    rank: int
    alpha: int
    target_modules: tuple[str, ...]
    anchor: str = ""


@dataclass(frozen=True)
class LoraVersion:
    """One published version, as its card tells. `retired` is the reason, None while it may speak.

    `name` is that of the chats that it is for; None: it is the mind's common one.
    """

    version: str
    mind: str
    folder: Path
    shape: Shape
    parent: str | None
    records: dict[str, Any]
    recipe: dict[str, Any]
    run: int
    retired: str | None = None
    name: str | None = None
    template: str = ""  # the chat template that stood in for the model's missing one

    @property
    def scope(self) -> str:
        """Whose it is, as pointers name it."""
        return str(Scope(self.mind, self.name))


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
        _sync_file(file)
    sync_folder(built)
    _move(built, place)
    sync_folder(loras_dir)
    return read(place)


def check(folder: Path, fits: Shape) -> LoraVersion:
    """Read a LoRA and compare it with what it must fit. Raises LoraUnfit with what is wrong."""
    found = read(folder)
    for name, own, wanted in (
        ("base", found.shape.base, fits.base),
        ("rank", found.shape.rank, fits.rank),
        ("alpha", found.shape.alpha, fits.alpha),
        ("target_modules", sorted(found.shape.target_modules), sorted(fits.target_modules)),
    ):
        if own != wanted:
            raise LoraUnfit(folder, f"its {name} is {own}, the running model's is {wanted}")
    check_began_at(found, fits.anchor)
    _check_config(folder, found.shape)
    _check_weights(folder, found.shape)
    return found


def check_began_at(found: LoraVersion, anchor: str) -> None:
    """Raise LoraUnfit where a version was trained from another anchor than `anchor`."""
    if found.shape.anchor != anchor:
        own, wanted = (one[:12] or "the base model itself" for one in (found.shape.anchor, anchor))
        fault = f"it was trained from the anchor {own}, and the anchor is now {wanted}; {ANOTHER_ANCHOR}"
        raise LoraUnfit(found.folder, fault)


def anchor_id(folder: Path) -> str:
    """What an anchor LoRA IS, in a word: SHA-256 over its configuration and weights. Raises LoraUnfit."""
    digest = hashlib.sha256()
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        try:
            digest.update((folder / name).read_bytes())
        except OSError as exc:
            raise LoraUnfit(folder, f"{name} cannot be read ({exc.strerror})") from exc
    return digest.hexdigest()


def check_anchor(folder: Path, base: str) -> Shape:
    """The shape of a LoRA that others begin at: any rank and targets, but of this base. Raises LoraUnfit."""
    shape = read(folder).shape
    check(folder, replace(shape, base=base))
    return shape


def read(folder: Path) -> LoraVersion:
    """Read a LoRA's card. Raises LoraUnfit when a file is missing or the card is broken."""
    for name in (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE):
        if not (folder / name).is_file():
            raise LoraUnfit(folder, f"{name} is missing")
    card = _read_json(folder, CARD_FILE)
    try:
        shape = Shape(
            card["base"], card["rank"], card["alpha"], tuple(card["target_modules"]), card.get("anchor") or ""
        )
        return LoraVersion(
            card["version"], card["mind"], folder, shape, card["parent"],
            card["records"], card["recipe"], card["run"], _retirement(folder), card.get("name"),
            card.get("template") or "",
        )  # fmt: skip
    except (KeyError, TypeError) as exc:
        raise LoraUnfit(folder, f"{CARD_FILE} lacks {exc}") from exc


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


def _retirement(folder: Path) -> str | None:
    if not (folder / RETIRED_FILE).exists():
        return None
    try:
        return str(_read_json(folder, RETIRED_FILE)["reason"])
    except (LoraUnfit, KeyError):
        return "for a reason that can no longer be read"


def _check_config(folder: Path, shape: Shape) -> None:
    """PEFT reads its own file: it must say what the card says."""
    config = _read_json(folder, CONFIG_FILE)
    said = (config.get("r"), config.get("lora_alpha"), sorted(config.get("target_modules") or ()))
    if said != (shape.rank, shape.alpha, sorted(shape.target_modules)):
        raise LoraUnfit(folder, f"{CONFIG_FILE} and {CARD_FILE} disagree")


def _check_weights(folder: Path, shape: Shape) -> None:
    for name, tensor in _tensors(folder):
        if name.endswith("lora_A.weight"):
            rank = tensor.shape[0]
        elif name.endswith("lora_B.weight"):
            rank = tensor.shape[1]
        else:
            raise LoraUnfit(folder, f"{name} is no LoRA weight")
        if rank != shape.rank:
            raise LoraUnfit(folder, f"{name} has rank {rank}, not {shape.rank}")
        if name.split(".")[-3] not in shape.target_modules:
            raise LoraUnfit(folder, f"{name} is not one of the target modules {', '.join(shape.target_modules)}")
        if not _finite(tensor):
            raise LoraUnfit(folder, f"{name} holds numbers that are not finite")


def _tensors(folder: Path) -> list[tuple[str, Any]]:
    from safetensors.numpy import load_file

    try:
        tensors = sorted(load_file(folder / WEIGHTS_FILE).items())
    except Exception as exc:  # safetensors raises its own error, which it does not name publicly
        raise LoraUnfit(folder, f"{WEIGHTS_FILE} cannot be read: {exc}") from exc
    if not tensors:
        raise LoraUnfit(folder, f"{WEIGHTS_FILE} is empty")
    return tensors


def _finite(tensor: Any) -> bool:
    import numpy

    return bool(numpy.isfinite(tensor).all())


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        found = json.loads((folder / name).read_text("utf-8"))
    except (OSError, ValueError) as exc:
        raise LoraUnfit(folder, f"{name} cannot be read") from exc
    if not isinstance(found, dict):
        raise LoraUnfit(folder, f"{name} is not a JSON object")
    return found


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
            _sync_file(file)
        sync_folder(making)
        making.rename(place)


def write_whole(path: Path, text: str) -> None:
    """Write a small file whole: under a temporary name, flushed, then moved over the old one."""
    making = path.with_name(f".{path.name}.{os.getpid()}")
    with making.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    making.replace(path)
    sync_folder(path.parent)


def _sync_file(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())
