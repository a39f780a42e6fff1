"""A training's run folder: what it was asked, its checkpoints, what it came by; all that a killed run goes on from.

It stands beside the output (`NAME.run`) until the result is whole. Knows nothing of torch.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learner.durable import sync_folder, write_whole
from learner.training.tuning import TrainingRefused, differences

SETTINGS, CURVE, SAMPLES, REPORT = "settings.json", "curve.jsonl", "samples.jsonl", "training.json"
CHECKPOINTS, COMPLETE = "checkpoints", "complete"


@dataclass(frozen=True)
class Run:
    """The run folder of one training. Only the first of several processes (`writes`) changes it."""

    output: Path
    writes: bool = True

    @property
    def folder(self) -> Path:
        """Where the run keeps what it goes on from."""
        return self.output.with_name(self.output.name + ".run")

    @property
    def checkpoints(self) -> Path:
        """Where the trainer writes its checkpoints."""
        return self.folder / CHECKPOINTS

    def open(self, identity: dict[str, Any], restart: bool) -> Path | None:
        """Begin, or go on: the newest whole checkpoint, None where there is none. Raises TrainingRefused."""
        if self.output.exists():
            raise TrainingRefused(f"{self.output} exists already; name another --output, or remove it")
        if restart and self.writes:
            shutil.rmtree(self.folder, ignore_errors=True)
        known = None if restart else self._known()
        wanted = json.loads(json.dumps(identity))
        if known is not None and (others := differences(known, wanted)):
            raise TrainingRefused(
                f"{self.folder} holds an unfinished run with other settings ({'; '.join(others)}); give the same ones"
                " to go on with it, another --output, or --restart to begin anew"
            )
        if self.writes:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / SETTINGS, json.dumps(wanted, indent=2, ensure_ascii=False) + "\n")
        return None if known is None else self.newest()

    def _known(self) -> dict[str, Any] | None:
        try:
            found = json.loads((self.folder / SETTINGS).read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise TrainingRefused(f"{self.folder / SETTINGS} can't be read ({error}); --restart begins anew") from error
        return found if isinstance(found, dict) else {}

    def newest(self) -> Path | None:
        """The newest checkpoint that was written whole."""
        whole = [one.parent for one in self.checkpoints.glob(f"checkpoint-*/{COMPLETE}")]
        return max(whole, key=lambda one: int(one.name.partition("-")[2]), default=None)

    def note(self, name: str, row: dict[str, Any]) -> None:
        """Add a line to one of the run's logs."""
        if self.writes:
            with (self.folder / name).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def noted(self, name: str) -> list[dict[str, Any]]:
        """The lines of one of the run's logs, the last one of each step; one that a crash cut short is left out."""
        found: dict[Any, dict[str, Any]] = {}
        try:
            lines = (self.folder / name).read_text("utf-8").splitlines()
        except FileNotFoundError:
            return []
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            found[row["step"], row.get("probe")] = row
        return sorted(found.values(), key=lambda row: row["step"])

    def publish(self, built: Path) -> None:
        """Move the finished folder `built` to its place with one rename, and let go of the run's."""
        for file in built.iterdir():
            with file.open("r+b") as opened:
                os.fsync(opened.fileno())
        sync_folder(built)
        built.rename(self.output)
        sync_folder(self.output.parent)
        shutil.rmtree(self.folder, ignore_errors=True)
