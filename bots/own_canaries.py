"""The owner's own canaries: what the bot must go on knowing, kept in data_dir/canaries.jsonl.

Knows nothing of the command line or of how canaries are judged.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

from learner.engine.base import ChatMessage
from learner.frozen import read_canaries
from learner.training.canaries import HAN, Canary

FILE = "canaries.jsonl"


def own(data_dir: Path) -> tuple[Canary, ...]:
    """The owner's canaries, oldest first. Raises FrozenRunBroken with the line that cannot be read."""
    path = data_dir / FILE
    if not path.is_file():
        return ()
    return tuple(dataclasses.replace(canary, own=True) for canary in read_canaries(path))


def add(data_dir: Path, prompt: str, any_of: tuple[str, ...], language: str | None) -> Canary:
    """Keep one more. Without `language` a reply must be in the prompt's. Raises ValueError."""
    if not prompt.strip():
        raise ValueError("a canary needs something that a person says")
    if any(not part.strip() for part in any_of):
        raise ValueError("what a right reply holds must not be empty")
    language = language or ("zh" if HAN.search(prompt) else "en")
    canary = Canary((ChatMessage("user", prompt),), any_of, language, own=True)
    kept = own(data_dir)
    if any(one.prompt == canary.prompt for one in kept):
        raise ValueError("there is a canary with that prompt already; remove it first")
    _write(data_dir, (*kept, canary))
    return canary


def remove(data_dir: Path, number: int) -> Canary:
    """Drop the canary with that number, counted from 1. Raises ValueError."""
    kept = own(data_dir)
    if not 1 <= number <= len(kept):
        raise ValueError(f"there is no canary {number}; there are {len(kept)}")
    _write(data_dir, (*kept[: number - 1], *kept[number:]))
    return kept[number - 1]


def _write(data_dir: Path, canaries: tuple[Canary, ...]) -> None:
    """Replace the file in one step; a crash leaves the old one or the new one."""
    rows = (dataclasses.asdict(canary) for canary in canaries)
    data_dir.mkdir(parents=True, exist_ok=True)
    making = data_dir / f".{FILE}.{os.getpid()}"
    with making.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        file.flush()
        os.fsync(file.fileno())
    making.replace(data_dir / FILE)
