"""Who is heard, who teaches, and what strangers never reach: the model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from adapters.base import Message, Person, Reply
from learner.engine.scripted import ScriptedEngine

Running = Callable[..., AbstractAsyncContextManager[Any]]
SECRET = "something that nobody else is to read"


class Listening:
    """An engine that keeps every prompt it was given."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.engine = ScriptedEngine(self._answer)

    def _answer(self, messages: Any, spec: Any) -> str:
        self.prompts.append("\n".join(message.content for message in messages))
        return f"answer {len(self.prompts)}"


def bot(**changes: Any) -> list[dict[str, Any]]:
    return [{"name": "tester", "adapters": ["memory"], "merge_seconds": 0, **changes}]


async def give(app: Any, person: str, text: str, chat: str = "", **more: Any) -> list[str]:
    memory = app.adapters["tester", "memory"]
    number = len(memory.sent) + 1000 * len(text)
    message = Message(f"{person}-{number}-{text}", chat or person, Person(person, person.title()), text, **more)
    replies: tuple[Reply, ...] = await memory.give(message)
    return [reply.text for reply in replies]


async def own(app: Any, person: str = "owner") -> None:
    await give(app, person, f"/claim {app.claim_code.value}")


async def test_a_stranger_gets_a_code_and_is_never_shown_to_the_model(running: Running) -> None:
    listening = Listening()
    async with running(listening.engine, bots=bot(talkers="paired")) as app:
        await own(app)
        (asked,) = await give(app, "eve", SECRET)
        code = asked.rsplit("/approve ", 1)[1]
        assert listening.prompts == []
        assert "Eve" in (await give(app, "owner", f"/approve {code}"))[0]
        assert await give(app, "eve", "hello") == ["answer 1"]
        assert SECRET not in "".join(listening.prompts)
        assert "Eve" in (await give(app, "owner", f"/approve {code} "))[0]
        assert "pairing" in (await give(app, "owner", "/approve NOBODYS"))[0]


async def test_only_the_owner_approves(running: Running) -> None:
    async with running(bots=bot(talkers="paired", allow=["memory:bob"])) as app:
        (asked,) = await give(app, "eve", "hi")
        code = asked.rsplit("/approve ", 1)[1]
        assert "owner" in (await give(app, "bob", f"/approve {code}"))[0]
        assert code in (await give(app, "eve", "hi again"))[0]


async def test_a_code_is_not_repeated_to_somebody_who_floods(running: Running) -> None:
    limits = {"person_per_minute": 2, "chat_per_minute": 2}
    async with running(bots=bot(talkers="paired"), limits=limits) as app:
        told = [await give(app, "eve", f"hi {number}") for number in range(6)]
        assert [bool(one) for one in told] == [True, True, False, False, False, False]


async def test_under_an_allowlist_a_stranger_hears_nothing(running: Running) -> None:
    listening = Listening()
    async with running(listening.engine, bots=bot(talkers="allowlist", allow=["memory:ann"])) as app:
        assert await give(app, "eve", SECRET) == []
        assert await give(app, "ann", "hi") == ["answer 1"]
        assert len(listening.prompts) == 1


async def test_a_stranger_can_claim_with_the_terminals_code(running: Running) -> None:
    async with running(bots=bot(talkers="allowlist")) as app:
        assert await give(app, "me", "/claim 000000x") != []
        await own(app, "me")
        assert (await app.database(app.store.known, "tester", "memory", "me")).owner


async def test_the_owner_names_teachers_by_id_and_a_name_only_finds_it(running: Running) -> None:
    async with running(bots=bot(talkers="everyone"), ask_rate=0.0) as app:
        await own(app)
        await give(app, "ann", "hello")
        assert "only the owner" in (await give(app, "ann", "good"))[0]
        assert "Ann: ann." in (await give(app, "owner", "/teach @Ann"))[0]
        await give(app, "ann", "good")
        assert (await app.database(app.store.records, "default")).ratings == ()
        assert "Ann" in (await give(app, "owner", "/teach ann"))[0]
        await give(app, "ann", "good")
        records = await app.database(app.store.records, "default")
        assert [one.provenance.teacher for one in records.ratings] == ["memory:ann"]
        assert "nobody: —" in (await give(app, "owner", "/teach @nobody"))[0]
        await give(app, "owner", "/unteach ann")
        assert not (await app.database(app.store.known, "tester", "memory", "ann")).teacher


async def test_two_of_one_name_are_told_apart_by_id(running: Running) -> None:
    async with running(bots=bot(talkers="everyone")) as app:
        await own(app)
        memory = app.adapters["tester", "memory"]
        for number in ("7", "8"):
            await memory.give(Message(f"m{number}", f"c{number}", Person(number, "Sam"), "hi"))
        (told,) = await give(app, "owner", "/teach Sam")
        assert "7, 8" in told
        await give(app, "owner", "/teach 8")
        assert (await app.database(app.store.known, "tester", "memory", "8")).teacher


async def test_too_many_messages_get_one_word_and_then_silence(running: Running) -> None:
    limits = {"person_per_minute": 3, "chat_per_minute": 100}
    async with running(bots=bot(talkers="everyone"), limits=limits) as app:
        told = [await give(app, "ann", f"hello {number}") for number in range(6)]
        assert [len(one) for one in told] == [1, 1, 1, 1, 0, 0]
        assert "fast" in told[3][0]
        assert len(await give(app, "bob", "hello")) == 1


async def test_a_claim_code_can_not_be_guessed_nor_the_owner_locked_out(running: Running) -> None:
    limits = {"person_per_minute": 100, "chat_per_minute": 100}
    async with running(bots=bot(talkers="paired"), limits=limits) as app:
        code = app.claim_code.value
        for number in range(7):
            assert "not the claim code" in (await give(app, "eve", f"/claim {number:08d}"))[0]
        assert "not the claim code" in (await give(app, "eve", f"/claim {code}"))[0]
        assert app.claim_code.value == code
        await own(app, "me")
        assert (await app.database(app.store.known, "tester", "memory", "me")).owner
        assert app.claim_code.value != code


async def test_whoever_has_the_pages_token_may_talk_and_does_not_teach(running: Running) -> None:
    bots = [{"name": "tester", "adapters": ["web"], "talkers": "paired"}]
    async with running(Listening().engine, bots=bots, adapters={"web": {"port": 0}}) as app:
        receive = app.receive(app.settings.bots[0], app.adapters["tester", "web"])
        receipt = await receive(Message("main/1", "main", Person("web:main"), "hello"))
        assert [one.text for one in await receipt.replies()] == ["answer 1"]
        receipt = await receive(Message("main/2", "main", Person("web:main"), "good"))
        assert "only the owner" in (await receipt.replies())[0].text
