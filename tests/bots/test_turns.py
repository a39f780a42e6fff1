"""Messages that become one turn, that are edited, recalled, unreadable, or the owner's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from adapters.base import Edited, Message, OwnerWrote, Person, Recalled
from learner.engine.scripted import ScriptedEngine
from learner.store.rows import Place
from tests.bots.test_who_may_talk import Listening, bot, give

Running = Callable[..., AbstractAsyncContextManager[Any]]
ANN = Person("ann", "Ann")
HERE = Place("tester", "memory", "ann")
OPEN = {"talkers": "everyone", "teachers": "everyone"}


async def history(app: Any) -> list[str]:
    return [turn.text for turn in await app.database(app.store.history, HERE, 50)]


def wait_for_more(app: Any, seconds: float) -> None:
    """Let the memory platform be one on which people send a thought in several messages."""
    handler = app.inbox._handlers["tester"]
    app.inbox.serve("tester", handler.handle, {"memory": seconds})


class Slow:
    """An engine that answers only when it is let, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.engine = ScriptedEngine(self._answer, delay=0.02)

    def _answer(self, messages: Any, spec: Any) -> str:
        self.asked.append(messages[-1].content)
        return "a long answer that takes its time " * 3


async def test_rapid_messages_are_one_turn(running: Running) -> None:
    listening = Listening()
    async with running(listening.engine, bots=bot(**OPEN)) as app:
        wait_for_more(app, 1.5)
        texts = ["hi", "I have a question", "about tea"]
        answered = await asyncio.gather(*(give(app, "ann", text) for text in texts))
        assert listening.prompts == ["hi\nI have a question\nabout tea"]
        assert [len(one) for one in answered] == [0, 0, 1]
        assert await history(app) == ["hi\nI have a question\nabout tea", "answer 1"]


async def test_a_command_or_a_rating_ends_a_turn(running: Running) -> None:
    listening = Listening()
    async with running(listening.engine, bots=bot(**OPEN)) as app:
        wait_for_more(app, 1.5)
        first = asyncio.create_task(give(app, "ann", "hello"))
        await asyncio.sleep(0.05)
        status = asyncio.create_task(give(app, "ann", "/status"))
        assert await first == ["answer 1"]
        assert "Model" in (await status)[0]


async def test_two_people_do_not_share_a_turn(running: Running) -> None:
    listening = Listening()
    groups = {"allow": ["memory:club"], "notice": False}
    async with running(listening.engine, bots=bot(**OPEN, groups=groups)) as app:
        wait_for_more(app, 1.5)
        await asyncio.gather(*(give(app, one, f"I am {one}", "club", group=True) for one in ("ann", "bob")))
        assert [prompt.rsplit("\n", 1)[-1] for prompt in listening.prompts] == ["Ann: I am ann", "Bob: I am bob"]


async def test_an_edit_before_the_reply_is_answered_as_edited(running: Running) -> None:
    slow = Slow()
    async with running(slow.engine, bots=bot(**OPEN)) as app:
        memory = app.adapters["tester", "memory"]
        answering = asyncio.create_task(memory.give(Message("m1", "ann", ANN, "tell me of cats")))
        async with asyncio.timeout(10):
            while not slow.asked:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await memory.give(Edited("e1", "ann", ANN, "m1", "tell me of dogs"))
        (reply,) = await answering
        assert slow.asked == ["tell me of cats", "tell me of dogs"]
        assert [one.text for one in memory.sent] == [reply.text]
        assert (await history(app))[0] == "tell me of dogs"


async def test_a_recall_before_the_reply_gets_none(running: Running) -> None:
    slow = Slow()
    async with running(slow.engine, bots=bot(**OPEN)) as app:
        memory = app.adapters["tester", "memory"]
        answering = asyncio.create_task(memory.give(Message("m1", "ann", ANN, "oops")))
        async with asyncio.timeout(10):
            while not slow.asked:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await memory.give(Recalled("r1", "ann", ANN, "m1"))
        assert await answering == ()
        assert memory.sent == []
        assert await history(app) == []


async def test_after_the_reply_history_follows_and_a_recalled_prompt_never_trains(running: Running) -> None:
    listening = Listening()
    async with running(listening.engine, bots=bot(**OPEN)) as app:
        memory = app.adapters["tester", "memory"]
        for number, text in enumerate(("I like tea", "I like jam")):
            await memory.give(Message(f"m{number}", "ann", ANN, text))
            await memory.give(Message(f"g{number}", "ann", ANN, "good"))
        await memory.give(Edited("e1", "ann", ANN, "m0", "I like coffee"))
        await memory.give(Recalled("r1", "ann", ANN, "m1"))
        assert await history(app) == ["I like coffee", "answer 1", "…", "answer 2"]
        ratings = (await app.database(app.store.records, "default")).ratings
        assert [one.completion for one in ratings] == ["answer 1"]


async def test_an_edit_of_one_part_of_a_turn(running: Running) -> None:
    listening = Listening()
    async with running(listening.engine, bots=bot(**OPEN)) as app:
        wait_for_more(app, 1.5)
        memory = app.adapters["tester", "memory"]
        await asyncio.gather(*(memory.give(Message(f"m{n}", "ann", ANN, f"part {n}")) for n in range(3)))
        await memory.give(Edited("e1", "ann", ANN, "m1", "another part"))
        assert (await history(app))[0] == "part 0\nanother part\npart 2"


@pytest.mark.parametrize(("kind", "label"), [("image", "[image]"), ("other", "[something else]"), ("voice", "[voice]")])
async def test_what_can_not_be_read_gets_a_label_and_a_polite_line(running: Running, kind: Any, label: str) -> None:
    listening = Listening()
    async with running(listening.engine, bots=bot(**OPEN)) as app:
        (told,) = await give(app, "ann", "", kind=kind)
        assert label in told
        assert listening.prompts == []
        await give(app, "ann", "did you see?")
        assert listening.prompts == [f"{label}\ndid you see?"]


async def test_a_transcript_and_a_caption_are_words(running: Running) -> None:
    listening = Listening()
    async with running(listening.engine, bots=bot(**OPEN)) as app:
        await give(app, "ann", "hello by voice", kind="voice")
        await give(app, "ann", "my cat", kind="image")
        assert listening.prompts[0] == "hello by voice"
        assert listening.prompts[1].endswith("[image] my cat")


async def test_the_bot_is_silent_while_the_owner_writes_in_its_place(running: Running) -> None:
    listening, clock = Listening(), [1_700_000_000.0]
    bots = bot(**OPEN, silent_minutes=10)
    async with running(listening.engine, clock=lambda: clock[0], bots=bots) as app:
        await give(app, "ann", "hello")
        memory = app.adapters["tester", "memory"]
        await memory.give(OwnerWrote("o1", "ann", Person("me"), "it is me, the human"))
        clock[0] += 60
        assert await give(app, "ann", "oh, hi!") == []
        clock[0] += 600
        assert await give(app, "ann", "still there?") == ["answer 2"]
        assert "it is me, the human" in listening.prompts[1]
        turns = await app.database(app.store.history, HERE, 50)
        assert [turn.role for turn in turns] == ["user", "assistant", "owner", "user", "assistant"]


async def test_a_blocked_word_is_neither_sent_nor_streamed(running: Running) -> None:
    replies = iter(["a dragonfruit", "a pear", "dragonfruit again", "Dragonfruit"])
    engine = ScriptedEngine(lambda messages, spec: next(replies))
    bots = bot(**OPEN, blocked_words=["dragonfruit"])
    async with running(engine, bots=bots, ask_rate=1.0) as app:
        assert await give(app, "ann", "a fruit?") == ["a pear"]
        (told,) = await give(app, "ann", "another?")
        assert "must not" in told
        memory = app.adapters["tester", "memory"]
        assert not any("ragon" in text for text in memory.streamed.values())


async def test_recalled_words_are_out_of_every_prompt_and_record(running: Running) -> None:
    listening = Listening()
    async with running(listening.engine, bots=bot(**OPEN)) as app:
        memory = app.adapters["tester", "memory"]
        await memory.give(Message("m1", "ann", ANN, "my PIN is 4711 4711"))
        await give(app, "ann", "/retry")
        await give(app, "ann", "good")
        await give(app, "ann", "tell me more")
        await give(app, "ann", "bad")
        assert len((await app.database(app.store.records, "default")).ratings) == 2
        await memory.give(Recalled("r1", "ann", ANN, "m1"))
        records = await app.database(app.store.records, "default")
        assert (records.pairs, records.ratings) == ((), ())
        await give(app, "ann", "what next?")
        assert "4711" not in listening.prompts[-1]


async def test_a_turn_stays_whole_when_one_part_is_edited_into_a_rating(running: Running) -> None:
    slow = Slow()
    async with running(slow.engine, bots=bot(**OPEN)) as app:
        wait_for_more(app, 1.5)
        memory = app.adapters["tester", "memory"]
        both = asyncio.gather(*(memory.give(Message(f"m{n}", "ann", ANN, f"part {n}")) for n in range(2)))
        async with asyncio.timeout(20):
            while not slow.asked:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await memory.give(Edited("e", "ann", ANN, "m1", "good"))
        await both
        assert any("part 0" in text for text in await history(app))
