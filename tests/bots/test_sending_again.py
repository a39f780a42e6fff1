"""A reply that a platform does not take yet: kept, and sent at once when the person writes again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from adapters.base import DeliveryFailed, Message, Person, Reacted, Reply, Sent
from adapters.memory import MemoryAdapter
from tests.bots.test_platform_health import add, until
from tests.bots.test_who_may_talk import Listening, bot, give

Running = Callable[..., AbstractAsyncContextManager[Any]]


class Windowed(MemoryAdapter):
    """A platform that takes one reply for each message of a person."""

    name = "windowed"

    def __init__(self) -> None:
        super().__init__()
        self.credit = 0
        self.tried: list[str] = []

    async def send(self, reply: Reply) -> Sent:
        self.tried.append(reply.id)
        if self.credit == 0:
            raise DeliveryFailed("the person has to write first", retry_after=600, until_written=True)
        self.credit -= 1
        return await super().send(reply)


async def test_what_waits_for_the_person_goes_out_when_they_write(running: Running) -> None:
    async with running(Listening().engine, bots=bot(talkers="everyone")) as app:
        add(app, windowed := Windowed())
        await until(lambda: windowed._receive is not None)
        ann = Person("ann", "Ann")
        await windowed.give(Message("m1", "ann", ann, "hello"))
        await until(lambda: len(windowed.tried) == 1)
        assert windowed.sent == []
        windowed.credit = 2
        await windowed.give(Message("m2", "ann", ann, "are you there?"))
        await until(lambda: len(windowed.sent) == 2)
        assert [one.text for one in windowed.sent] == ["answer 1", "answer 2"]
        assert windowed.tried == [windowed.sent[0].id, windowed.sent[0].id, windowed.sent[1].id]


async def test_a_reaction_finds_its_reply_though_the_platform_does_not_tell_the_topic(running: Running) -> None:
    bots = bot(talkers="everyone", teachers="everyone", groups={"allow": ["memory:club:7"], "notice": False})
    async with running(Listening().engine, bots=bots) as app:
        await give(app, "ann", "hello", "club:7", group=True)
        memory = app.adapters["tester", "memory"]
        await until(lambda: bool(memory.sent))
        await asyncio.sleep(0.05)
        await memory.give(Reacted("u1", "club", Person("bob", "Bob"), memory.sent[0].id, "good"))
        (rating,) = (await app.database(app.store.records, "default")).ratings
        assert (rating.provenance.teacher, rating.desirable) == ("memory:bob", True)
