"""When a night runs: APScheduler's cron at a local time, once even if the machine slept through it.

Knows nothing of what a night does.
"""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger

SETTLE = timedelta(minutes=1)  # a missed night is made up for this long after the start


def last_due(clock: str, now: datetime) -> datetime:
    """The newest moment at or before `now` when it was `clock` ("HH:MM") here."""
    hour, minute = (int(part) for part in clock.split(":"))
    today = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    return today if today <= now else today - timedelta(days=1)


def nightly(clock: str, teach: Callable[[], Awaitable[None]], missed: bool) -> AsyncIOScheduler:
    """A started scheduler that awaits `teach` each day at `clock`; soon, too, when one was `missed`."""
    hour, minute = clock.split(":")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scheduler = AsyncIOScheduler()
        trigger = CronTrigger(hour=int(hour), minute=int(minute), timezone=scheduler.timezone)
        soon = {"next_run_time": datetime.now(scheduler.timezone) + SETTLE} if missed else {}
        scheduler.add_job(teach, trigger, misfire_grace_time=None, coalesce=True, max_instances=1, **soon)
        scheduler.start()
    return scheduler
