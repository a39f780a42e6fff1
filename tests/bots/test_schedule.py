"""When a night is due, and that it comes once."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from bots import schedule


@pytest.mark.parametrize(
    ("now", "due"),
    [("2026-11-22 03:29", "2026-11-21 03:30"), ("2026-11-22 03:30", "2026-11-22 03:30"),
     ("2026-11-22 23:00", "2026-11-22 03:30")],
)  # fmt: skip
def test_the_last_due_moment(now: str, due: str) -> None:
    assert schedule.last_due("03:30", datetime.fromisoformat(now)) == datetime.fromisoformat(due)


async def test_a_night_that_was_slept_through_comes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    nights = []

    async def teach() -> None:
        nights.append(1)

    monkeypatch.setattr(schedule, "SETTLE", timedelta(seconds=0.05))
    scheduler = schedule.nightly("03:30", teach, missed=True)
    await asyncio.sleep(0.5)
    (job,) = scheduler.get_jobs()
    assert (job.next_run_time.hour, job.next_run_time.minute) == (3, 30)
    assert (job.misfire_grace_time, job.coalesce) == (None, True)
    scheduler.shutdown(wait=False)
    assert len(nights) == 1
