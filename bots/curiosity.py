"""Whether a pair of replies is worth a question: among those of late it is one that would teach most.

Somebody new is asked about the pairs whose answer is known best, so that it tells who answers.
Knows nothing of offers' budgets or of how replies are made.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from learner import asking
from learner.engine.base import Candidate, Engine, EngineError

log = logging.getLogger(__name__)

REMEMBERED = 60  # pairs that a new one is held against
FEWEST = 10  # before so many were seen, none stands out
KEPT = 16  # LoRAs of chats whose knowledge is kept in memory
KNOWN = math.log(0.85 / 0.15)  # log-odds from which on an answer is known; people differ, and more is seldom reached


@dataclass(frozen=True)
class Question:
    """A pair that is to be asked about; `expected` is the side that people surely prefer, where that is known."""

    expected: Literal[1, 2] | None = None


class Curiosity:
    """Judges pairs for one mind by what the night that made the speaking LoRA did not know."""

    def __init__(self, engine: Engine, folder: Callable[[], Path | None]) -> None:
        """`folder` tells the folder of the LoRA that speaks, None for the base."""
        self._engine, self._folder = engine, folder
        self._read: Path | None = None
        self._known: asking.Known | None = None
        self._worths: deque[float] = deque(maxlen=REMEMBERED)
        self._certainties: deque[float] = deque(maxlen=REMEMBERED)
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
            self._certainties.clear()
        return self._known is not None

    async def question(
        self, prompt: Sequence[int], pair: Sequence[Candidate], share: float, seeded: bool = False
    ) -> Question | None:
        """What to ask about `pair`, if it is among the `share` of late pairs that would teach most.

        `seeded`: among those whose answer is known best. What cannot be told is asked about.
        """
        known = self._known
        if known is None:
            return Question()
        try:
            states = await self._engine.reply_states(prompt, [one.token_ids for one in pair])
        except EngineError as error:
            log.warning("engine: %s; asking without knowing what would be learned", error)
            return Question()
        if states is None or any(len(state) != len(known.direction) for state in states):
            return Question()
        log_odds = known.log_odds(*states)
        self._worths.append(known.worth(*states))
        self._certainties.append(abs(log_odds))
        if not _newest_stands_out(self._certainties if seeded else self._worths, share):
            return None
        if not seeded or abs(log_odds) < KNOWN:
            return Question()
        return Question(1 if log_odds > 0 else 2)


def _newest_stands_out(late: Sequence[float], share: float) -> bool:
    """Whether the last of `late` is among the `share` of the largest."""
    return len(late) >= FEWEST and sum(one > late[-1] for one in late) < share * len(late)
