"""What a night is asked to do: the settings turned into the learner's own request, and its verdict read back.

Knows nothing of processes or the store.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bots import own_canaries
from bots.settings import LearnerSettings, Settings
from bots.settings.base import ROOT
from learner import lora_folder, loras
from learner.frozen import NightRequest, read_canaries
from learner.gate import PRESETS
from learner.scopes import BASE, COMMON, Scope
from learner.training.canaries import Canary
from learner.training.recipe import Recipe

log = logging.getLogger(__name__)
VERDICT = "verdict.json"
SHIPPED = ROOT / "data" / "canaries" / "canaries.jsonl"  # what nearly every chat model knows, in zh and en


def night_request(settings: Settings, scope: str, number: int, owners: Iterable[str] = ()) -> NightRequest:
    """The request of night `number`: start from the anchor, be held against it and the version that speaks.

    In chats of their own that is the common one, until they have one.

    `owners` are "platform:person id", as teachers are named.
    """
    whose, champion, model = Scope.read(scope), _champion(settings, scope), settings.model
    return NightRequest(
        number=number,
        mind=whose.mind,
        name=whose.name,
        model=model.name,
        loras_dir=str(settings.loras_dir),
        anchor=model.lora or None,
        champion=str(champion) if champion is not None else None,
        recipe=recipe(settings.learner),
        gate=PRESETS[settings.learner.gate],
        device=model.device,
        dtype=model.dtype,
        quantisation=model.quantisation,
        template=model.template,
        threads=settings.learner.threads,
        seed=number,
        owners=tuple(sorted(set(owners))),
    )


def check_anchor(settings: Settings, version: str) -> None:
    """Raise LoraError where `version` was trained from another anchor than the one that config.toml names."""
    if version not in (BASE, COMMON):
        lora_folder.check_began_at(loras.show(settings.loras_dir, version), anchor(settings))


def anchor(settings: Settings) -> str:
    """What the anchor is, "" for the base itself. Raises LoraError."""
    return lora_folder.anchor_id(Path(settings.model.lora)) if settings.model.lora else ""


def _champion(settings: Settings, scope: str) -> Path | None:
    """The version that speaks; one from another anchor does not, whatever the pointer says."""
    for whose in dict.fromkeys((scope, Scope.read(scope).mind)):
        folder = loras.active_folder(settings.loras_dir, whose)
        try:
            if folder is not None:
                check_anchor(settings, folder.name)
                return folder
        except lora_folder.LoraError as error:
            log.warning("night: %s; it is no champion", error)
    return None


def recipe(learner: LearnerSettings) -> Recipe:
    """The learner's recipe with what config.toml changes of it."""
    changes = {name: value for name, value in learner.recipe.model_dump().items() if value is not None}
    return dataclasses.replace(Recipe(), **changes)


def canaries(settings: Settings) -> tuple[Canary, ...]:
    """The owner's own canaries, and those that config.toml names, else those that came with the model, else ours.

    Raises FrozenRunBroken where a file cannot be read.
    """
    return (*own_canaries.own(settings.data_dir), *_shipped(settings))


def _shipped(settings: Settings) -> tuple[Canary, ...]:
    named, with_model = settings.learner.canaries, Path(settings.model.name) / "canaries.jsonl"
    return read_canaries(Path(named) if named else with_model if with_model.is_file() else SHIPPED)


def read_verdict(folder: Path) -> dict[str, Any] | None:
    """What the lesson in `folder` decided; None when it did not get that far."""
    try:
        verdict = json.loads((folder / VERDICT).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return verdict if isinstance(verdict, dict) else None


def exchanges_of(folder: Path) -> set[str]:
    """The exchanges that a frozen run holds records of."""
    found: set[str] = set()
    for name in ("pairs.jsonl", "ratings.jsonl", "ties.jsonl"):
        path = folder / name
        if path.is_file():
            found |= {json.loads(line)["provenance"]["exchange"] for line in path.read_text("utf-8").splitlines()}
    return found
