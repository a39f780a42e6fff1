"""Works on many items at once and takes their results in order, so that what is made never hangs on timing.

Knows nothing of the items.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

Result = TypeVar("Result")


async def in_order(
    make: Callable[[int], Awaitable[Result]],
    take: Callable[[int, Result], None],
    wanted: Callable[[], int],
    window: int,
    first: int = 0,
) -> None:
    """Call `make` for `first` and the numbers after it, `take` with the results in that order, until `wanted()` is 0.

    Never more than `wanted()` items are under way: none is made that would then be too many. What `make` or `take`
    raises is raised here once everything under way has ended; when this task is cancelled, so are the items.
    """
    under_way: deque[asyncio.Future[Result]] = deque()
    started = taken = first
    try:
        while True:
            while len(under_way) < min(window, wanted()):
                under_way.append(asyncio.ensure_future(make(started)))
                started += 1
            if not under_way:
                return
            result = await under_way[0]
            under_way.popleft()
            take(taken, result)
            taken += 1
    except asyncio.CancelledError:
        for item in under_way:
            item.cancel()
        raise
    finally:
        await asyncio.gather(*under_way, return_exceptions=True)
