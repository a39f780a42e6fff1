"""A platform without a network: a queue in, a list out. For tests and for simulated people.

Knows nothing of what it carries.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, replace

from adapters.base import (
    Capabilities,
    DeliveryFailed,
    Inbound,
    Message,
    Person,
    Pressed,
    Receive,
    Reply,
    Sent,
    Verdict,
)
from adapters.text import chunks, offer_text


@dataclass(frozen=True)
class Shown:
    """One message of the bot as people would see it. `verdict` is what an offer was answered with."""

    id: str
    chat: str
    text: str
    verdict: Verdict | None = None


class MemoryAdapter:
    """`await adapter.say("c", "p", "hello")` returns the replies; `sent` keeps all that was delivered.

    `shown` keeps the same as people would see it: cut at the platform's limit, an offer as one message.
    """

    name = "memory"

    def __init__(self, capabilities: Capabilities | None = None) -> None:
        self.capabilities = capabilities or Capabilities(
            streams=True, streams_offers=True, buttons=True, whole_messages=True
        )
        self.sent: list[Reply] = []
        self.shown: list[Shown] = []
        self.streamed: dict[tuple[str, int], str] = {}
        self._receive: Receive | None = None
        self._ready = asyncio.Event()
        self._reachable = asyncio.Event()
        self._reachable.set()
        self._numbers = itertools.count(1)

    async def run(self, receive: Receive) -> None:
        """Be ready to `say` and `press` until cancelled."""
        self._receive = receive
        self._ready.set()
        await asyncio.Event().wait()

    async def send(self, reply: Reply) -> Sent:
        """Keep `reply`; its platform id is its own id, and of further parts that with a number behind."""
        if not self._reachable.is_set():
            raise DeliveryFailed("the memory platform is cut; mend() it")
        text = reply.text if reply.candidates is None else offer_text(reply)
        parts = chunks(text, self.capabilities.max_chars)
        ids = (reply.id, *(f"{reply.id}.{number}" for number in range(2, len(parts) + 1)))
        self.sent.append(reply)
        self.shown += [Shown(id, reply.chat, part) for id, part in zip(ids, parts, strict=True)]
        return Sent(ids)

    async def settle(self, chat: str, message_ids: tuple[str, ...], offer: Reply, verdict: Verdict) -> None:
        """Keep beside what was shown how it was answered."""
        self.shown = [replace(one, verdict=verdict) if one.id in message_ids else one for one in self.shown]

    def stream(self, chat: str, exchange: str, candidate: int, text: str) -> None:
        """Keep what was streamed, by exchange and candidate."""
        self.streamed[exchange, candidate] = self.streamed.get((exchange, candidate), "") + text

    def cut(self) -> None:
        """Nothing arrives and nothing can be sent until `mend`."""
        self._reachable.clear()

    def mend(self) -> None:
        """Undo `cut`."""
        self._reachable.set()

    async def give(self, inbound: Inbound) -> tuple[Reply, ...]:
        """Let `inbound` arrive; the replies to it."""
        await self._ready.wait()
        await self._reachable.wait()
        assert self._receive is not None
        receipt = await self._receive(inbound)
        return await receipt.replies()

    async def say(
        self, chat: str, person: str, text: str, *, quote: str | None = None, id: str | None = None
    ) -> tuple[Reply, ...]:
        """Let `person` write `text`."""
        return await self.give(Message(id or self._new_id(), chat, Person(person), text, quote=quote))

    async def press(
        self,
        chat: str,
        person: str,
        exchange: str,
        verdict: Verdict,
        *,
        correction: str = "",
        id: str | None = None,
    ) -> tuple[Reply, ...]:
        """Let `person` press a button under `exchange`."""
        return await self.give(
            Pressed(id or self._new_id(), chat, Person(person), exchange, verdict, correction=correction)
        )

    def _new_id(self) -> str:
        return f"m{next(self._numbers)}"
