"""Reads a LoRA's folder and checks that it fits the base model: base, rank, targets, shapes, finite.

Knows nothing of requests; runs off the engine's thread, so that a swap costs the chats nothing.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from learner.engine.base import LoraMismatch
from learner.engine.lora_slots import LoraSlot
from learner.engine.weight_files import whole

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
CARD = "nightschool.json"
# PEFT writes a tensor as this, then the layer's name, then one of the two endings.
PREFIX = "base_model.model."
ENDINGS = (".lora_A.weight", ".lora_B.weight")

_serial = itertools.count(1)


@dataclass(frozen=True)
class BaseModel:
    """What a LoRA must fit: the base's fingerprint, and (out, in) of each linear layer, in order."""

    fingerprint: str
    linears: Mapping[str, tuple[int, int]]
    dtype: torch.dtype
    device: torch.device


def read(folder: Path, base: BaseModel) -> LoraSlot:
    """Load the LoRA in `folder` for `base`. Raises LoraMismatch saying what does not fit, and where."""
    if not folder.is_dir():
        raise LoraMismatch(f"there is no LoRA in {folder}; 'nightschool lora list' shows what is")
    card, config = _json(folder, CARD), _json(folder, CONFIG)
    _check_card(folder, card, config, base)
    scale = _check_config(folder, config)
    if (problem := whole(folder / WEIGHTS)) is not None:
        raise _mismatch(folder, f"{problem}; train it again, or roll back to another version")
    pairs = _read_pairs(folder, base)
    _check_pairs(folder, pairs, config, base)
    # The key is new at each load: what a version of the same name computed before is never reused.
    key = f"{folder.name}#{next(_serial)}"
    return LoraSlot(folder.name, key, tuple(_ready(pairs.get(name), scale, base) for name in base.linears))


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _mismatch(folder, f"{name} is missing: the folder is half-written or no LoRA of ours") from None
    except (OSError, ValueError) as exc:
        raise _mismatch(folder, f"{name} cannot be read ({exc})") from exc
    if not isinstance(content, dict):
        raise _mismatch(folder, f"{name} holds no object")
    return content


def _check_card(folder: Path, card: dict[str, Any], config: dict[str, Any], base: BaseModel) -> None:
    if card.get("base") != base.fingerprint:
        raise _mismatch(
            folder,
            f"it was trained on the base {str(card.get('base'))[:12]}, the running one is {base.fingerprint[:12]};"
            " set model.name to the model it was trained on, or train a new one",
        )
    for name, theirs in (("rank", config.get("r")), ("alpha", config.get("lora_alpha"))):
        if card.get(name) != theirs:
            raise _mismatch(folder, f"{CARD} says {name} {card.get(name)} where {CONFIG} says {theirs}")
    targets = config.get("target_modules")
    if not isinstance(targets, list) or sorted(card.get("target_modules") or []) != sorted(targets):
        raise _mismatch(folder, f"{CARD} and {CONFIG} name different target_modules")


def _check_config(folder: Path, config: dict[str, Any]) -> float:
    """Refuse what this engine does not compute; returns the factor of the LoRA's output."""
    plain: dict[str, tuple[object, ...]] = {
        "peft_type": ("LORA",),
        "use_dora": (False, None),
        "bias": ("none", None),
        "modules_to_save": (None, []),
        "fan_in_fan_out": (False, None),
        "rank_pattern": ({}, None),
        "alpha_pattern": ({}, None),
        "layer_replication": (None,),
        "layers_to_transform": (None,),
        "exclude_modules": (None, []),
        "lora_bias": (False, None),
    }
    for name, allowed in plain.items():
        if config.get(name) not in allowed:
            raise _mismatch(folder, f"{CONFIG} has {name} = {config.get(name)!r}, which the engine does not serve")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
        raise _mismatch(folder, f"{CONFIG} has r = {rank!r} and lora_alpha = {alpha!r}; both must be numbers")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _read_pairs(folder: Path, base: BaseModel) -> dict[str, list[Tensor | None]]:
    """A and B of each layer that the file names."""
    pairs: dict[str, list[Tensor | None]] = {}
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 - it is no dict
            ending = next((e for e in ENDINGS if key.endswith(e)), None)
            layer = key.removeprefix(PREFIX).removesuffix(ending or "")
            if ending is None or not key.startswith(PREFIX) or layer not in base.linears:
                raise _mismatch(folder, f"{WEIGHTS} has {key}, and the model has no such linear layer")
            pairs.setdefault(layer, [None, None])[ENDINGS.index(ending)] = file.get_tensor(key)
    return pairs


def _check_pairs(folder: Path, pairs: dict[str, list[Tensor | None]], config: dict[str, Any], base: BaseModel) -> None:
    rank, targets = config["r"], config["target_modules"]
    for layer in (name for name in base.linears if any(f".{name}".endswith(f".{t}") for t in targets)):
        if None in pairs.get(layer, [None]):
            raise _mismatch(folder, f"{WEIGHTS} lacks the LoRA of {layer}, which {CONFIG} names as a target")
    if not pairs:
        raise _mismatch(folder, f"none of the targets {targets} is a linear layer of the model")
    for layer, tensors in pairs.items():
        (out, into), found = base.linears[layer], tuple(tuple(t.shape) for t in tensors if t is not None)
        if found != ((rank, into), (out, rank)):
            raise _mismatch(folder, f"{layer} has A and B of {found}, expected {((rank, into), (out, rank))}")
        if not all(bool(t.isfinite().all()) for t in tensors if t is not None):
            raise _mismatch(folder, f"{layer} holds values that are not finite; train it again")


def _ready(tensors: list[Tensor | None] | None, scale: float, base: BaseModel) -> tuple[Tensor, Tensor] | None:
    """A and scaled B as the engine multiplies them, in memory of their own (the file may go away)."""
    if tensors is None or tensors[0] is None or tensors[1] is None:
        return None
    a = tensors[0].to(base.device, base.dtype, copy=True)
    b = (tensors[1].float() * scale).to(base.device, base.dtype)
    return a.contiguous(), b.contiguous()


def _mismatch(folder: Path, problem: str) -> LoraMismatch:
    return LoraMismatch(f"LoRA {folder.name} ({folder}) does not fit: {problem}")
