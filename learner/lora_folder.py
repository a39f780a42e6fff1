"""A LoRA's folder: its configuration, its weights and its card, read and held against what it must fit.

Knows nothing of versions and pointers, torch, training or the engine.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from learner.scopes import Scope

ANOTHER_ANCHOR = "set [model] lora to the one it was trained from, or let another version speak"
CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "adapter_config.json", "adapter_model.safetensors", "nightschool.json"
RETIRED_FILE = "retired.json"


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
