"""Faults inside: a broken disk, a broken adapter, a crash between two lines. Nothing else stops because of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

import pytest

from adapters.base import Edited, Message, Person, Recalled, Receive, Reply, Sent
from adapters.memory import MemoryAdapter
from bots import assembly, platforms
from learner.store.rows import Place
from tests.bots.test_platform_health import Moody, add, until
from tests.bots.test_who_may_talk import Listening, bot, give, own

Running = Callable[..., AbstractAsyncContextManager[Any]]
OPEN = {"talkers": "everyone", "teachers": "everyone"}
ANN = Person("ann", "Ann")
HERE = Place("tester", "memory", "ann")
SECRET = "my PIN is 4711 4711"


def memory(app: Any) -> Any:
    return app.adapters["tester", "memory"]


def never_handled(app: Any) -> None:
    """From now on what arrives is stored, and the process dies before anything is done with it."""

    def stored_only(row: Any) -> None:
        app.inbox._handled[row.id] = asyncio.get_running_loop().create_future()

    async def dies(*_: Any) -> None:
        raise RuntimeError("killed")

    app.inbox._queue, app.inbox._amend = stored_only, dies


async def store_only(app: Any, *inbound: Any) -> None:
    never_handled(app)
    for one in inbound:
        task = asyncio.create_task(memory(app).give(one))
        await until(lambda task=task: task.done() or bool(app.inbox._handled))
        await asyncio.sleep(0.05)
        task.cancel()
        with suppress(BaseException):
            await task


async def test_a_failing_disk_costs_one_message_and_not_the_chat(running: Running) -> None:
    async with running(Listening().engine, bots=bot(**OPEN)) as app:
        real, failed = app.store.arrival, []

        def once(row: int) -> Any:
            if not failed:
                failed.append(row)
                raise RuntimeError("database is locked")
            return real(row)

        app.store.arrival = once
        assert await memory(app).give(Message("m1", "ann", ANN, "hello")) == ()
        assert await memory(app).give(Message("m2", "ann", ANN, "still there?"))
        assert [row.inbound.external_id for row in await app.database(app.store.waiting)] == ["m1"]


async def test_a_fault_in_an_adapters_send_is_tried_again(running: Running) -> None:
    async with running(Listening().engine, bots=bot(**OPEN)) as app:
        real, failed = memory(app).send, []

        async def once(reply: Reply) -> Sent:
            if not failed:
                failed.append(reply.id)
                raise ValueError("a fault of its own")
            sent: Sent = await real(reply)
            return sent

        memory(app).send = once
        await give(app, "ann", "hello")
        await give(app, "ann", "hello again")
        await until(lambda: len(memory(app).sent) == 2)
        assert [one.text for one in memory(app).sent] == ["answer 1", "answer 2"]


class Ends(Moody):
    async def run(self, receive: Receive) -> None:
        self.starts += 1


class Cancels(Moody):
    async def run(self, receive: Receive) -> None:
        self.starts += 1
        inner = asyncio.create_task(asyncio.sleep(9))
        inner.cancel()
        await inner


@pytest.mark.parametrize("kind", [Ends, Cancels])
async def test_an_adapter_that_ends_takes_nothing_along(
    running: Running, monkeypatch: pytest.MonkeyPatch, kind: type[Moody]
) -> None:
    monkeypatch.setattr(platforms, "FIRST_PAUSE", 0.01)
    async with running() as app:
        add(app, adapter := kind())
        waiting = asyncio.create_task(app.wait())
        await until(lambda: adapter.starts >= 2)
        assert not waiting.done()
        waiting.cancel()


async def test_the_same_edit_twice_at_once(running: Running) -> None:
    async with running(Listening().engine, bots=bot(**OPEN)) as app:
        await memory(app).give(Message("m1", "ann", ANN, "hello"))
        edit = Edited("e1", "ann", ANN, "m1", "hello you")
        async with asyncio.timeout(20):
            await asyncio.gather(memory(app).give(edit), memory(app).give(edit))
            assert await memory(app).give(Message("m2", "ann", ANN, "still there?"))


async def test_after_a_crash_the_stored_come_before_the_live(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    class Eager(MemoryAdapter):
        async def run(self, receive: Receive) -> None:
            await receive(Message("new", "ann", ANN, "second"))
            await super().run(receive)

    listening = Listening()
    async with running(listening.engine, bots=bot(**OPEN)) as app:
        await store_only(app, Message("old", "ann", ANN, "first"))
    monkeypatch.setattr(assembly.registry, "load", lambda name: Eager)
    async with running(listening.engine, bots=bot(**OPEN)) as app:
        await until(lambda: len(memory(app).sent) == 2)
        assert [prompt.splitlines()[-1] for prompt in listening.prompts] == ["first", "second"]
        assert len({one.id for one in memory(app).sent}) == 2


async def test_what_was_recalled_before_a_crash_is_not_answered_after_it(running: Running) -> None:
    listening = Listening()
    async with running(listening.engine, bots=bot(**OPEN)) as app:
        await store_only(app, Message("m1", "ann", ANN, SECRET), Recalled("r1", "ann", ANN, "m1"))
    async with running(listening.engine, bots=bot(**OPEN)) as app:
        await give(app, "ann", "are you there?")
        assert listening.prompts == ["are you there?"]


async def test_a_crash_does_not_flip_a_switch_back(running: Running) -> None:
    async with running(Listening().engine, bots=bot(**OPEN)) as app:
        app.store.answer = lambda *_: None  # killed here: what follows is never stored
        await memory(app).give(Message("m1", "ann", ANN, "/pause"))
    async with running(Listening().engine, bots=bot(**OPEN)) as app:
        await give(app, "bob", "hello")
        assert (await app.database(app.store.chat_state, HERE)).paused


async def test_an_approval_that_a_crash_cut_short_is_given_again(running: Running) -> None:
    bots = bot(talkers="paired")
    async with running(Listening().engine, bots=bots) as app:
        await own(app)
        (asked,) = await give(app, "eve", "hi")
        app.store.answer = lambda *_: None
        await give(app, "owner", f"/approve {asked.rsplit(' ', 1)[1]}")
    async with running(Listening().engine, bots=bots) as app:
        await until(lambda: any("Eve may talk" in one.text for one in memory(app).sent))
        assert await give(app, "eve", "hello") == ["answer 1"]


async def test_no_words_in_the_log_of_a_full_disk(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with running(Listening().engine, bots=bot(**OPEN)) as app:
        full = "create trigger full before insert on turns begin select raise(fail, 'disk is full'); end"
        with app.store._database.write() as c:
            c.exec_driver_sql(full)
        await give(app, "ann", SECRET)
    assert "disk is full" in caplog.text
    assert "4711" not in caplog.text


async def test_what_waits_to_be_sent_is_forgotten_too(running: Running) -> None:
    async with running(Listening().engine, bots=bot(**OPEN)) as app:
        await give(app, "ann", "hello")
        await until(lambda: len(memory(app).sent) == 1)
        memory(app).cut()
        receive = memory(app)._receive
        await (await receive(Message("m2", "ann", ANN, SECRET))).replies()
        await (await receive(Message("m3", "ann", ANN, "/forget me yes"))).replies()
        memory(app).mend()
        await give(app, "bob", "hello")
        await until(lambda: any(one.chat == "bob" for one in memory(app).sent))
        await asyncio.sleep(1.5)
        assert [one.chat for one in memory(app).sent] == ["ann", "bob"]
