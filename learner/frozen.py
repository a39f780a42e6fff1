"""What a night learns from, frozen to files that its process reads, and read back.

Knows nothing of the database, torch or training.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from learner.durable import sync_folder
from learner.engine.base import ChatMessage
from learner.gate import GateSettings
from learner.records import PreferencePair, PreferenceRecords, Provenance, RatedReply
from learner.scopes import Scope
from learner.training.canaries import Canary
from learner.training.recipe import Recipe

REQUEST, PAIRS, RATINGS, CANARIES = "request.json", "pairs.jsonl", "ratings.jsonl", "canaries.jsonl"
TIES = "ties.jsonl"  # older runs have none


class FrozenRunBroken(Exception):
    """A run folder is missing a file or holds one that cannot be read."""


@dataclass(frozen=True)
class NightRequest:
    """All that a night's process needs to know beside the records.

    `anchor` is the LoRA folder that training starts from and is measured against (None: the base
    model itself), `champion` the one that speaks now (None: the anchor does). `number` names the
    run and, when published, the LoRA. `name` is that of the chats whose LoRA it is to be (None: all
    chats' of the mind), whose records alone the run then holds. `owners` are the teachers whose word
    always counts in full.
    """

    number: int
    mind: str
    model: str
    loras_dir: str
    anchor: str | None = None
    champion: str | None = None
    recipe: Recipe = field(default_factory=Recipe)
    gate: GateSettings = field(default_factory=GateSettings)
    device: str = "auto"
    dtype: str = "auto"
    quantisation: str = "none"
    threads: int = 0  # 0: one for a tiny model, else torch's own choice
    nice: int = 10
    seed: int = 0
    owners: tuple[str, ...] = ()
    template: str = "auto"  # of learner/engine/templates.py, instead of the tokenizer's own

    name: str | None = None

    @property
    def scope(self) -> str:
        """Whose LoRA it is to be, as `learner/scopes.py` writes it."""
        return str(Scope(self.mind, self.name))

    @property
    def version(self) -> str:
        """The version that this run's LoRA will have."""
        return f"{self.number:04d}"


@dataclass(frozen=True)
class Frozen:
    """A run folder, read."""

    request: NightRequest
    records: PreferenceRecords
    canaries: tuple[Canary, ...]


def freeze(folder: Path, request: NightRequest, records: PreferenceRecords, canaries: Sequence[Canary]) -> Path:
    """Write a run folder under a temporary name, flush it, and move it into place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        raise FileExistsError(f"{folder} exists already: every run has a number of its own")
    making = folder.parent / f".{folder.name}.{os.getpid()}"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    counts = {"ties": records.ties, "left_out": records.left_out}
    _write(making / REQUEST, [json.dumps({**dataclasses.asdict(request), "counts": counts}, indent=2)])
    _write(making / PAIRS, (_line(dataclasses.asdict(pair)) for pair in records.pairs))
    _write(making / RATINGS, (_line(dataclasses.asdict(rating)) for rating in records.ratings))
    _write(making / TIES, (_line(dataclasses.asdict(pair)) for pair in records.tied))
    _write(making / CANARIES, (_line(dataclasses.asdict(canary)) for canary in canaries))
    making.rename(folder)
    sync_folder(folder.parent)
    return folder


def thaw(folder: Path) -> Frozen:
    """Read a run folder. Raises FrozenRunBroken with the file (and line) that cannot be read."""
    [row] = _rows(folder / REQUEST, whole=True)
    counts = row.pop("counts", {"ties": 0, "left_out": {}})
    request = _made(folder / REQUEST, row, _request)
    records = PreferenceRecords(
        pairs=tuple(_made(folder / PAIRS, one, _pair) for one in _rows(folder / PAIRS)),
        ratings=tuple(_made(folder / RATINGS, one, _rating) for one in _rows(folder / RATINGS)),
        ties=counts["ties"],
        left_out=counts["left_out"],
        tied=tuple(_made(folder / TIES, one, _pair) for one in _rows_if_any(folder / TIES)),
    )
    return Frozen(request, records, read_canaries(folder / CANARIES))


def read_canaries(path: Path) -> tuple[Canary, ...]:
    """Read canaries: one JSON object a line, {"prompt": [{"role", "content"}], "any_of", "language"}."""
    return tuple(_made(path, row, _canary) for row in _rows(path))


def _write(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row)  # ASCII, so that a lone surrogate that somebody typed survives


def _rows(path: Path, whole: bool = False) -> list[dict[str, Any]]:
    """The JSON objects of a file: one a line, or the whole file as one."""
    try:
        text = path.read_text("utf-8")
    except OSError as exc:
        raise FrozenRunBroken(f"{path} cannot be read: {exc.strerror}") from exc
    rows = []
    for number, line in enumerate([text] if whole else text.splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError as exc:
            raise FrozenRunBroken(f"{path}, line {number}: not JSON") from exc
        if not isinstance(row, dict):
            raise FrozenRunBroken(f"{path}, line {number}: not a JSON object")
        rows.append(row)
    return rows


def _rows_if_any(path: Path) -> list[dict[str, Any]]:
    return _rows(path) if path.exists() else []


def _made(path: Path, row: dict[str, Any], make: Any) -> Any:
    try:
        return make(row)
    except (KeyError, TypeError, ValueError) as exc:
        raise FrozenRunBroken(f"{path}: a row does not fit: {type(exc).__name__}: {exc}") from exc


def _request(row: Mapping[str, Any]) -> NightRequest:
    recipe, settings = dict(row["recipe"]), dict(row["gate"])
    for name in ("learning_rates", "shares"):
        recipe[name] = tuple(recipe[name])
    for name in ("length", "length_hard"):
        settings[name] = tuple(settings[name])
    made = {"recipe": Recipe(**recipe), "gate": GateSettings(**settings), "owners": tuple(row.get("owners", ()))}
    return NightRequest(**{**row, **made})


def _pair(row: Mapping[str, Any]) -> PreferencePair:
    chosen, rejected = _ids(row["chosen_ids"]), _ids(row["rejected_ids"])
    return PreferencePair(**{**row, **_shared(row), "chosen_ids": chosen, "rejected_ids": rejected})


def _rating(row: Mapping[str, Any]) -> RatedReply:
    return RatedReply(**{**row, **_shared(row), "completion_ids": _ids(row["completion_ids"])})


def _shared(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a pair and a rating have alike."""
    provenance = dict(row["provenance"])
    provenance["loras"] = tuple(provenance["loras"])
    return {
        "prompt": _messages(row["prompt"]),
        "prompt_ids": tuple(row["prompt_ids"]),
        "provenance": Provenance(**provenance),
    }


def _canary(row: Mapping[str, Any]) -> Canary:
    return Canary(_messages(row["prompt"]), tuple(row["any_of"]), row.get("language"), bool(row.get("own")))


def _messages(rows: Sequence[Mapping[str, Any]]) -> tuple[ChatMessage, ...]:
    return tuple(ChatMessage(row["role"], row["content"]) for row in rows)


def _ids(row: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if row is None else tuple(row)
