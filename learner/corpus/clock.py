"""Reads times as exports write them, and says what a clock on the wall showed.

Knows nothing of messages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

QUARTER = 900  # seconds; all zones in use differ by whole quarters of an hour
WRITTEN = re.compile(
    r"([0-9]{4})[-/]([0-9]{1,2})[-/]([0-9]{1,2})[ T]([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:\.[0-9]+)?)?"
    r" ?(?:(Z)|([+-])([0-9]{2}):?([0-9]{2}))?"
)
LENGTH = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([smhd]?)")
SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def zone_of(name: str) -> tzinfo | None:
    """The time zone of an IANA name such as "Asia/Shanghai"; None, this machine's, for "". Raises ValueError."""
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(
            f"time zone {name!r} is not known here: give a name like Asia/Shanghai"
            " (on Windows they come with: pip install tzdata)"
        ) from error


def seconds_of(length: str) -> int:
    """The seconds of "90s", "30m", "6h", "2d" or a bare number. Raises ValueError."""
    found = LENGTH.fullmatch(length.strip())
    if found is None:
        raise ValueError(f"{length!r} is no length of time: write 90s, 30m, 6h or 2d")
    return round(float(found[1]) * SECONDS[found[2]])


def unix_time(written: str, zone: tzinfo | None) -> int | None:
    """Unix seconds of a written time, which is local to `zone` unless it says otherwise; None: not a time."""
    written = written.strip()
    if written.isascii() and written.isdigit():
        return int(written) if len(written) <= 11 else int(written) // 1000
    found = WRITTEN.fullmatch(written)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    try:
        return int(datetime(year, month, day, hour, minute, second, tzinfo=_offset(found) or zone).timestamp())
    except (ValueError, OverflowError, OSError):
        return None


def _offset(found: re.Match[str]) -> tzinfo | None:
    if found[7]:
        return UTC
    if found[8]:
        ahead = timedelta(hours=int(found[9]), minutes=int(found[10]))
        return timezone(ahead if found[8] == "+" else -ahead)
    return None


def months_and_hours(quarters: Mapping[int, int], zone: tzinfo | None) -> tuple[dict[str, int], tuple[int, ...]]:
    """Counts by quarter (Unix seconds // QUARTER) as counts by month ("2024-05") and by hour of the day."""
    months, hours = dict[str, int](), [0] * 24
    for quarter, count in sorted(quarters.items()):
        try:
            local = datetime.fromtimestamp(quarter * QUARTER, zone)
        except (ValueError, OverflowError, OSError):
            continue  # a time outside the calendar: the message counts, its month does not
        month = f"{local:%Y-%m}"
        months[month] = months.get(month, 0) + count
        hours[local.hour] += count
    return months, tuple(hours)
