"""What was said before, found for a message and put into its prompt; and what the page shows of it.

Knows nothing of how it is found (learner/store/memories.py). A fault here costs the memories, never the reply.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from bots.call import Call
from bots.conversations import MessageTooLong, Prompt
from bots.database import Database
from bots.embedding import Vectors
from bots.phrases import Phrases
from bots.settings import RecallSettings
from learner.store.rows import Memory, Search, Turn
from learner.store.store import Store

log = logging.getLogger(__name__)
SECONDS = 5.0  # longer than that nobody is to wait for memories
LONGEST = 300  # characters of one memory
SHARE = 4  # memories may take a quarter of what the prompt holds at most

# The prompt with this system prompt, within so many tokens, with the history from this turn's index on.
Compose = Callable[[str, int, int], Prompt]


@dataclass(frozen=True)
class Asked:
    """A message that is to be answered: its words, what was said just before, and how its prompt is made."""

    words: str
    history: Sequence[Turn]
    system: str
    budget: int
    compose: Compose


class Recall:
    """One bot's memory of its chats."""

    def __init__(
        self, settings: RecallSettings, mind: str, store: Store, database: Database, vectors: Vectors | None = None
    ) -> None:
        self._settings = settings
        self._mind = mind
        self._store = store
        self._database = database
        self._vectors = vectors

    async def prompt(self, call: Call, asked: Asked) -> Prompt:
        """The prompt with what was said before and helps, or without where nothing does. Raises MessageTooLong."""
        plain = asked.compose(asked.system, asked.budget, 0)
        try:
            async with asyncio.timeout(SECONDS):
                return await self._with_memories(call, asked) or plain
        except Exception:  # whatever goes wrong with memories, the reply is made without them
            log.exception("recall: failed; the reply is made without it")
            return plain

    async def _with_memories(self, call: Call, asked: Asked) -> Prompt | None:
        room = min(self._settings.max_tokens, asked.budget // SHARE)
        try:
            narrow = asked.compose(asked.system, asked.budget - room, 0)
        except MessageTooLong:
            return None
        found = await self._found(call, asked, narrow)
        if not found:
            return None
        names = await self._names(call, found)
        bare = len(asked.compose(asked.system, asked.budget, len(asked.history)).token_ids)
        kept: list[Memory] = []
        for memory in found:
            system = joined(asked.system, block_of([*kept, memory], call.phrases, names))
            if len(asked.compose(system, asked.budget, len(asked.history)).token_ids) - bare <= room:
                kept.append(memory)
        if not kept:
            return None
        system = joined(asked.system, block_of(kept, call.phrases, names))
        prompt = asked.compose(system, asked.budget, narrow.start)
        return replace(prompt, recalled=tuple(memory.turn for memory in kept))

    async def _found(self, call: Call, asked: Asked, narrow: Prompt) -> list[Memory]:
        """What is found before the turns that the prompt will hold; in a group nothing private of its members."""
        across = "chat" if call.group and self._settings.across == "person" else self._settings.across
        before = first_unheld(asked.history, narrow)
        if before is None and across == "chat":
            return []
        wanted = Search(
            mind=self._mind,
            place=call.place,
            person=call.known.person,
            words=asked.words,
            before=before,
            limit=self._settings.most,
            across=across,
            least_coverage=self._settings.coverage,
            least_similarity=self._settings.similarity,
        )
        if self._vectors is not None:
            vector = await self._vectors.of_question(asked.words)
            wanted = replace(wanted, vector=vector, model=self._vectors.model)
        return await self._database(self._store.recall, wanted)

    async def _names(self, call: Call, found: Sequence[Memory]) -> Mapping[str, str]:
        """By person, the names of those whose words were found, where it is not the one who asks alone."""
        people = sorted({memory.person for memory in found if memory.role == "user"})
        if not call.group and people in ([], [call.known.person]):
            return {}
        known = await self._database(self._store.names, call.place.bot, call.place.platform, people)
        return {person: " ".join((known.get(person) or person).split()) for person in people}


def first_unheld(history: Sequence[Turn], prompt: Prompt) -> int | None:
    """The turn before which a chat is to be searched: the first that the prompt holds. None: it holds all there is."""
    if not history:
        return None
    if prompt.first is None:
        return history[-1].id + 1
    return prompt.first


def joined(system: str, block: str) -> str:
    """The system prompt, then the memories."""
    return f"{system}\n\n{block}" if system else block


def block_of(memories: Sequence[Memory], phrases: Phrases, names: Mapping[str, str]) -> str:
    """What a prompt says of memories: a line each, oldest first, with its day and who said it.

    A memory never has a line of its own making, so that nobody's words pass for another's or for the system's.
    """
    lines = [phrases.say("recall_head")]
    for memory in sorted(memories, key=lambda one: one.turn):
        who = (
            names.get(memory.person, phrases.say("recall_they")) if memory.role == "user" else phrases.say("recall_me")
        )
        day = datetime.fromtimestamp(memory.at).strftime("%Y-%m-%d")
        lines.append(phrases.say("recall_line", day=day, who=who, text=shortened(memory.text)))
    return "\n".join(lines)


def shortened(text: str) -> str:
    """`text` as one line of at most LONGEST characters."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
