"""One nightly run, in its own process: frozen records in, a published or refused LoRA out.

`python -m learner.nightly RUN_FOLDER` reads only that folder, prints progress as JSON lines and
writes only files. Knows nothing of the database, platforms or the running bot.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from learner import lora_folder, loras
from learner.durable import write_whole
from learner.frozen import Frozen, NightRequest, thaw

if TYPE_CHECKING:
    from learner.training.night import Night
    from learner.training.outcome import Outcome

log = logging.getLogger("learner.nightly")

Phase = Literal["load", "train", "gate", "publish"]
LORA_FOLDER, VERDICT_FILE, REPORT_FILE, LOG_FILE = "lora", "verdict.json", "report.json", "log.txt"
PHASE_ENDS: dict[Phase, tuple[float, float]] = {
    "load": (0.0, 0.1),
    "train": (0.1, 0.85),
    "gate": (0.85, 0.97),
    "publish": (0.97, 1.0),
}


class Progress:
    """Prints where the run is, as one JSON object a line; `done` is of the whole run."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.started = stream, time.monotonic()

    def __call__(self, phase: Phase, share: float, detail: str) -> None:
        low, high = PHASE_ENDS[phase]
        done = low + (high - low) * min(1.0, max(0.0, share))
        passed = time.monotonic() - self.started
        left = round(passed * (1 - done) / done) if done > 0.05 else None
        row = {"phase": phase, "done": round(done, 3), "detail": detail, "seconds_left": left}
        print(json.dumps(row), file=self.stream, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the night in the folder named on the command line; 0 when it came to a verdict."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if len(given) != 1:
        print("usage: python -m learner.nightly RUN_FOLDER", file=sys.stderr)
        return 2
    folder = Path(given[0])
    progress = Progress(_own_stdout())
    try:
        frozen = thaw(folder)
        _prepare(folder, frozen.request)
        run(folder, frozen, progress)
    except Exception as exc:
        log.exception("the run failed")
        print(f"the nightly run failed: {exc}", file=sys.stderr)
        return 1
    return 0


def run(folder: Path, frozen: Frozen, progress: Progress) -> None:
    """Train, judge, write the verdict and, when the gate passes, publish."""
    started = time.monotonic()
    progress("load", 0.0, "loading torch")
    from learner.training.night import Night
    from learner.training.outcome import finite
    from learner.training.trace import Trace

    trace = Trace(lambda told: _write_json(folder / REPORT_FILE, finite(told)))
    night = Night(frozen, str(folder / "scratch"), progress, trace)
    outcome = night.judged()
    built = _fresh(folder / LORA_FOLDER)
    night.write(built, outcome)
    _write_json(built / lora_folder.CARD_FILE, card(frozen, night, outcome))
    verdict = {**outcome.verdict(), "seconds": round(time.monotonic() - started, 1)}
    _write_json(built / VERDICT_FILE, verdict)
    if outcome.published:
        lora_folder.check(built, night.shape)
    _write_json(folder / VERDICT_FILE, verdict)
    shutil.rmtree(folder / "scratch", ignore_errors=True)
    progress("publish", 0.5, "publishing" if outcome.published else "refused")
    if outcome.published:
        loras.publish(built, Path(frozen.request.loras_dir), frozen.request.version, night.shape)
    log.info("verdict: %s %s", "published" if outcome.published else "refused", outcome.reasons)
    progress("publish", 1.0, "published" if outcome.published else "refused")


def card(frozen: Frozen, night: Night, outcome: Outcome) -> dict[str, Any]:
    """What nightschool.json says about a LoRA."""
    request, records = frozen.request, frozen.records
    return {
        "version": request.version,
        "mind": request.mind,
        "name": request.name,
        "base": night.shape.base,
        "rank": night.shape.rank,
        "alpha": night.shape.alpha,
        "target_modules": list(night.shape.target_modules),
        "anchor": night.shape.anchor or None,
        "parent": Path(request.champion).name if request.champion else None,
        "records": {
            "pairs": len(records.pairs),
            "ratings": len(records.ratings),
            "exchanges": sorted(records.exchanges() | night.portion.inherited),
        },
        "recipe": {**dataclasses.asdict(request.recipe), "learning_rate": outcome.learning_rate, "seed": request.seed},
        "run": request.number,
        "template": night.renderer.named_template,
    }


def _own_stdout() -> TextIO:
    """Keep the real stdout for progress; whatever libraries print goes to stderr."""
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return own


def _prepare(folder: Path, request: NightRequest) -> None:
    """Logging to the run's folder, politeness and threads: all before torch is imported."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        handlers=[logging.FileHandler(folder / LOG_FILE, encoding="utf-8"), logging.StreamHandler(sys.stderr)],
    )
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # the bot talks on the same cores meanwhile
    if request.threads:
        os.environ["OMP_NUM_THREADS"] = str(request.threads)
    if request.nice and hasattr(os, "nice"):
        os.nice(request.nice)


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _write_json(path: Path, row: dict[str, Any]) -> None:
    """Write a small JSON file whole and flushed."""
    write_whole(path, json.dumps(row, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
