"""What slash commands do, in both languages; /retry gives a record; unknown ones are ordinary text."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from adapters.base import Person, Reacted
from bots.intent import ALIASES, COMMANDS, Command, parse
from bots.phrases import LANGUAGES, phrases
from learner.engine.scripted import ScriptedEngine
from learner.store.rows import Place
from tests.bots.test_platform_health import until
from tests.bots.test_who_may_talk import Listening, bot, give, own

Running = Callable[..., AbstractAsyncContextManager[Any]]
OPEN = {"talkers": "everyone", "teachers": "everyone"}
HERE = Place("tester", "memory", "ann")


def test_every_command_has_a_chinese_name_and_unknown_ones_are_text() -> None:
    assert set(ALIASES.values()) == set(COMMANDS)
    assert parse("/换一个", offer_pending=False) == Command("retry")
    assert parse("/help@some_bot", offer_pending=False) == Command("help")
    assert parse("/etc/passwd", offer_pending=False) is None
    assert parse("/什么", offer_pending=False) is None


def test_both_languages_say_the_same_things() -> None:
    zh, en = (phrases(language).sentences for language in LANGUAGES)
    assert zh.keys() == en.keys()
    for key in zh:
        fields = [{part.split("}")[0] for part in text[key].split("{")[1:]} for text in (zh, en)]
        assert fields[0] == fields[1], key


async def test_a_retry_replaces_the_reply_and_the_kept_one_is_preferred(running: Running) -> None:
    listening = Listening()
    async with running(listening.engine, bots=bot(**OPEN)) as app:
        assert await give(app, "ann", "hello") == ["answer 1"]
        assert await give(app, "ann", "/retry") == ["answer 2"]
        assert await give(app, "ann", "/retry ") == ["answer 3"]
        turns = await app.database(app.store.history, HERE, 10)
        assert [turn.text for turn in turns] == ["hello", "answer 3"]
        assert listening.prompts == ["hello"] * 3
        pairs = (await app.database(app.store.records, "default")).pairs
        assert {(one.chosen, one.rejected) for one in pairs} == {("answer 3", "answer 1"), ("answer 3", "answer 2")}
        assert {one.source for one in pairs} == {"retry"}


async def test_a_retry_that_is_called_bad_prefers_nothing_and_undo_takes_it_back(running: Running) -> None:
    async with running(Listening().engine, bots=bot(**OPEN)) as app:
        await give(app, "ann", "hello")
        await give(app, "ann", "/retry")
        await give(app, "ann", "bad")
        records = await app.database(app.store.records, "default")
        assert records.pairs == ()
        assert [(one.completion, one.desirable) for one in records.ratings] == [("answer 2", False)]
        await give(app, "ann", "/undo")
        await give(app, "ann", "/undo ")
        records = await app.database(app.store.records, "default")
        assert (records.pairs, records.ratings) == ((), ())


async def test_nothing_to_retry(running: Running) -> None:
    async with running(bots=bot(**OPEN), ask_rate=1.0) as app:
        assert "no reply" in (await give(app, "ann", "/retry"))[0]


async def test_forget_me_asks_first_and_then_nothing_is_left(running: Running) -> None:
    secret = "my grandmother's maiden name is Quackenbush"
    async with running(Listening().engine, bots=bot(**OPEN)) as app:
        await give(app, "ann", secret)
        await give(app, "ann", "good")
        assert "sure" in (await give(app, "ann", "/forget me"))[0]
        assert await app.database(app.store.known, "tester", "memory", "ann") is not None
        assert await give(app, "ann", "/forget me yes") == []
        assert "forgotten" in app.adapters["tester", "memory"].sent[-1].text
        assert await app.database(app.store.known, "tester", "memory", "ann") is None
        assert (await app.database(app.store.records, "default")).ratings == ()
        await give(app, "bob", "hello")
        files = [path for path in app.settings.data_dir.iterdir() if path.name.startswith("nightschool.db")]
        assert not any(b"Quackenbush" in path.read_bytes() for path in files)


async def test_the_owner_sets_the_persona_and_it_stays(running: Running) -> None:
    for asked, profile in (("/persona You are a patient gardener.", True), ("hello", True), ("/persona -", False)):
        listening = Listening()
        async with running(listening.engine, bots=bot(**OPEN)) as app:
            await own(app)
            await give(app, "owner", asked)
            await give(app, "ann", f"who are you after {len(asked)}?")
            assert ("patient gardener" in listening.prompts[-1]) is profile
            assert "owner" in (await give(app, "ann", f"/persona You are mine {len(asked)}"))[0]


async def test_pause_and_back(running: Running) -> None:
    async with running(Listening().engine, bots=bot(**OPEN)) as app:
        await give(app, "ann", "/pause")
        assert await give(app, "ann", "hello?") == []
        assert "back" in (await give(app, "ann", "/pause "))[0]
        assert await give(app, "ann", "hello!") == ["answer 1"]


async def test_a_chat_has_a_language_of_its_own(running: Running) -> None:
    async with running(bots=bot(**OPEN)) as app:
        assert "中文" in (await give(app, "ann", "/lang zh"))[0]
        assert "模型" in (await give(app, "ann", "/status"))[0]
        assert "Model" in (await give(app, "bob", "/status"))[0]
        assert "zh, en" in (await give(app, "ann", "/lang klingon"))[0]


@pytest.mark.parametrize("command", ["/learn", "/lora", "/approve X", "/teach x", "/allow", "/code 1"])
async def test_owners_commands_are_refused_to_others(running: Running, command: str) -> None:
    async with running(bots=bot(**OPEN)) as app:
        assert "owner" in (await give(app, "ann", command))[0]


async def test_lora_lists_and_says_what_can_not_be_done(running: Running) -> None:
    async with running(bots=bot(**OPEN)) as app:
        await own(app)
        assert "promote" in (await give(app, "owner", "/lora"))[0]
        assert "0042" in (await give(app, "owner", "/lora promote 0042"))[0]


async def test_start_is_help_and_numbers_differ(running: Running) -> None:
    numbers = count(1)
    engine = ScriptedEngine(lambda messages, spec: f"n{next(numbers)}")
    async with running(engine, bots=bot(**OPEN)) as app:
        assert "Just talk" in (await give(app, "ann", "/start"))[0]
        assert "Owner:" not in (await give(app, "ann", "/help"))[0]
        await own(app)
        assert "Owner:" in (await give(app, "owner", "/help"))[0]


async def test_a_retry_keeps_to_the_limits_and_to_silence(running: Running) -> None:
    listening = Listening()
    limits = {"person_per_minute": 2, "chat_per_minute": 2}
    async with running(listening.engine, bots=bot(**OPEN), limits=limits) as app:
        await give(app, "ann", "hello")
        for blanks in range(6):
            await give(app, "ann", "/retry" + " " * blanks)
        assert len(listening.prompts) == 2
        await give(app, "bob", "hello")
        await give(app, "bob", "/pause")
        assert await give(app, "bob", "/retry") == []


async def test_forget_me_forgets_nobody_else_and_the_persona_that_one_wrote(running: Running) -> None:
    listening = Listening()
    async with running(listening.engine, bots=bot(**OPEN)) as app:
        await own(app)
        assert "sure" in (await give(app, "owner", "/forget ann yes"))[0]
        await give(app, "owner", "/persona I am Quackenbush")
        await give(app, "owner", "/forget me yes")
        assert await app.database(app.store.note, "tester", "persona.profile") == ""
        await give(app, "ann", "who are you?")
        assert "Quackenbush" not in listening.prompts[-1]


async def test_a_reaction_taken_back_leaves_the_choice(running: Running) -> None:
    async with running(Listening().engine, bots=bot(**OPEN), ask_rate=1.0) as app:
        await give(app, "ann", "hello")
        memory = app.adapters["tester", "memory"]
        await until(lambda: bool(memory.sent))
        await asyncio.sleep(0.05)
        await give(app, "ann", "2")
        for number, verdict in enumerate(("good", "retract")):
            await memory.give(Reacted(f"r{number}", "ann", Person("ann"), memory.sent[0].id, verdict))
        assert len((await app.database(app.store.records, "default")).pairs) == 1
        assert (await app.database(app.store.exchange, memory.sent[0].exchange)).kept == 2
        await give(app, "ann", "/undo")
        assert (await app.database(app.store.records, "default")).pairs == ()


async def test_reactions_are_taken_without_a_word_and_buttons_where_they_show(running: Running) -> None:
    async with running(Listening().engine, bots=bot(**OPEN), ask_rate=1.0) as app:
        memory = app.adapters["tester", "memory"]
        for shows, said in ((False, 1), (True, 0)):
            memory.capabilities = replace(memory.capabilities, shows_presses=shows)
            await give(app, "ann", f"hello {shows}")
            await until(lambda: memory.sent[-1].candidates is not None)
            offer = memory.sent[-1]
            assert len(await memory.press("ann", "ann", offer.exchange, "2")) == said
            await until(lambda offer=offer: any(one.id == offer.id and one.verdict == "2" for one in memory.shown))
            assert await memory.give(Reacted(f"u{shows}", "ann", Person("ann"), offer.id, "good")) == ()
        assert len(await app.database(app.store.feedback, "default")) == 4
