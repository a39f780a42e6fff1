"""A platform without a network: a queue in, a list out. For tests and for simulated people.

Knows nothing of what it carries.
"""

from __future__ import annotations

import asyncio
import itertools

from adapters.base import Capabilities, Inbound, Message, Person, Pressed, Receive, Reply, Sent, Verdict


class MemoryAdapter:
    """`await adapter.say("c", "p", "hello")` returns the replies; `sent` keeps all that was delivered."""

    name = "memory"

    def __init__(self, capabilities: Capabilities | None = None) -> None:
        self.capabilities = capabilities or Capabilities(streams=True, streams_offers=True, buttons=True)
        self.sent: list[Reply] = []
        self.streamed: dict[tuple[str, int], str] = {}
        self._receive: Receive | None = None
        self._ready = asyncio.Event()
        self._numbers = itertools.count(1)

    async def run(self, receive: Receive) -> None:
        """Be ready to `say` and `press` until cancelled."""
        self._receive = receive
        self._ready.set()
        await asyncio.Event().wait()

    async def send(self, reply: Reply) -> Sent:
        """Keep `reply`; its platform id is its own id."""
        self.sent.append(reply)
        return Sent((reply.id,))

    def stream(self, chat: str, exchange: str, candidate: int, text: str) -> None:
        """Keep what was streamed, by exchange and candidate."""
        self.streamed[exchange, candidate] = self.streamed.get((exchange, candidate), "") + text

    async def give(self, inbound: Inbound) -> tuple[Reply, ...]:
        """Let `inbound` arrive; the replies to it."""
        await self._ready.wait()
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
