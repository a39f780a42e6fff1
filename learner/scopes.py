"""Whose a LoRA is: a mind's, or that of some of its chats alone; written MIND or MIND@NAME.

The written form is what names it in files, tables and calls. Knows nothing of chats, settings or LoRAs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Rest = Literal["base", "common"]
BASE: Literal["base"] = "base"
COMMON: Literal["common"] = "common"


@dataclass(frozen=True, order=True)
class Scope:
    """A mind, and the name of those of its chats that have a LoRA of their own; None for what all chats share."""

    mind: str
    name: str | None = None

    def __str__(self) -> str:
        return self.mind if self.name is None else f"{self.mind}@{self.name}"

    @classmethod
    def read(cls, written: str) -> Scope:
        """The scope that is written so."""
        mind, _, name = written.partition("@")
        return cls(mind, name or None)

    @property
    def rest(self) -> Rest:
        """What speaks while no LoRA of this scope does: the base model, or in a named chat the mind's common LoRA."""
        return BASE if self.name is None else COMMON


def rest_of(scope: str) -> str:
    """What speaks while no LoRA of the scope written so does."""
    return Scope.read(scope).rest
