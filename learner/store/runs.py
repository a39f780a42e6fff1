"""Nightly runs: their numbers, progress and verdicts.

Knows nothing of training; each function runs in its caller's transaction.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from learner.store.rows import RunRow, RunState
from learner.store.schema import run_numbers, runs


def next_number(c: Connection, above: int) -> int:
    """A number never given before, larger than all given before and than `above`."""
    given = c.execute(select(func.max(run_numbers.c.number))).scalar() or 0
    ran = c.execute(select(func.max(runs.c.number))).scalar() or 0
    number = max(given, ran, above) + 1
    c.execute(insert(run_numbers).values(number=number))
    return number


def add(c: Connection, run: RunRow) -> None:
    """Store a run that begins."""
    values = {
        "number": run.number,
        "mind": run.mind,
        "state": run.state,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "progress": run.progress,
        "verdict": run.verdict,
    }
    c.execute(insert(runs).values(values))


def change(
    c: Connection,
    number: int,
    state: RunState | None,
    progress: dict[str, Any] | None,
    verdict: dict[str, Any] | None,
    finished_at: float | None,
) -> None:
    """Set what is given; None leaves a value as it is."""
    given = {
        "state": state,
        "progress": progress,
        "verdict": verdict,
        "finished_at": finished_at,
    }
    values = {name: value for name, value in given.items() if value is not None}
    if values:
        c.execute(update(runs).where(runs.c.number == number).values(values))


def one(c: Connection, number: int) -> RunRow | None:
    """The run with this number."""
    row = c.execute(select(runs).where(runs.c.number == number)).one_or_none()
    return None if row is None else _run(row)


def newest(c: Connection, mind: str, limit: int) -> list[RunRow]:
    """The mind's newest runs, newest first."""
    query = select(runs).where(runs.c.mind == mind).order_by(runs.c.number.desc()).limit(limit)
    return [_run(row) for row in c.execute(query)]


def unfinished(c: Connection) -> list[RunRow]:
    """The runs that nobody stored the end of, oldest first."""
    return [_run(row) for row in c.execute(select(runs).where(runs.c.state == "running").order_by(runs.c.number))]


def _run(row: Row) -> RunRow:
    return RunRow(
        number=row.number,
        mind=row.mind,
        state=row.state,
        started_at=row.started_at,
        finished_at=row.finished_at,
        progress=row.progress,
        verdict=row.verdict,
    )
