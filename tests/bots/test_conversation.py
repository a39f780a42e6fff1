"""The feedback table, row by row, through the real inbox, router and store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import count
from typing import Any

import pytest

from adapters.base import Reply
from learner.engine.base import CandidateSpec, ChatMessage
from learner.engine.scripted import ScriptedEngine
from learner.store.rows import Place

Running = Callable[..., AbstractAsyncContextManager[Any]]
HERE = Place("tester", "memory", "c")


def numbered(end: str = ".") -> ScriptedEngine:
    """Every candidate is another text, so that feedback on a wrong one shows."""
    numbers = count(1)

    def script(messages: Sequence[ChatMessage], spec: CandidateSpec) -> str:
        return f"reply {next(numbers)} to {messages[-1].content}{end}"

    return ScriptedEngine(script)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


def platform(app: Any) -> Any:
    return app.adapters["tester", "memory"]


async def say(app: Any, text: str, person: str = "p", **more: Any) -> tuple[Reply, ...]:
    replies: tuple[Reply, ...] = await platform(app).say("c", person, text, **more)
    return replies


async def words(app: Any, person: str = "p") -> list[tuple[str, str, str]]:
    feedback = await app.database(app.store.feedback, "default")
    return [(one.kind, one.value, one.correction) for one in feedback if one.teacher == f"memory:{person}"]


async def history(app: Any) -> list[str]:
    return [turn.text for turn in await app.database(app.store.history, HERE, 50)]


async def test_a_choice_becomes_history_and_is_thanked_for(running: Running) -> None:
    async with running(numbered(), ask_rate=1.0) as app:
        (offer,) = await say(app, "hello")
        assert offer.candidates is not None
        (thanks,) = await say(app, "2")
        assert thanks.exchange is None
        assert await words(app) == [("choice", "2", "")]
        assert await history(app) == ["hello", offer.candidates[1]]


@pytest.mark.parametrize(
    ("answer", "stored"),
    [("都不好", ("choice", "both_bad", "")), ("tie", ("choice", "tie", "")), ("不错", ("choice", "tie", "")),
     ("不好", ("choice", "both_bad", "")), ("改：新的", ("correction", "", "新的"))],
)  # fmt: skip
async def test_other_answers_to_an_offer(running: Running, answer: str, stored: tuple[str, str, str]) -> None:
    async with running(numbered(), ask_rate=1.0) as app:
        await say(app, "hello")
        await say(app, answer)
        assert await words(app) == [stored]


async def test_a_correction_of_an_offer_rejects_both(running: Running) -> None:
    async with running(numbered(), ask_rate=1.0) as app:
        (offer,) = await say(app, "hello")
        await say(app, "edit: better")
        records = await app.database(app.store.records, "default")
        assert {pair.rejected for pair in records.pairs} == set(offer.candidates)
        assert {pair.chosen for pair in records.pairs} == {"better"}
        assert await history(app) == ["hello", "better"]


async def test_commands_leave_the_offer_open(running: Running) -> None:
    async with running(numbered(), ask_rate=1.0) as app:
        await say(app, "hello")
        await say(app, "/help")
        await say(app, "1")
        assert await words(app) == [("choice", "1", "")]


async def test_other_words_close_the_offer(running: Running) -> None:
    async with running(numbered(), ask_rate=1.0) as app:
        (first,) = await say(app, "hello")
        (second,) = await say(app, "what else")
        assert second.exchange != first.exchange
        assert (await history(app))[:2] == ["hello", first.candidates[0]]
        await say(app, "1")
        feedback = await app.database(app.store.feedback, "default")
        assert [one.exchange for one in feedback] == [second.exchange]


async def test_a_late_click_trains_and_leaves_history(running: Running) -> None:
    async with running(numbered(), ask_rate=1.0) as app:
        (first,) = await say(app, "hello")
        await say(app, "what else")
        before = await history(app)
        await platform(app).press("c", "p", first.exchange, "2")
        assert await history(app) == before
        records = await app.database(app.store.records, "default")
        assert [pair.chosen for pair in records.pairs] == [first.candidates[1]]


async def test_an_offer_expires(running: Running) -> None:
    clock = Clock()
    async with running(numbered(), ask_rate=1.0, clock=clock) as app:
        (offer,) = await say(app, "hello")
        clock.now += 3601
        (reply,) = await say(app, "1")
        assert reply.exchange is not None  # an ordinary message, answered
        (notice,) = await platform(app).press("c", "p", offer.exchange, "1")
        assert "expired" in notice.text
        assert await words(app) == []


async def test_a_rating_rates_the_last_reply(running: Running) -> None:
    async with running(numbered()) as app:
        await say(app, "hello")
        (second,) = await say(app, "and you")
        await say(app, "不错")
        records = await app.database(app.store.records, "default")
        assert [(one.completion, one.desirable) for one in records.ratings] == [(second.text, True)]
        await say(app, "不好")
        records = await app.database(app.store.records, "default")
        assert [(one.completion, one.desirable) for one in records.ratings] == [(second.text, False)]


async def test_a_quote_names_the_reply(running: Running) -> None:
    async with running(numbered()) as app:
        (first,) = await say(app, "hello")
        await say(app, "and you")
        await say(app, "不错", quote=first.id)
        records = await app.database(app.store.records, "default")
        assert [one.completion for one in records.ratings] == [first.text]


async def test_an_answer_to_the_bots_question_is_no_rating(running: Running) -> None:
    async with running(numbered(end="?")) as app:
        await say(app, "hello")
        (reply,) = await say(app, "good")
        assert reply.exchange is not None
        assert await words(app) == []


async def test_a_rating_after_a_choice_rates_the_chosen(running: Running) -> None:
    async with running(numbered(), ask_rate=1.0) as app:
        (offer,) = await say(app, "hello")
        await say(app, "2")
        await say(app, "不错")
        records = await app.database(app.store.records, "default")
        assert [one.completion for one in records.ratings] == [offer.candidates[1]]


async def test_undo_takes_the_last_back(running: Running) -> None:
    async with running(numbered(), ask_rate=1.0) as app:
        (offer,) = await say(app, "hello")
        await say(app, "2")
        await say(app, "/undo")
        records = await app.database(app.store.records, "default")
        assert records.pairs == ()
        assert await history(app) == ["hello", offer.candidates[0]]
        (notice,) = await say(app, "/undo")
        assert "no feedback" in notice.text


async def test_a_one_sent_before_the_offer_was_shown_is_no_choice(running: Running) -> None:
    async with running(ScriptedEngine(delay=0.02), ask_rate=1.0) as app:
        hello = asyncio.create_task(say(app, "hello"))
        await asyncio.sleep(0.05)
        (reply,) = await say(app, "1")
        assert reply.exchange is not None
        await hello
        assert await words(app) == []


async def test_anothers_offer_is_not_mine_to_answer(running: Running) -> None:
    async with running(numbered(), ask_rate=1.0) as app:
        (offer,) = await say(app, "hello", person="p")
        (reply,) = await say(app, "1", person="q")
        assert reply.exchange not in (None, offer.exchange)
        await platform(app).press("c", "q", offer.exchange, "1")
        assert await words(app, "q") == []
        await platform(app).press("c", "p", offer.exchange, "1")
        assert await words(app, "p") == [("choice", "1", "")]


async def test_a_stranger_never_teaches(running: Running) -> None:
    bots = [{"name": "tester", "adapters": ["memory"], "talkers": "everyone", "teachers": "owner"}]
    async with running(numbered(), ask_rate=1.0, bots=bots) as app:
        await say(app, "hello")
        await say(app, "1")
        records = await app.database(app.store.records, "default")
        assert records.pairs == ()
        assert records.left_out == {"untrusted": 1}
        await say(app, f"/claim {app.claim_code.value}")
        await say(app, "again")
        await say(app, "1")
        records = await app.database(app.store.records, "default")
        assert len(records.pairs) == 1


async def test_a_repeated_message_is_answered_once(running: Running) -> None:
    async with running(numbered()) as app:
        first = await say(app, "hello", id="same")
        again = await say(app, "hello", id="same")
        assert first == again
        assert len(platform(app).sent) == 1


async def test_bad_input_gets_a_polite_reply(running: Running) -> None:
    async with running(numbered()) as app:
        for text in ("", "  \n", "x" * 100_000):
            (reply,) = await say(app, text)
            assert reply.exchange is None
            assert reply.text
        (reply,) = await say(app, "broken \ud800 text")
        assert reply.exchange is not None


async def test_two_equal_candidates_are_sent_once(running: Running) -> None:
    engine = ScriptedEngine(lambda messages, spec: "the same")
    async with running(engine, ask_rate=1.0) as app:
        (reply,) = await say(app, "hello")
        assert reply.candidates is None
        assert reply.text == "the same"


async def test_chats_go_on_side_by_side_and_each_in_order(running: Running) -> None:
    async with running(ScriptedEngine(delay=0.005)) as app:
        asked = [platform(app).say(f"c{i % 3}", "p", f"message {i}") for i in range(9)]
        await asyncio.gather(*asked)
        for chat in range(3):
            turns = await app.database(app.store.history, Place("tester", "memory", f"c{chat}"), 50)
            said = [turn.text for turn in turns if turn.role == "user"]
            assert said == [f"message {i}" for i in range(9) if i % 3 == chat]
