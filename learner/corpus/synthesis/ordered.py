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

    Never more than `wanted()` items are under way: none is made that would then be too many. What `make` raises is
    raised here once everything under way has ended and was taken; when this task is cancelled, so are the items.
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
            await asyncio.wait((under_way[0],))
            if under_way[0].exception() is not None:
                await _take_the_rest(under_way, take, taken)
            take(taken, under_way.popleft().result())
            taken += 1
    except asyncio.CancelledError:
        for item in under_way:
            item.cancel()
        raise
    finally:
        await asyncio.gather(*under_way, return_exceptions=True)


async def _take_the_rest(
    under_way: deque[asyncio.Future[Result]], take: Callable[[int, Result], None], number: int
) -> None:
    """Wait for what is under way and take what was made of it: it is paid for. Raises what the first one raised."""
    await asyncio.wait(under_way)
    first = under_way[0].exception()
    for item in tuple(under_way):
        if item.exception() is None:
            take(number, item.result())
        number += 1
    under_way.clear()
    assert first is not None
    raise first
