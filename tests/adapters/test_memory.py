"""The memory platform passes the suite that every platform passes."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from adapters.base import (
    Capabilities,
    DeliveryFailed,
    Edited,
    Joined,
    Message,
    Moved,
    OwnerWrote,
    Person,
    Pressed,
    Reacted,
    Recalled,
    Reply,
    Verdict,
)
from adapters.memory import MemoryAdapter
from adapters.testing import AdapterContract, FarEnd, Shown, running

LABELS = ("1", "2", "both bad")


class MemoryFarEnd(FarEnd):
    """People without a wire: they give the adapter what a platform's translation would have made."""

    can = frozenset({"press", "react", "quote", "group", "edit", "recall", "join", "move", "owner_writes", "cut"})

    def __init__(self) -> None:
        self.memory = MemoryAdapter()
        self._said: dict[str, Message] = {}
        self._numbers = itertools.count(1)

    def adapter(self) -> MemoryAdapter:
        self.memory = MemoryAdapter(Capabilities(buttons=True, max_chars=100))
        return self.memory

    def chat_id(self, chat: str) -> str:
        return f"chat-{chat}"

    def person_id(self, person: str) -> str:
        return f"person-{person}"

    async def say(
        self, text: str, *, chat: str = "alice", person: str = "alice", mention: bool = False, quote: str | None = None
    ) -> str:
        group = chat != person
        id, who = self._id(), self._person(person)
        message = Message(id, self.chat_id(chat), who, text, quote, group, addressed=mention or not group)
        self._said[id] = message
        await self.memory.give(message)
        return id

    async def again(self, message: str) -> None:
        await self.memory.give(self._said[message])

    async def own(self, text: str, *, chat: str = "alice") -> None:
        """What was sent does not come back here."""

    async def unknown(self, *, chat: str = "alice", person: str = "alice") -> str:
        id = self._id()
        await self.memory.give(Message(id, self.chat_id(chat), self._person(person), "", kind="other"))
        return id

    def shown(self, chat: str = "alice") -> list[Shown]:
        return [
            Shown(one.id, one.text, () if one.verdict else LABELS)
            for one in self.memory.shown
            if one.chat == self.chat_id(chat)
        ]

    async def press(self, message: str, verdict: Verdict, *, chat: str = "alice", person: str = "alice") -> None:
        exchange = next(one.exchange for one in self.memory.sent if one.id == message)
        await self.memory.give(Pressed(self._id(), self.chat_id(chat), self._person(person), exchange or "", verdict))

    async def react(self, message: str, verdict: Verdict, *, chat: str = "alice", person: str = "alice") -> None:
        assert verdict in ("good", "bad", "retract")
        await self.memory.give(Reacted(self._id(), self.chat_id(chat), self._person(person), message, verdict))

    async def edit(self, message: str, text: str, *, chat: str = "alice", person: str = "alice") -> None:
        await self.memory.give(Edited(self._id(), self.chat_id(chat), self._person(person), message, text))

    async def recall(self, message: str, *, chat: str = "alice", person: str = "alice") -> None:
        await self.memory.give(Recalled(self._id(), self.chat_id(chat), self._person(person), message))

    async def join(self, *, chat: str, person: str) -> None:
        await self.memory.give(Joined(self._id(), self.chat_id(chat), self._person(person), group=chat != person))

    async def move(self, chat: str, to: str) -> None:
        await self.memory.give(Moved(self._id(), self.chat_id(chat), self._person("bob"), self.chat_id(to)))

    async def owner_writes(self, text: str, *, chat: str = "alice") -> None:
        await self.memory.give(OwnerWrote(self._id(), self.chat_id(chat), self._person("owner"), text))

    async def cut(self) -> None:
        self.memory.cut()

    async def mend(self) -> None:
        self.memory.mend()

    def _id(self) -> str:
        return f"n{next(self._numbers)}"

    def _person(self, person: str) -> Person:
        return Person(self.person_id(person), person.title())


class TestMemory(AdapterContract):
    """The contract."""

    @pytest.fixture
    def far(self) -> MemoryFarEnd:
        return MemoryFarEnd()


async def test_a_long_reply_has_an_id_for_every_part_and_is_sent_once() -> None:
    adapter = MemoryAdapter(Capabilities(max_chars=10))
    reply = Reply("r1", "c", "一二三四五六七八九十" * 3)
    assert (await adapter.send(reply)).message_ids == ("r1", "r1.2", "r1.3")
    assert adapter.sent == [reply]


async def test_while_it_is_cut_nothing_is_kept_as_sent() -> None:
    adapter = MemoryAdapter()
    adapter.cut()
    with pytest.raises(DeliveryFailed):
        await adapter.send(Reply("r1", "c", "hello"))
    assert (adapter.sent, adapter.shown) == ([], [])


async def test_only_the_offer_that_was_answered_shows_it() -> None:
    adapter = MemoryAdapter()
    offer = Reply("o1", "c", "which?", "e1", candidates=("a", "b"))
    sent = await adapter.send(offer)
    await adapter.send(replace(offer, id="o2", exchange="e2"))
    await adapter.settle("c", sent.message_ids, offer, "both_bad")
    assert [one.verdict for one in adapter.shown] == ["both_bad", None]


async def test_people_can_speak_and_press_without_a_far_end() -> None:
    adapter = MemoryAdapter()
    async with running(adapter) as heard:
        assert await adapter.say("c", "p", "hi", quote="r1") == ()
        await adapter.press("c", "p", "e1", "correction", correction="better")
        said, pressed = heard.all
        assert isinstance(said, Message)
        assert isinstance(pressed, Pressed)
        assert (said.text, said.quote, pressed.correction) == ("hi", "r1", "better")
