"""How many messages a minute are answered, for one person and for one chat.

Knows nothing of what is said. Counts live in memory: a restart forgives.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable

MINUTE = 60.0


class Window:
    """Counts what happened in the last minute, by key."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._times: dict[Hashable, deque[float]] = defaultdict(deque)

    def over(self, key: Hashable, now: float) -> int:
        """Count one more; by how many that is over the limit (0: within it)."""
        times = self._times[key]
        while times and times[0] <= now - MINUTE:
            times.popleft()
        times.append(now)
        if len(self._times) > 10_000:
            self._forget(now)
        return max(0, len(times) - self._limit)

    def _forget(self, now: float) -> None:
        for key in [key for key, times in self._times.items() if not times or times[-1] <= now - MINUTE]:
            del self._times[key]


class Limits:
    """The limits of one bot."""

    def __init__(self, person_per_minute: int, chat_per_minute: int) -> None:
        self._people = Window(person_per_minute)
        self._chats = Window(chat_per_minute)

    def over(self, person: Hashable, chat: Hashable, now: float) -> int:
        """Count a message; by how many it is over either limit. Only the first over it needs a word."""
        return max(self._people.over(person, now), self._chats.over(chat, now))
