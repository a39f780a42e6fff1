"""What every adapter does, as tests. Knows no platform; needs pytest."""

from __future__ import annotations

import asyncio

import pytest

from adapters.base import (
    DeliveryFailed,
    Edited,
    Joined,
    Message,
    Moved,
    OwnerWrote,
    PlatformAdapter,
    Pressed,
    Reacted,
    Recalled,
    Reply,
    Sent,
    Settling,
)
from adapters.testing.far_end import FarEnd
from adapters.testing.heard import PATIENCE, Heard, running, until

COMMON = frozenset({"cuts", "own", "again", "unknown", "settle"})
QUIET = 0.5  # seconds in which something that must not happen does not


class AdapterContract:
    """What every adapter does. Each test drives the real adapter through its far end."""

    @staticmethod
    def needs(far: FarEnd, *abilities: str) -> None:
        """Skip the test where the platform lacks one of `abilities`."""
        missing = set(abilities) - (far.can | COMMON - far.lacks)
        if missing:
            pytest.skip(f"the platform has no {', '.join(sorted(missing))}")

    @staticmethod
    async def send(adapter: PlatformAdapter, reply: Reply) -> Sent:
        """Send with patience, as the outbox does: an adapter that is only starting refuses for a moment."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    return await adapter.send(reply)
                except DeliveryFailed as failure:
                    if failure.permanent:
                        raise
                    await asyncio.sleep(0.05)

    async def answered(self, far: FarEnd, adapter: PlatformAdapter, heard: Heard) -> tuple[Message, Sent]:
        """Somebody says "hi", and sees "hello" as the reply of exchange e1."""
        await far.say("hi")
        got = await heard.next(Message)
        sent = await self.send(adapter, Reply("r1", got.chat, "hello", "e1", answers=got.id))
        await until(lambda: bool(far.shown()))
        return got, sent

    async def test_text_goes_in_and_out(self, far: FarEnd) -> None:
        async with running(adapter := far.adapter()) as heard:
            message = await far.say("你好 <b>&amp; *hi* _there_")
            got = await heard.next(Message)
            assert (got.text, got.kind) == ("你好 <b>&amp; *hi* _there_", "text")
            assert (got.chat, got.person.id) == (far.chat_id("alice"), far.person_id("alice"))
            assert (got.group, got.addressed) == (False, True)
            assert got.id.endswith(message)
            await self.send(adapter, Reply("r1", got.chat, "1 < 2 & *x* [y](z) `w`", "e1", answers=got.id))
            await until(lambda: bool(far.shown()))
            assert [one.text for one in far.shown()] == ["1 < 2 & *x* [y](z) `w`"]

    async def test_long_text_is_cut_and_nothing_is_lost(self, far: FarEnd) -> None:
        async with running(adapter := far.adapter()) as heard:
            await far.say("hi")
            got = await heard.next(Message)
            limit = adapter.capabilities.max_chars
            long = "😀字" * limit
            sent = await self.send(adapter, Reply("r1", got.chat, long, "e1", answers=got.id))
            await until(lambda: sum(len(one.text) for one in far.shown()) >= len(long))
            shown = far.shown()
            whole = "".join(one.text for one in shown) == long
            assert whole  # by itself: pytest's report of how two long texts differ takes minutes
            if "cuts" not in far.lacks:
                assert all(far.limit_in(one.text) <= limit for one in shown)
                assert len(shown) > 1
            assert sent.message_ids == () or len(sent.message_ids) == len(shown)

    async def test_both_candidates_stand_in_one_message(self, far: FarEnd) -> None:
        async with running(adapter := far.adapter()) as heard:
            await far.say("hi")
            got = await heard.next(Message)
            await self.send(adapter, _offer(got))
            await until(lambda: bool(far.shown()))
            (shown,) = far.shown()
            assert all(part in shown.text for part in ("which one?", "first & <one>", "second *one*", "1", "2"))

    async def test_a_choice_is_pressed(self, far: FarEnd) -> None:
        self.needs(far, "press")
        for verdict in ("1", "2", "both_bad"):
            async with running(adapter := far.adapter()) as heard:
                await far.say("hi")
                got = await heard.next(Message)
                await self.send(adapter, _offer(got))
                await until(lambda: bool(far.shown()))
                await far.press(far.shown()[-1].id, verdict)
                pressed = await heard.next(Pressed)
                assert (pressed.exchange, pressed.verdict) == ("exchange-1", verdict)
                assert (pressed.chat, pressed.person.id) == (got.chat, far.person_id("alice"))

    async def test_what_was_chosen_is_shown(self, far: FarEnd) -> None:
        self.needs(far, "press", "settle")
        async with running(adapter := far.adapter()) as heard:
            assert isinstance(adapter, Settling)
            await far.say("hi")
            offer = _offer(got := await heard.next(Message))
            sent = await self.send(adapter, offer)
            await until(lambda: bool(far.shown()))
            before = far.shown()[-1]
            await adapter.settle(got.chat, sent.message_ids, offer, "2")
            await until(lambda: far.shown()[-1] != before)
            assert len(far.shown()) == 1

    async def test_a_rating_is_given_changed_and_taken_back(self, far: FarEnd) -> None:
        self.needs(far, "react")
        async with running(adapter := far.adapter()) as heard:
            _, sent = await self.answered(far, adapter, heard)
            for verdict in ("good", "bad", "retract"):
                heard_before = len(heard.all)
                await far.react(far.shown()[-1].id, verdict)
                reacted = await heard.next(Reacted, heard_before)
                assert (reacted.verdict, reacted.person.id) == (verdict, far.person_id("alice"))
                assert reacted.message in sent.message_ids

    async def test_a_rating_is_pressed(self, far: FarEnd) -> None:
        self.needs(far, "rate")
        async with running(adapter := far.adapter()) as heard:
            got, _ = await self.answered(far, adapter, heard)
            for verdict in ("good", "bad"):
                heard_before = len(heard.all)
                await far.press(far.shown()[-1].id, verdict)
                pressed = await heard.next(Pressed, heard_before)
                assert (pressed.exchange, pressed.verdict) == ("e1", verdict)
                assert (pressed.chat, pressed.person.id) == (got.chat, far.person_id("alice"))

    async def test_a_correction_is_filled_in(self, far: FarEnd) -> None:
        self.needs(far, "correct")
        async with running(adapter := far.adapter()) as heard:
            await self.answered(far, adapter, heard)
            await far.correct(far.shown()[-1].id, "你好 <b>")
            corrected = await heard.next(Pressed)
            assert (corrected.exchange, corrected.verdict, corrected.correction) == ("e1", "correction", "你好 <b>")

    async def test_what_is_streamed_is_shown_once(self, far: FarEnd) -> None:
        async with running(adapter := far.adapter()) as heard:
            await far.say("hi")
            got = await heard.next(Message)
            for text in ("one ", "two"):
                adapter.stream(got.chat, "e1", 1, text)
            await self.send(adapter, Reply("r1", got.chat, "one two", "e1", answers=got.id))
            await until(lambda: bool(far.shown()))
            await asyncio.sleep(QUIET)
            assert [one.text for one in far.shown()] == ["one two"]

    async def test_a_quote_names_what_it_quotes(self, far: FarEnd) -> None:
        self.needs(far, "quote")
        async with running(adapter := far.adapter()) as heard:
            _, sent = await self.answered(far, adapter, heard)
            await far.say("不错", quote=far.shown()[-1].id)
            quoting = await heard.next(Message, 1)
            assert quoting.text == "不错"
            assert quoting.quote in sent.message_ids

    async def test_a_group_is_heard_and_says_who_is_meant(self, far: FarEnd) -> None:
        self.needs(far, "group")
        async with running(adapter := far.adapter()) as heard:
            await far.say("just talking", chat="club", person="bob")
            aside = await heard.next(Message)
            assert (aside.group, aside.addressed, aside.chat) == (True, False, far.chat_id("club"))
            await far.say("what now?", chat="club", person="bob", mention=True)
            meant = await heard.next(Message, 1)
            assert (meant.group, meant.addressed, meant.text) == (True, True, "what now?")
            assert meant.person.id == far.person_id("bob")
            assert meant.person.name
            reply = Reply("r1", meant.chat, "this", "e1", answers=meant.id, to=meant.person)
            await self.send(adapter, reply)
            await until(lambda: bool(far.shown("club")))
            assert "this" in far.shown("club")[-1].text

    async def test_own_messages_are_no_messages(self, far: FarEnd) -> None:
        self.needs(far, "own")
        async with running(adapter := far.adapter()) as heard:
            await far.say("hi")
            got = await heard.next(Message)
            await self.send(adapter, Reply("r1", got.chat, "my own words", "e1", answers=got.id))
            await until(lambda: bool(far.shown()))
            await far.own("my own words")
            await far.say("next")
            assert (await heard.next(Message, 1)).text == "next"
            assert [one for one in heard.all if not isinstance(one, Message)] == []

    async def test_what_comes_twice_has_one_id(self, far: FarEnd) -> None:
        self.needs(far, "again")
        async with running(far.adapter()) as heard:
            message = await far.say("once")
            first = await heard.next(Message)
            await far.again(message)
            await far.say("then")
            await until(lambda: any(isinstance(one, Message) and one.text == "then" for one in heard.all))
            same = [one for one in heard.all if isinstance(one, Message) and one.text == "once"]
            assert {one.id for one in same} == {first.id}

    async def test_received_is_said_only_after_it_was_stored(self, far: FarEnd) -> None:
        self.needs(far, "acknowledge")
        async with running(far.adapter()) as heard:
            heard.stores.clear()
            message = await far.say("keep this")
            await heard.next(Message)
            await asyncio.sleep(QUIET)
            assert message not in far.acknowledged()
            heard.stores.set()
            await until(lambda: message in far.acknowledged())

    async def test_messages_keep_their_order(self, far: FarEnd) -> None:
        async with running(far.adapter()) as heard:
            texts = [f"number {number}" for number in range(8)]
            for text in texts:
                await far.say(text)
            await until(lambda: len(heard.all) >= len(texts))
            assert [one.text for one in heard.all if isinstance(one, Message)] == texts

    async def test_an_unknown_kind_is_not_silence(self, far: FarEnd) -> None:
        self.needs(far, "unknown")
        async with running(far.adapter()) as heard:
            await far.unknown()
            got = await heard.next(Message)
            assert (got.kind, got.person.id) == ("other", far.person_id("alice"))

    async def test_an_edit_names_the_message(self, far: FarEnd) -> None:
        self.needs(far, "edit")
        async with running(far.adapter()) as heard:
            message = await far.say("teh")
            got = await heard.next(Message)
            await far.edit(message, "the")
            edited = await heard.next(Edited)
            assert (edited.message, edited.text, edited.chat) == (got.id, "the", got.chat)

    async def test_a_recall_names_the_message(self, far: FarEnd) -> None:
        self.needs(far, "recall")
        async with running(far.adapter()) as heard:
            message = await far.say("oops")
            got = await heard.next(Message)
            await far.recall(message)
            recalled = await heard.next(Recalled)
            assert (recalled.message, recalled.chat) == (got.id, got.chat)

    async def test_newcomers_are_told_of(self, far: FarEnd) -> None:
        self.needs(far, "join")
        async with running(far.adapter()) as heard:
            await far.join(chat="club", person="carol")
            joined = await heard.next(Joined)
            assert (joined.chat, joined.person.id, joined.group) == (far.chat_id("club"), far.person_id("carol"), True)

    async def test_a_chat_that_moves_says_where(self, far: FarEnd) -> None:
        self.needs(far, "move", "group")
        async with running(far.adapter()) as heard:
            await far.move("club", "big club")
            moved = await heard.next(Moved)
            assert (moved.chat, moved.to) == (far.chat_id("club"), far.chat_id("big club"))

    async def test_the_owner_in_the_bots_place_is_told_of(self, far: FarEnd) -> None:
        self.needs(far, "owner_writes")
        async with running(far.adapter()) as heard:
            await far.owner_writes("let me", chat="alice")
            wrote = await heard.next(OwnerWrote)
            assert (wrote.chat, wrote.text) == (far.chat_id("alice"), "let me")

    async def test_a_lost_network_comes_back(self, far: FarEnd) -> None:
        self.needs(far, "cut")
        async with running(adapter := far.adapter()) as heard:
            await far.say("before")
            got = await heard.next(Message)
            await far.cut()
            if far.host is not None:
                await until(lambda: far.host is not None and far.host.reports[-1].state == "offline")
                assert far.host.reports[-1].detail
            with pytest.raises(DeliveryFailed) as failure:
                await adapter.send(Reply("r1", got.chat, "into the void", "e1", answers=got.id))
            assert not failure.value.permanent
            await far.mend()
            await far.say("after")
            await until(lambda: any(isinstance(one, Message) and one.text == "after" for one in heard.all))
            await self.send(adapter, Reply("r1", got.chat, "into the void", "e1", answers=got.id))
            await until(lambda: any("into the void" in one.text for one in far.shown()))
            if far.host is not None:
                await until(lambda: far.host is not None and far.host.reports[-1].state == "online")


def _offer(got: Message) -> Reply:
    pair = ("first & <one>", "second *one*")
    return Reply("o1", got.chat, "which one?", "exchange-1", candidates=pair, answers=got.id, to=got.person)
