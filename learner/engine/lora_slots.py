"""The LoRAs that are loaded, and which of them speaks for which rows of a forward pass.

Knows nothing of files, models or requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from learner.engine.base import LoraMismatch

BASE_KEY = "base"


@dataclass(frozen=True, eq=False)
class LoraSlot:
    """One loaded LoRA: per linear layer (by its index) A and B, B scaled already; None where it has none."""

    version: str
    key: str
    pairs: tuple[tuple[Tensor, Tensor] | None, ...]

    @property
    def name(self) -> str | None:
        """How a reply of it is marked: as the base's, None, when it is the anchor."""
        return None if self.version == BASE_KEY else self.version


@dataclass(frozen=True, eq=False)
class Group:
    """The rows of a batch that one LoRA speaks for; None for all of them."""

    slot: LoraSlot
    rows: Tensor | None = None


@dataclass
class Speaking:
    """Which LoRA speaks for which rows of the forward pass that is about to run."""

    groups: tuple[Group, ...] = field(default=())


def group_rows(slots: Sequence[LoraSlot | None], device: torch.device) -> tuple[Group, ...]:
    """Rows grouped by the LoRA that speaks for them; rows of the base are in no group."""
    rows: dict[LoraSlot, list[int]] = {}
    for row, slot in enumerate(slots):
        if slot is not None:
            rows.setdefault(slot, []).append(row)
    if len(rows) == 1 and all(slot is not None for slot in slots):
        return (Group(next(iter(rows))),)
    return tuple(Group(slot, torch.tensor(of, device=device)) for slot, of in rows.items())


@dataclass
class Loras:
    """The loaded versions: the one that speaks, and others held ready. The `anchor` stands where the base would."""

    anchor: LoraSlot | None = None
    active: LoraSlot | None = None
    held: dict[str, LoraSlot] = field(default_factory=dict)

    def resolve(self, name: str) -> LoraSlot | None:
        """The slot that a candidate's `lora` names. Raises LoraMismatch."""
        if name == "active":
            return self.active or self.anchor
        if name == "base":
            return self.anchor
        if self.active is not None and self.active.version == name:
            return self.active
        if name not in self.held:
            loaded = sorted({*self.held, *([self.active.version] if self.active else [])})
            raise LoraMismatch(f"LoRA {name} is not loaded; loaded are {', '.join(loaded) or 'none'}")
        return self.held[name]

    @property
    def keys(self) -> set[str]:
        """Keys of all that may speak in a later request."""
        return {slot_key(slot) for slot in (self.anchor, self.active or self.anchor, *self.held.values())}


def slot_key(slot: LoraSlot | None) -> str:
    """What names a LoRA in the key of kept keys and values."""
    return BASE_KEY if slot is None else slot.key
