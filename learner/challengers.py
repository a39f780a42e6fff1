"""The challenger of a mind: a version that passed the gate and duels with the champion before it may speak alone.

`loras_dir/challenger/MIND` names it, beside the active pointer and written in the same way. Knows nothing of
duels, the database or the engine.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from learner import lora_folder, loras
from learner.durable import sync_folder, write_whole
from learner.scopes import BASE


@dataclass(frozen=True)
class Challenger:
    """Which version duels with which champion (a version or "base"), since when."""

    version: str
    champion: str
    since: float

    @property
    def champion_lora(self) -> str | None:
        """The champion as candidates name it."""
        return None if self.champion == BASE else self.champion


def standing(loras_dir: Path, mind: str) -> Challenger | None:
    """The challenger whose duels are undecided.

    None where there is none, where it speaks already, may no longer speak, or its champion no longer does: what a
    crash left of a decision, or the owner's word, ends the duels.
    """
    try:
        values = json.loads(_pointer(loras_dir, mind).read_text("utf-8"))
        found = Challenger(str(values["version"]), str(values["champion"]), float(values["since"]))
        loras.check_speakable(loras_dir, mind, found.version)
    except (OSError, ValueError, KeyError, TypeError, lora_folder.LoraError):
        return None
    return found if found.champion == loras.active(loras_dir, mind) != found.version else None


def challenge(loras_dir: Path, mind: str, version: str, since: float | None = None) -> Challenger:
    """Let `version` duel with the one that speaks. Raises LoraMissing, LoraUnfit or LoraRetired."""
    loras.check_speakable(loras_dir, mind, version)
    made = Challenger(version, loras.active(loras_dir, mind), time.time() if since is None else since)
    pointer = _pointer(loras_dir, mind)
    pointer.parent.mkdir(parents=True, exist_ok=True)
    write_whole(pointer, json.dumps(asdict(made)) + "\n")
    return made


def withdraw(loras_dir: Path, mind: str) -> None:
    """Let nobody challenge the one that speaks; the version stays as it is."""
    pointer = _pointer(loras_dir, mind)
    if pointer.exists():
        pointer.unlink()
        sync_folder(pointer.parent)


def _pointer(loras_dir: Path, mind: str) -> Path:
    return loras_dir / "challenger" / loras.named(mind)
