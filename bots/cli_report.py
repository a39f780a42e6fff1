"""The command that shows what a night learned, tried and decided. Reads only what is stored.

Knows nothing of how a report looks.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from bots.personal import scope_called
from bots.phrases import phrases
from bots.settings import Settings
from learner.report import html, model, text
from learner.store.rows import RunRow
from learner.store.store import Store

REPORT = "report.json"
Arguments = argparse.Namespace


def report(settings: Settings, arguments: Arguments) -> int:
    """Print the report of a night, or write it as a page; 1 when there was no such night."""
    mind = arguments.mind or settings.bots[0].mind
    scope = scope_called(settings, mind, arguments.chat) if arguments.chat else mind
    run = _run(settings, scope, arguments.number)
    if run is None:
        which = "no night yet" if arguments.number is None else f"no night {arguments.number:04d}"
        print(f"{which} of mind {scope} is stored; nightschool learn runs one now")
        return 1
    shown = of_run(settings, run)
    words = phrases(settings.language)
    if arguments.html is not None:
        arguments.html.write_text(html.render(shown, words.say, settings.language), "utf-8", errors="replace")
        print(arguments.html)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(shown)))
    elif arguments.html is None:
        print(text.render(shown, words.say), end="")
    return 0


def of_run(settings: Settings, run: RunRow) -> model.Report:
    """The report of a stored night."""
    ended = model.Ended(run.number, run.mind, run.state, run.started_at, run.verdict)
    return model.build(ended, _recorded(settings.runs_dir / f"{run.number:04d}"))


def _run(settings: Settings, scope: str, number: int | None) -> RunRow | None:
    """The night with this number, whosever; without one the scope's newest."""
    store = Store(settings.database_url)
    try:
        return store.run(number) if number is not None else next(iter(store.runs(scope, 1)), None)
    finally:
        store.close()


def _recorded(folder: Path) -> dict[str, Any] | None:
    """What the night recorded; None when it recorded nothing or was forgotten."""
    try:
        row = json.loads((folder / REPORT).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return row if isinstance(row, dict) else None
