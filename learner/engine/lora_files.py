"""Reads a LoRA's folder and checks that it fits the base model: base, rank, targets, shapes, finite.

Knows nothing of requests, nor in which thread it runs.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from learner.engine.base import LoraMismatch
from learner.engine.lora_slots import LoraSlot
from learner.engine.weight_files import TensorEntry, safetensors_header
from learner.lora_folder import ANOTHER_ANCHOR

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
CARD = "nightschool.json"
# PEFT writes a tensor as this, then the layer's name, then one of the two endings.
PREFIX = "base_model.model."
A, B = ".lora_A.weight", ".lora_B.weight"
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

_serial = itertools.count(1)


@dataclass(frozen=True)
class BaseModel:
    """What a LoRA must fit: the base's fingerprint, (out, in) of each linear layer, in order, and the anchor.

    `anchor` is the `lora_folder.anchor_id` of the LoRA that others must have begun at, "" for none, None for any.
    """

    fingerprint: str
    linears: Mapping[str, tuple[int, int]]
    dtype: torch.dtype
    device: torch.device
    anchor: str | None = ""


def read(folder: Path, base: BaseModel) -> LoraSlot:
    """Load the LoRA in `folder` for `base`. Raises LoraMismatch saying what does not fit, and where."""
    return next(slot for slot in parts(folder, base) if slot is not None)


def parts(folder: Path, base: BaseModel) -> Iterator[LoraSlot | None]:
    """`read` in parts of like length, None after each but the last, so that something else can run in between."""
    if not folder.is_dir():
        raise LoraMismatch(f"there is no LoRA in {folder}; 'nightschool lora list' shows what is")
    card, config = _json(folder, CARD), _json(folder, CONFIG)
    _check_card(folder, card, config, base)
    scale = _check_config(folder, config)
    yield None
    header = _header(folder)
    layers = _check_tensors(folder, header, config, base)
    yield None
    all_a, all_b = _stored(folder, header, layers)
    yield None
    # In few and large operations: each takes the interpreter from other threads for a moment, and the
    # safetensors library keeps it throughout.
    flat_a = torch.cat(all_a).to(base.device, base.dtype)
    flat_b = torch.cat(all_b).float().mul_(scale).to(base.device, base.dtype)
    yield None
    if not (_is_finite(flat_a) and _is_finite(flat_b)):
        raise _mismatch(folder, f"{_unsound(layers, all_a, all_b)} holds values that are not finite; train it again")
    pairs = {
        layer: (a.view(-1, base.linears[layer][1]), b.view(base.linears[layer][0], -1))
        for layer, a, b in zip(layers, flat_a.split(_sizes(all_a)), flat_b.split(_sizes(all_b)), strict=True)
    }
    # The key is new at each load: what a version of the same name computed before is never reused.
    yield LoraSlot(folder.name, f"{folder.name}#{next(_serial)}", tuple(pairs.get(name) for name in base.linears))


def size_of(folder: Path) -> int:
    """How many bytes the LoRA's weights have on disk; 0 where there are none."""
    try:
        return (folder / WEIGHTS).stat().st_size
    except OSError:
        return 0


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
    began = card.get("anchor") or ""
    if base.anchor is not None and began != base.anchor:
        own, wanted = (one[:12] or "the base model itself" for one in (began, base.anchor))
        raise _mismatch(
            folder, f"it was trained from the anchor {own}, and the anchor is now {wanted}; {ANOTHER_ANCHOR}"
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


def _header(folder: Path) -> dict[str, TensorEntry]:
    try:
        return safetensors_header(folder / WEIGHTS)
    except FileNotFoundError:
        raise _mismatch(folder, f"{WEIGHTS} is missing: the folder is half-written") from None
    except (ValueError, OSError) as exc:
        raise _mismatch(folder, f"{exc}; train it again, or roll back to another version") from exc


def _check_tensors(folder: Path, header: dict[str, TensorEntry], config: dict[str, Any], base: BaseModel) -> list[str]:
    """Check the names, number types and shapes of the tensors; returns the layers that the LoRA is for."""
    rank, targets = config["r"], config["target_modules"]
    layers = [name for name in base.linears if any(f".{name}".endswith(f".{target}") for target in targets)]
    if not layers:
        raise _mismatch(folder, f"none of its targets {targets} is a linear layer of the model")
    expected: dict[str, tuple[int, int]] = {}
    for layer in layers:
        out, into = base.linears[layer]
        expected |= {f"{PREFIX}{layer}{A}": (rank, into), f"{PREFIX}{layer}{B}": (out, rank)}
    for name, shape in expected.items():
        if name not in header:
            raise _mismatch(folder, f"{WEIGHTS} lacks {name}, which {CONFIG} names as a target")
        entry = header[name]
        if entry.dtype not in DTYPES:
            raise _mismatch(folder, f"{name} is in {entry.dtype}, expected one of {', '.join(DTYPES)}")
        if entry.shape != shape or entry.end - entry.begin != math.prod(shape) * DTYPES[entry.dtype].itemsize:
            raise _mismatch(folder, f"{name} has the shape {entry.shape}, expected {shape}")
    if more := sorted(header.keys() - expected.keys()):
        raise _mismatch(folder, f"{WEIGHTS} has {more[0]}, and no target of {CONFIG} is so called in the model")
    return layers


def _stored(
    folder: Path, header: Mapping[str, TensorEntry], layers: Sequence[str]
) -> tuple[list[Tensor], list[Tensor]]:
    """A and B of each layer as the file has them; the file may go away."""
    contents = _bytes(folder)
    start = 8 + int.from_bytes(contents[:8], "little")
    return (
        [_flat(contents, start, header[f"{PREFIX}{layer}{A}"]) for layer in layers],
        [_flat(contents, start, header[f"{PREFIX}{layer}{B}"]) for layer in layers],
    )


def _unsound(layers: Sequence[str], all_a: Sequence[Tensor], all_b: Sequence[Tensor]) -> str:
    """The first layer with values that are not finite."""
    for layer, a, b in zip(layers, all_a, all_b, strict=True):
        if not bool(a.isfinite().all() & b.isfinite().all()):
            return layer
    return "a layer"


def _bytes(folder: Path) -> bytearray:
    try:
        return bytearray((folder / WEIGHTS).read_bytes())
    except OSError as exc:
        raise _mismatch(folder, f"{WEIGHTS} cannot be read ({exc})") from exc


def _flat(contents: bytearray, start: int, entry: TensorEntry) -> Tensor:
    """A tensor of the file, as one row of numbers that still lie in `contents`."""
    return torch.frombuffer(
        contents, dtype=DTYPES[entry.dtype], count=math.prod(entry.shape), offset=start + entry.begin
    )


def _is_finite(numbers: Tensor) -> bool:
    """Whether none is infinite or no number: a sum in 64 bits is finite then and only then, and cheaper than a look."""
    return math.isfinite(numbers.sum(dtype=torch.float64).item())


def _sizes(tensors: list[Tensor]) -> list[int]:
    return [tensor.numel() for tensor in tensors]


def _mismatch(folder: Path, problem: str) -> LoraMismatch:
    return LoraMismatch(f"LoRA {folder.name} ({folder}) does not fit: {problem}")
