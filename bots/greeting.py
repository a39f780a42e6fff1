"""What a bot says before anybody else did: drawn, part of the history, and sent.

Knows nothing of commands or of how a chat is opened.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from adapters.base import Reply
from bots.database import Database
from bots.outbox import Outbox
from bots.payloads import draft_of
from bots.persona import CurrentPersona, Draw
from learner.store.rows import OutboxRow, Place, Turn
from learner.store.store import Store


@dataclass(frozen=True)
class Greeting:
    """The bot's first words: the turn that the history holds, and the reply that is sent."""

    turn: Turn
    reply: Reply


def greeting(
    persona: CurrentPersona, chosen: str, draw: Draw, place: Place, reply_id: str, at: float, answers: str | None = None
) -> Greeting | None:
    """What the persona that the chat chose says first; None when it waits to be spoken to."""
    words = persona.of(chosen).opening(draw)
    if not words:
        return None
    reply = Reply(reply_id, place.chat, words, answers=answers, greets=True)
    return Greeting(Turn("assistant", "", words, None, at), reply)


class Greeter:
    """Opens chats that somebody looks into before anything was said there."""

    def __init__(
        self,
        mind: str,
        persona: CurrentPersona,
        draw: Draw,
        store: Store,
        database: Database,
        outbox: Outbox,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._mind = mind
        self._persona = persona
        self._draw = draw
        self._store = store
        self._database = database
        self._outbox = outbox
        self._clock = clock

    async def open(self, place: Place) -> bool:
        """Greet where nothing was ever said; whether it did. Twice is once."""
        first = greeting(self._persona, "", self._draw, place, uuid.uuid4().hex, self._clock())
        if first is None:
            return False
        draft = draft_of(first.reply, place)
        opened = await self._database(self._store.open_chat, self._mind, place, first.turn, [draft])
        if opened:
            self._outbox.queue([OutboxRow(draft, None, "pending", 0, ())])
        return opened
