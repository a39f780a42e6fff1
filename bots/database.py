"""Runs the store's calls on one thread, so that a disk's fsync never stalls the event loop.

Knows nothing of what is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Database:
    """`await database(store.history, place, 20)`: calls are made one after another, in order."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")

    async def __call__(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `call` on the store's thread and return what it gives."""
        future = self._executor.submit(call, *args, **kwargs)
        return await asyncio.shield(asyncio.wrap_future(future))

    def close(self) -> None:
        """Finish the calls that were submitted."""
        self._executor.shutdown(wait=True)
