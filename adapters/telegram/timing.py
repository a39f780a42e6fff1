"""How long this adapter waits for what, and how often it may speak. Knows nothing of why."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

_KEPT = 2000

K = TypeVar("K")
V = TypeVar("V")


def remember(kept: dict[K, V], key: K, value: V) -> None:
    """Keep `value`, and forget the oldest when there are many."""
    kept[key] = value
    if len(kept) > _KEPT:
        del kept[next(iter(kept))]


@dataclass(frozen=True)
class Timing:
    """Seconds; tests shorten them."""

    first_pause: float = 1.0  # after a first failure; it doubles
    longest_pause: float = 60.0
    poll: int = 30  # how long Telegram holds a poll that has nothing to tell
    watch: float = 60.0  # between two looks at the webhook
    typing: float = 4.5  # Telegram shows it for five
    draft: float = 1.0  # between two drafts of one reply


@dataclass(frozen=True)
class Limits:
    """Telegram's: so many messages in so many seconds."""

    chat: tuple[int, float] = (1, 1.0)
    group: tuple[int, float] = (20, 60.0)
    overall: tuple[int, float] = (30, 1.0)


UNLIMITED = Limits((1, 0.0), (1, 0.0), (1, 0.0))


class Backoff:
    """Pauses that double, from the first to the longest."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self.reset()

    def reset(self) -> None:
        """It went well: the next pause is the first one again."""
        self._next = self._timing.first_pause

    async def pause(self, at_least: float = 0.0) -> None:
        """Wait; longer than the last time."""
        seconds, self._next = self._next, min(self._next * 2, self._timing.longest_pause)
        await asyncio.sleep(max(seconds, at_least))

    async def longest(self) -> None:
        """Wait as long as it gets: somebody has to mend something first."""
        await asyncio.sleep(self._timing.longest_pause)


class Pace:
    """Lets messages go no faster than Telegram takes them, in the order in which they ask."""

    def __init__(
        self,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._sleep = sleep
        self._overall = _Window(limits.overall)
        self._chats: dict[int, tuple[_Window, ...]] = {}

    async def turn(self, chat: int) -> None:
        """Wait until a message to `chat` may go."""
        # A full chat waits for itself first, so that it holds up no other one.
        await self._wait(self._windows(chat))
        await self._wait((self._overall,))

    async def _wait(self, windows: tuple[_Window, ...]) -> None:
        now = self._clock()
        at = max(now, *(window.free_at() for window in windows))
        for window in windows:
            window.take(at)
        if at > now:
            await self._sleep(at - now)

    def _windows(self, chat: int) -> tuple[_Window, ...]:
        if chat not in self._chats:
            rules = (self._limits.chat, self._limits.group) if chat < 0 else (self._limits.chat,)
            remember(self._chats, chat, tuple(_Window(rule) for rule in rules))
        return self._chats[chat]


class _Window:
    """So many turns in so many seconds."""

    def __init__(self, rule: tuple[int, float]) -> None:
        turns, self._seconds = rule
        self._taken: deque[float] = deque(maxlen=turns)

    def free_at(self) -> float:
        """When there is a turn."""
        return self._taken[0] + self._seconds if len(self._taken) == self._taken.maxlen else 0.0

    def take(self, at: float) -> None:
        """There is one less from `at` on."""
        self._taken.append(at)
