"""Whether a pair of replies is worth a question: among those of late it is one that would teach most.

Knows nothing of offers' budgets or of how replies are made.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from learner import asking
from learner.engine.base import Candidate, Engine, EngineError

log = logging.getLogger(__name__)

REMEMBERED = 60  # pairs that a new one is held against
FEWEST = 10  # before so many were seen, none stands out
KEPT = 16  # LoRAs of chats whose knowledge is kept in memory


class Curiosity:
    """Judges pairs for one mind by what the night that made the speaking LoRA did not know."""

    def __init__(self, engine: Engine, folder: Callable[[], Path | None]) -> None:
        """`folder` tells the folder of the LoRA that speaks, None for the base."""
        self._engine, self._folder = engine, folder
        self._read: Path | None = None
        self._known: asking.Known | None = None
        self._worths: deque[float] = deque(maxlen=REMEMBERED)
        self._own: dict[Path, Curiosity] = {}

    def about(self, folder: Path | None) -> Curiosity:
        """The same by what the night that made a chat's own LoRA did not know, if it said so; else this one."""
        if folder is None or not (folder / asking.FILE).is_file():
            return self
        found = self._own.pop(folder, None) or Curiosity(self._engine, lambda: folder)
        self._own[folder] = found
        while len(self._own) > KEPT:
            del self._own[next(iter(self._own))]
        return found

    @property
    def ready(self) -> bool:
        """Whether there is anything to judge by: a night has taught the version that speaks."""
        folder = self._folder()
        if folder != self._read:
            self._read, self._known = folder, asking.load(folder) if folder is not None else None
            self._worths.clear()
        return self._known is not None

    async def stands_out(self, prompt: Sequence[int], pair: Sequence[Candidate], share: float) -> bool:
        """Whether `pair` is among the `share` of late pairs that would teach most. What cannot be told stands out."""
        known = self._known
        if known is None:
            return True
        try:
            states = await self._engine.reply_states(prompt, [one.token_ids for one in pair])
        except EngineError as error:
            log.warning("engine: %s; asking without knowing what would be learned", error)
            return True
        if states is None or any(len(state) != len(known.direction) for state in states):
            return True
        worth = known.worth(*states)
        self._worths.append(worth)
        before = sorted(self._worths, reverse=True)
        return len(before) >= FEWEST and before.index(worth) < share * len(before)
