"""What dialogues are about: topics, made in rounds, each of which is told what there is already.

Knows nothing of the dialogues. The n-th topic hangs on the earlier answers alone, so that a run that goes on asks
for the same dialogues.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from learner.corpus.synthesis import checking
from learner.corpus.synthesis.calls import Calls
from learner.corpus.synthesis.checking import TopicList, Unfit
from learner.corpus.synthesis.errors import EndpointDown, ItemFailed, NothingUsable, PromptError
from learner.corpus.synthesis.near import Seen, plain
from learner.corpus.synthesis.wire import Ask

PER_ROUND = 25
TOLD = 80  # earlier topics that a round is told
DRY = 3  # rounds in a row without anything new


class Topics:
    """Topics by number, made when they are needed. `question(avoid, round)` asks for more."""

    def __init__(self, calls: Calls, question: Callable[[str, int], Ask], given: tuple[str, ...] = ()) -> None:
        self._calls = calls
        self._question = question
        self._found = list(given)
        self._seen = Seen(0.7)
        self._round = 0
        self._dry = DRY if given else 0
        self._turn = asyncio.Lock()

    async def topic(self, number: int) -> str:
        """The topic with this number; from the first one again when the model has no more. Raises SynthesisError."""
        async with self._turn:
            while number >= len(self._found) and self._dry < DRY:
                await self._another_round()
            if not self._found:
                raise NothingUsable("the model names no topics; give your own with --topics FILE, one a line")
            return self._found[number % len(self._found)]

    @property
    def found(self) -> int:
        """How many there are so far."""
        return len(self._found)

    async def _another_round(self) -> None:
        avoid = "、".join(self._found[-TOLD:]) or "-"
        ask = self._question(avoid, self._round)
        self._round += 1
        try:
            topics = checking.read(TopicList, await self._calls.ask(ask)).topics
        except ItemFailed as failed:
            if not failed.lasting:  # going on without them would change all that follows
                raise EndpointDown(f"topics can't be had: {failed.detail}; run the same command again") from failed
            topics = []
        except Unfit:
            topics = []
        new = [one for one in map(str.strip, topics) if plain(one) and not self._seen.admit(one)]
        self._dry = 0 if new else self._dry + 1
        self._found += new


def read(path: Path) -> tuple[str, ...]:
    """The topics in a file, one a line, each once. Raises PromptError."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"{path} can't be read: {error}") from error
    topics = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not topics:
        raise PromptError(f"{path} has no topics; it wants one a line")
    return topics
