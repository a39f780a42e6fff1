"""The wechaty adapter: python-wechaty's own gRPC client against published Node gateways with the mock puppet."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from adapters.base import (
    AdapterError,
    DeliveryFailed,
    Health,
    Joined,
    Message,
    OwnerWrote,
    Person,
    Recalled,
    Reply,
)
from adapters.registry import SETTINGS, load, settings_class
from adapters.testing import PATIENCE, AdapterContract, TestHost, running, until
from adapters.text import clauses
from adapters.wechat_wechaty import compat
from adapters.wechat_wechaty.adapter import WechatyAdapter
from adapters.wechat_wechaty.own import MEMORY, Echoes
from adapters.wechat_wechaty.settings import WechatySettings
from adapters.wechat_wechaty.translate import Account, Received, parts_of, to_inbound
from tests.adapters.wechaty_far import BOT, FOLDER, TOKEN, TOKEN_ENV, Gateways, WechatyFarEnd, missing

ROOT = Path(__file__).resolve().parents[2]
WHY_NOT = missing()
node = pytest.mark.node
needs_all = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


@pytest.fixture(scope="module")
def gateways() -> Iterator[Gateways]:
    """The Node process. The client is imported here: on a busy machine that takes what a test would wait for."""
    compat.load()
    process = Gateways()
    yield process
    process.close()


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment holds the token."""
    monkeypatch.setenv(TOKEN_ENV, TOKEN)


@pytest.fixture
async def far(gateways: Gateways, tmp_path: Path) -> AsyncIterator[WechatyFarEnd]:
    """A gateway of its own for each test."""
    async with WechatyFarEnd(gateways, tmp_path) as far:
        yield far


@node
@needs_all
class TestWechaty(AdapterContract):
    """What every adapter does."""


async def said(far: WechatyFarEnd, heard: Any, text: str = "hi", **where: Any) -> Message:
    """Somebody says something; what the adapter made of it."""
    before = len(heard.all)
    await far.say(text, **where)
    got: Message = await heard.next(Message, before)
    return got


@node
@needs_all
class TestLogin:
    async def test_a_code_is_shown_and_the_login_follows(self, far: WechatyFarEnd) -> None:
        far.call("set", changes={"loginAtStart": False})
        async with running(far.adapter()):
            await until(lambda: far.call("listened"))
            far.call("scan", code="https://login.weixin.qq.com/l/abc", status=2)
            health = await far.online("login")
            assert health.qr == "https://login.weixin.qq.com/l/abc"
            far.call("scan", code="", status=3)
            await until(lambda: "confirm" in far.host.reports[-1].detail)
            far.call("login")
            assert await far.online() == Health("online")

    async def test_a_code_that_was_shown_before_we_came_is_shown_again(self, far: WechatyFarEnd) -> None:
        far.call("set", changes={"loginAtStart": False})
        far.call("scan", code="https://login.weixin.qq.com/l/early", status=2)
        async with running(far.adapter()):
            assert (await far.online("login")).qr.endswith("early")

    async def test_a_logout_is_told_and_a_second_login_heard(self, far: WechatyFarEnd) -> None:
        async with running(adapter := far.adapter()) as heard:
            got = await said(far, heard)
            far.call("logout")
            assert "logged out" in (await far.online("offline")).detail
            with pytest.raises(DeliveryFailed) as failure:
                await adapter.send(Reply("r1", got.chat, "hello"))
            assert not failure.value.permanent
            far.call("login")
            await far.online()
            await adapter.send(Reply("r1", got.chat, "hello"))
            assert [one.text for one in far.shown()] == ["hello"]

    async def test_an_error_or_a_bare_logout_does_not_end_the_connection(self, far: WechatyFarEnd) -> None:
        async with running(far.adapter()) as heard:
            await said(far, heard)
            far.call("emit", event="error", payload={"gerror": '{"message": "watchdog"}'})
            far.call("emit", event="heartbeat", payload={})
            assert (await said(far, heard, "still here")).text == "still here"
            assert [report.state for report in far.host.reports] == ["starting", "online"]

    async def test_a_gateway_that_cannot_begin_a_login_says_so(self, far: WechatyFarEnd) -> None:
        far.call("set", changes={"loginAtStart": False})
        async with running(far.adapter()):
            await until(lambda: far.call("listened"))
            far.call("emit", event="error", payload={"gerror": "getaddrinfo ENOTFOUND"})
            assert "its own log" in (await far.online("offline")).detail
            far.call("login")
            await far.online()

    async def test_a_wrong_token_is_told_and_tried_again(
        self, far: WechatyFarEnd, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(TOKEN_ENV, "wrong")
        async with running(far.adapter()):
            health = await far.online("offline")
            assert TOKEN_ENV in health.detail
            assert "wrong" not in health.detail
            monkeypatch.setenv(TOKEN_ENV, TOKEN)
            await far.online()

    async def test_no_token_is_a_fault_of_the_settings(
        self, far: WechatyFarEnd, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv(TOKEN_ENV)
        with pytest.raises(AdapterError, match=TOKEN_ENV):
            await far.adapter().run(lambda inbound: pytest.fail("nothing can come"))


@node
@needs_all
class TestConnection:
    async def test_the_pauses_double(self, far: WechatyFarEnd) -> None:
        far.call("cut")
        async with running(far.adapter()):
            await until(lambda: len(far.host.reports) > 3)
            assert far.host.reports[0].state == "starting"
            waits = [report.detail.rpartition("in ")[2] for report in far.host.reports[1:4]]
            assert waits == ["0.05 s", "0.1 s", "0.2 s"]
            assert str(far.port) in far.host.reports[1].detail
            far.call("mend")
            await far.online()

    async def test_a_gateway_that_stopped_answering_is_lost(self, far: WechatyFarEnd) -> None:
        adapter = WechatyAdapter(far.settings(), far.host, first_pause=0.05, probe=0.1, patience=2.0)
        async with running(adapter) as heard:
            await said(far, heard)
            os.kill(far.gateways.pid, signal.SIGSTOP)
            try:
                health = await far.online("offline")
            finally:
                os.kill(far.gateways.pid, signal.SIGCONT)
            assert "does not answer" in health.detail
            await far.online()

    async def test_what_the_gateway_never_tells_does_not_block_for_good(self, far: WechatyFarEnd) -> None:
        adapter = WechatyAdapter(far.settings(), far.host, first_pause=0.05, patience=1.0)
        async with running(adapter) as heard:
            await said(far, heard)
            far.call("set", changes={"silentAbout": "m-stuck"})
            await far.message(id="m-stuck", text="stuck")
            await until(lambda: [report.state for report in far.host.reports].count("offline") >= 2)
            await far.online()
            assert (await said(far, heard, "go on")).text == "go on"

    async def test_a_message_is_asked_for_again_on_the_next_connection(self, far: WechatyFarEnd) -> None:
        adapter = WechatyAdapter(far.settings(), far.host, first_pause=0.05, patience=1.0)
        async with running(adapter) as heard:
            await said(far, heard)
            far.call("set", changes={"silentAbout": "m-late"})
            await far.message(id="m-late", text="late")
            await far.online("offline")
            far.call("set", changes={"silentAbout": ""})
            assert (await heard.next(Message, 1)).text == "late"

    async def test_a_second_program_at_one_gateway_is_named(self, far: WechatyFarEnd, tmp_path: Path) -> None:
        other = TestHost("other", tmp_path)
        async with running(far.adapter()) as heard:
            await said(far, heard)
            async with running(WechatyAdapter(far.settings(), other, first_pause=0.05)):
                health = await far.online("offline")
                assert "A gateway serves one bot" in health.detail

    async def test_two_bots_hear_one_message_of_one_group(
        self, far: WechatyFarEnd, gateways: Gateways, tmp_path: Path
    ) -> None:
        async with (
            WechatyFarEnd(gateways, tmp_path, "b") as second,
            running(one := far.adapter()) as first_heard,
            running(two := second.adapter()) as second_heard,
        ):
            for end in (far, second):
                await end.message("bob", "club", id="m-of-both", text="hello all")
            assert (await first_heard.next(Message)).id == (await second_heard.next(Message)).id == "m-of-both"
            await one.send(Reply("r1", far.chat_id("alice"), "from one"))
            await two.send(Reply("r1", far.chat_id("alice"), "from two"))
            assert [shown.text for shown in far.shown()] == ["from one"]
            assert [shown.text for shown in second.shown()] == ["from two"]

    async def test_nothing_is_left_behind(
        self,
        far: WechatyFarEnd,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with caplog.at_level(logging.INFO):
            async with running(adapter := far.adapter()) as heard:
                got = await said(far, heard, "a secret of mine")
                await adapter.send(Reply("r1", got.chat, "a secret of yours"))
        told = caplog.text + "".join(capfd.readouterr())
        assert "may be logged out, barred or closed" in told
        assert "secret" not in told
        assert TOKEN not in told
        assert os.listdir(tmp_path) == []
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


@node
@needs_all
class TestPeople:
    async def test_the_owner_at_the_phone_and_our_own_words(self, far: WechatyFarEnd) -> None:
        async with running(adapter := far.adapter()) as heard:
            got = await said(far, heard)
            await adapter.send(Reply("r1", got.chat, "ok"))
            await far.owner_writes("ok")  # the same words, typed after ours came back
            wrote = await heard.next(OwnerWrote)
            assert (wrote.chat, wrote.text, wrote.person.id) == (got.chat, "ok", BOT)
            await far.owner_writes("to the room", chat="club")
            wrote = await heard.next(OwnerWrote, heard.all.index(wrote) + 1)
            assert wrote.chat == far.chat_id("club")

    async def test_ids_that_the_gateway_tells_are_passed_on(self, far: WechatyFarEnd) -> None:
        far.call("set", changes={"tellsIds": True})
        async with running(adapter := far.adapter()) as heard:
            got = await said(far, heard)
            sent = await adapter.send(Reply("r1", got.chat, "ok"))
            assert sent.message_ids == (far.shown()[0].id,)
            await said(far, heard, "next")
            assert not [one for one in heard.all if isinstance(one, OwnerWrote)]

    async def test_a_friend_asks_and_is_left_by_default(self, far: WechatyFarEnd) -> None:
        async with running(far.adapter()) as heard:
            await said(far, heard)
            far.call("friendship", id="f1", type=2, person="wxid_carol")
            await said(far, heard, "later")
            assert far.call("accepted") == []

    async def test_a_friend_asks_and_is_accepted(self, far: WechatyFarEnd) -> None:
        async with running(far.adapter(accept_friends=True)) as heard:
            await said(far, heard)
            far.call("friendship", id="f1", type=2, person="wxid_carol")
            await until(lambda: far.call("accepted") == ["f1"])
            await far.join(chat="carol", person="carol")
            joined = await heard.next(Joined)
            assert (joined.chat, joined.person, joined.group) == ("wxid_carol", Person("wxid_carol", "Carol 陈"), False)

    async def test_the_bot_is_no_newcomer_to_itself(self, far: WechatyFarEnd) -> None:
        async with running(far.adapter()) as heard:
            await far.ready()
            far.call("join", room="2001@chatroom", people=[BOT, "wxid_carol"], by="wxid_bob")
            await heard.next(Joined)
            await said(far, heard)
            assert [one.person.id for one in heard.all if isinstance(one, Joined)] == ["wxid_carol"]

    async def test_news_and_services_are_nobody(self, far: WechatyFarEnd) -> None:
        async with running(far.adapter()) as heard:
            await far.ready()
            far.call("message", payload={"person": "gh_news", "text": "BREAKING"})
            assert (await said(far, heard)).text == "hi"
            assert len(heard.all) == 1

    @pytest.mark.parametrize(
        ("kind", "name"), [(1, "file"), (2, "voice"), (5, "sticker"), (6, "image"), (15, "video"), (8, "other")]
    )
    async def test_kinds_come_without_their_markup(self, far: WechatyFarEnd, kind: int, name: str) -> None:
        async with running(far.adapter()) as heard:
            await far.message(type=kind, text="<msg cdnurl='...'/>")
            got = await heard.next(Message)
            assert (got.kind, got.text) == (name, "")

    async def test_a_person_without_a_name_is_heard(self, far: WechatyFarEnd) -> None:
        far.call("set", changes={"nameless": True})
        async with running(far.adapter()) as heard:
            assert (await said(far, heard)).person == Person("wxid_alice")
            group = await said(far, heard, "now?", chat="club", person="bob", mention=True)
            assert (group.person, group.addressed, group.text) == (Person("wxid_bob"), True, "now?")

    async def test_a_message_that_the_gateway_lost_holds_nobody_up(
        self, far: WechatyFarEnd, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with running(far.adapter()) as heard:
            await far.ready()
            far.call("again", id="m-that-never-was")
            assert (await said(far, heard)).text == "hi"
            assert "does not tell more" in caplog.text


@node
@needs_all
class TestGroups:
    async def test_a_mention_by_the_name_in_the_room(self, far: WechatyFarEnd) -> None:
        far.call("set", changes={"aliases": {BOT: "Owl the bot", "wxid_bob": "Bobby"}})
        async with running(far.adapter()) as heard:
            await far.message("bob", "club", text="@Owl the bot\u2005 what now?", mentions=[BOT])
            got = await heard.next(Message)
            assert (got.text, got.addressed, got.person.name) == ("what now?", True, "Bobby")

    async def test_a_reply_names_whom_it_is_for(self, far: WechatyFarEnd) -> None:
        async with running(adapter := far.adapter()) as heard:
            got = await said(far, heard, "what now?", chat="club", person="bob", mention=True)
            await adapter.send(Reply("r1", got.chat, "字" * 3000, "e1", to=got.person))
            first, second = far.call("sent")
            assert first["text"].startswith("@Bob\u2005字")
            assert (first["mentions"], second["mentions"]) == (["wxid_bob"], [])
            assert first["text"].removeprefix("@Bob\u2005") + second["text"] == "字" * 3000

    async def test_an_offer_in_a_group_is_one_message(self, far: WechatyFarEnd) -> None:
        async with running(adapter := far.adapter(human_like=True, typing_speed=1000)) as heard:
            got = await said(far, heard, "what now?", chat="club", person="bob", mention=True)
            pair = ("first, and more, and more.", "second, and more. and more.")
            await adapter.send(Reply("o1", got.chat, "which?", "e1", candidates=pair, to=got.person))
            (shown,) = far.shown("club")
            assert shown.text == "@Bob\u2005which?\n\n1. first, and more, and more.\n\n2. second, and more. and more."

    async def test_a_recall_in_a_group(self, far: WechatyFarEnd) -> None:
        async with running(far.adapter()) as heard:
            got = await said(far, heard, chat="club", person="bob")
            await far.recall(got.id, chat="club", person="bob")
            recalled = await heard.next(Recalled)
            assert (recalled.message, recalled.chat, recalled.person.id) == (got.id, got.chat, "wxid_bob")


@node
@needs_all
class TestSending:
    async def test_like_a_person_clause_by_clause(self, far: WechatyFarEnd) -> None:
        slept: list[float] = []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)

        adapter = WechatyAdapter(far.settings(human_like=True, typing_speed=4), far.host, first_pause=0.05, sleep=sleep)
        async with running(adapter) as heard:
            got = await said(far, heard)
            text = "今天天气不错，我们去公园走走吧。你觉得怎么样？"
            await adapter.send(Reply("r1", got.chat, text, "e1"))
            assert [one.text for one in far.shown()] == clauses(text)
            assert slept == [len(clause) / 4 for clause in clauses(text)]
            await said(far, heard, "next")
            assert not [one for one in heard.all if isinstance(one, OwnerWrote)]

    async def test_one_chat_does_not_wait_for_another(self, far: WechatyFarEnd) -> None:
        typing, go_on = asyncio.Event(), asyncio.Event()

        async def sleep(seconds: float) -> None:
            if not typing.is_set():
                typing.set()
                await go_on.wait()

        adapter = WechatyAdapter(far.settings(human_like=True), far.host, first_pause=0.05, sleep=sleep)
        async with running(adapter) as heard:
            await said(far, heard)
            slow = asyncio.create_task(adapter.send(Reply("r1", "wxid_alice", "slow")))
            await typing.wait()
            behind = asyncio.create_task(adapter.send(Reply("r2", "wxid_alice", "behind it")))
            await adapter.send(Reply("r3", "wxid_bob", "quick"))
            assert [one.text for one in far.shown("bob")] == ["quick"]
            assert far.shown() == []
            go_on.set()
            await asyncio.gather(slow, behind)
            assert [one.text for one in far.shown()] == ["slow", "behind it"]

    async def test_a_retry_sends_only_what_is_missing(self, far: WechatyFarEnd) -> None:
        async with running(adapter := far.adapter()) as heard:
            got = await said(far, heard)
            far.call("set", changes={"refusing": 2})
            reply = Reply("r1", got.chat, "a" * 2000 + "b" * 2000 + "c", "e1")
            with pytest.raises(DeliveryFailed) as failure:
                await adapter.send(reply)
            assert not failure.value.permanent
            for _ in range(2):  # the second time all is there
                await adapter.send(reply)
            assert [one.text for one in far.shown()] == ["a" * 2000, "b" * 2000, "c"]

    async def test_words_that_did_not_go_out_may_be_the_owners(self, far: WechatyFarEnd) -> None:
        async with running(adapter := far.adapter()) as heard:
            got = await said(far, heard)
            far.call("set", changes={"refusing": 1})
            with pytest.raises(DeliveryFailed):
                await adapter.send(Reply("r1", got.chat, "sorry"))
            await far.owner_writes("sorry")
            assert (await heard.next(OwnerWrote)).text == "sorry"

    async def test_words_of_which_nobody_knows_stay_ours(self, far: WechatyFarEnd) -> None:
        adapter = WechatyAdapter(far.settings(), far.host, first_pause=0.05, patience=1.5)
        async with running(adapter) as heard:
            got = await said(far, heard)
            far.call("set", changes={"slow": 3000})  # it goes out, but the gateway is late to say so
            with pytest.raises(DeliveryFailed, match="TimeoutError"):
                await adapter.send(Reply("r1", got.chat, "hello"))
            assert [one.text for one in far.shown()] == ["hello"]
            await said(far, heard, "next")
            assert not [one for one in heard.all if isinstance(one, OwnerWrote)]

    async def test_what_the_core_could_not_take_does_not_stop_the_rest(
        self, far: WechatyFarEnd, caplog: pytest.LogCaptureFixture
    ) -> None:
        taken: list[Any] = []

        async def receive(inbound: Any) -> Any:
            taken.append(inbound)
            if len(taken) == 1:
                raise ValueError("a fault of the core")

        task = asyncio.create_task(far.adapter().run(receive))
        await far.say("one")
        await far.say("two")
        await until(lambda: len(taken) == 2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert "could not be handled" in caplog.text
        assert [report.state for report in far.host.reports] == ["starting", "online"]


@node
@needs_all
class TestDoctor:
    async def test_all_is_well(self, far: WechatyFarEnd) -> None:
        found = await WechatyAdapter.diagnose(far.settings(), far.host)
        assert [finding.right for finding in found] == [True, True]

    async def test_it_leaves_a_running_bot_alone(self, far: WechatyFarEnd) -> None:
        async with running(far.adapter()) as heard:
            await said(far, heard)
            await WechatyAdapter.diagnose(far.settings(), far.host)
            await said(far, heard, "still here")
            assert [report.state for report in far.host.reports] == ["starting", "online"]

    async def test_each_fault_says_what_to_do(self, far: WechatyFarEnd, monkeypatch: pytest.MonkeyPatch) -> None:
        async def last() -> tuple[bool, str]:
            finding = (await WechatyAdapter.diagnose(far.settings(), far.host))[-1]
            return finding.right, finding.to_do

        monkeypatch.setenv(TOKEN_ENV, "wrong")
        right, to_do = await last()
        assert (right, "refused the token" in to_do, TOKEN_ENV in to_do) == (False, True, True)
        far.call("cut")
        right, to_do = await last()
        assert (right, "nothing listens" in to_do) == (False, True)
        far.call("mend")
        monkeypatch.delenv(TOKEN_ENV)
        right, to_do = await last()
        assert (right, f"set the environment variable {TOKEN_ENV}" in to_do) == (False, True)


LANGUAGES = ("en", "zh")


def snippet(language: str, kind: str) -> str:
    """The guide's block of `kind`."""
    guide = (ROOT / "docs" / f"wechaty.{language}.md").read_text("utf-8")
    found = re.search(rf"^   ```{kind}\n(.*?)^   ```$", guide, re.DOTALL | re.MULTILINE)
    assert found is not None
    return textwrap.dedent(found[1])


class TestGuide:
    @pytest.mark.parametrize("language", LANGUAGES)
    def test_its_settings_are_right(self, language: str) -> None:
        (bot,) = tomllib.loads(snippet(language, "toml"))["bots"]
        settings = WechatySettings(**bot["platforms"]["wechaty"])
        assert bot["adapters"] == ["wechaty"]
        # All but the one that nobody should copy are shown, with their defaults.
        assert set(WechatySettings.model_fields) - set(bot["platforms"]["wechaty"]) == {"insecure_remote"}
        assert settings == WechatySettings(endpoint=settings.endpoint, accept_ban_risk=True)

    def test_its_gateway_is_one_in_both_languages(self) -> None:
        assert snippet("en", "js") == snippet("zh", "js")
        assert snippet("en", "sh") == snippet("zh", "sh")

    @node
    @needs_all
    async def test_its_gateway_runs(self, far: WechatyFarEnd, monkeypatch: pytest.MonkeyPatch) -> None:
        far.call("cut")  # so that its port is free
        code = (
            snippet("en", "js").replace("wechat4u", "mock").replace("Wechat4u", "Mock").replace("8788", str(far.port))
        )
        monkeypatch.setenv("WECHATY_TOKEN", "the-token-of-the-guide")
        run = ("node", "--input-type=module", "-e", code)
        process = await asyncio.create_subprocess_exec(*run, cwd=FOLDER, stdout=subprocess.DEVNULL)
        try:
            settings = far.settings(token_env="WECHATY_TOKEN")
            async with asyncio.timeout(4 * PATIENCE):  # Node starts slowly on a busy machine
                while not (await WechatyAdapter.diagnose(settings, far.host))[-1].right:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)  # the process tells nobody when it listens
        finally:
            process.kill()
            await process.wait()
            far.call("mend")


class TestSettings:
    def test_the_registry_knows_it(self) -> None:
        assert load("wechaty") is WechatyAdapter
        assert settings_class("wechaty") is WechatySettings
        assert SETTINGS["wechaty"].startswith("adapters.wechat_wechaty.settings:")

    def test_the_risk_must_be_taken(self) -> None:
        with pytest.raises(ValidationError, match=r"WeChat forbids bots.*accept_ban_risk = true"):
            WechatySettings(endpoint="127.0.0.1:8788")

    @pytest.mark.parametrize("endpoint", ["127.0.0.1:8788", "localhost:8788", "[::1]:8788", "127.0.0.9:1"])
    def test_this_machine_is_fine(self, endpoint: str) -> None:
        settings = WechatySettings(endpoint=endpoint, accept_ban_risk=True)
        assert settings.host in ("127.0.0.1", "localhost", "::1", "127.0.0.9")
        assert settings.port in (8788, 1)

    @pytest.mark.parametrize("endpoint", ["gateway:8788", "192.168.1.4:8788", "example.org:8788", "0.0.0.0:8788"])
    def test_another_machine_must_be_meant(self, endpoint: str) -> None:
        with pytest.raises(ValidationError, match="not encrypted"):
            WechatySettings(endpoint=endpoint, accept_ban_risk=True)
        assert WechatySettings(endpoint=endpoint, accept_ban_risk=True, insecure_remote=True).port == 8788

    @pytest.mark.parametrize(
        "endpoint",
        ["", "127.0.0.1", "http://127.0.0.1:80", "127.0.0.1:80/x", "a@127.0.0.1:80", "127.0.0.1:0", ":80", "x:y"],
    )
    def test_an_endpoint_is_a_host_and_a_port(self, endpoint: str) -> None:
        with pytest.raises(ValidationError, match="host:port"):
            WechatySettings(endpoint=endpoint, accept_ban_risk=True)

    @pytest.mark.parametrize(
        ("token", "fault"), [("", "set the environment variable"), ("a b", "letters, digits"), ("a-B_1", "")]
    )
    def test_a_token_fits_into_a_header(self, token: str, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(TOKEN_ENV, token)
        settings = WechatySettings(endpoint="127.0.0.1:1", accept_ban_risk=True, token_env=TOKEN_ENV)
        assert fault in settings.token_fault
        assert bool(settings.token_fault) == bool(fault)

    def test_the_token_is_masked(self) -> None:
        settings = WechatySettings(endpoint="127.0.0.1:1", accept_ban_risk=True, token_env=TOKEN_ENV)
        assert settings.token.get_secret_value() == TOKEN
        assert TOKEN not in repr(settings) + repr(settings.token)


def isolated(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh Python, in `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WECHATY_LOG": "info"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )


class TestCompat:
    def test_naming_the_adapter_imports_nothing_of_wechaty(self, tmp_path: Path) -> None:
        done = isolated(
            "import sys; from adapters.registry import load; load('wechaty');"
            "print([name for name in sys.modules if name.startswith(('wechaty', 'grpclib', 'pyee'))])",
            tmp_path,
        )
        assert done.stdout == "[]\n", done.stderr

    @pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
    def test_the_client_loads_quietly_and_writes_nothing(self, tmp_path: Path) -> None:
        done = isolated(
            "from adapters.wechat_wechaty.compat import load; print(load().PuppetService.__name__)", tmp_path
        )
        assert (done.stdout, done.stderr) == ("PuppetService\n", "")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
    def test_with_the_patches_the_whole_of_wechaty_imports(self, tmp_path: Path) -> None:
        imports = "import warnings; warnings.simplefilter('ignore'); {}import wechaty; print(wechaty.__version__)"
        patched = isolated(imports.format("from adapters.wechat_wechaty.compat import patch; patch(); "), tmp_path)
        assert patched.stdout.startswith("0.10."), patched.stderr
        assert isolated(imports.format(""), tmp_path).returncode != 0, "the patches are not needed any more"

    @pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
    def test_hosts_are_read_as_urllib3_did(self) -> None:
        assert compat._get_host("https://example.org:81/x") == ("https", "example.org", 81)
        assert compat._get_host("example.org") == ("http", "example.org", None)

    async def test_a_missing_library_says_how_to_get_it(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setitem(sys.modules, "pyee", None)
        settings = WechatySettings(endpoint="127.0.0.1:1", accept_ban_risk=True, token_env=TOKEN_ENV)
        with pytest.raises(AdapterError, match=r"pip install \"nightschool\[wechaty\]\""):
            await WechatyAdapter(settings, TestHost("owl", tmp_path)).run(lambda inbound: pytest.fail("nothing"))
        (finding,) = await WechatyAdapter.diagnose(settings, TestHost("owl", tmp_path))
        assert (finding.right, "pip install" in finding.to_do) == (False, True)


ACCOUNT = Account(BOT, ("Owl the bot", "夜校"))
QUOTE = "「{}：hello」\n- - - - - - - - - - - - - - -\n{}"


class TestWords:
    @pytest.mark.parametrize(
        ("text", "mentions", "words", "addressed"),
        [
            ("@夜校\u2005hi", [BOT], "hi", True),
            ("hi @夜校", [BOT], "hi", True),
            ("@夜校 hi @夜校\u2005", [BOT], "hi", True),
            ("@夜校生 hi", [], "@夜校生 hi", False),  # somebody else's longer name
            ("@夜校\u2005hi", [], "hi", True),  # a gateway that lists no mentions
            ("@an old name\u2005hi", [BOT], "hi", True),
            ("@Bob\u2005@夜校\u2005who?", ["wxid_bob", BOT], "@Bob\u2005who?", True),
            ("@Bob\u2005hi", ["wxid_bob"], "@Bob\u2005hi", False),
            ("@所有人\u2005hi", [BOT, "wxid_bob"], "@所有人\u2005hi", False),
            ("@所有人 hi", [BOT], "@所有人 hi", False),
            ("@All\u2005@夜校\u2005hi", [BOT, "wxid_bob"], "@All\u2005hi", True),
            (QUOTE.format("夜校", "不错"), [], "不错", True),
            (QUOTE.format("Bob", "不错"), [], QUOTE.format("Bob", "不错"), False),
            (QUOTE.format("Bob", "@夜校\u2005well?"), [BOT], QUOTE.format("Bob", "well?"), True),
            ("", [BOT], "", True),
        ],
    )
    def test_who_is_meant_in_a_group(self, text: str, mentions: list[str], words: str, addressed: bool) -> None:
        received = Received("m1", 7, "wxid_bob", "", "2001@chatroom", text, tuple(mentions))
        got = to_inbound(received, ACCOUNT, Person("wxid_bob", "Bob"))
        assert isinstance(got, Message)
        assert (got.text, got.addressed, got.group) == (words, addressed, True)

    @pytest.mark.parametrize("talker", ["weixin", "fmessage", ""])
    def test_nobody_says_nothing(self, talker: str) -> None:
        assert to_inbound(Received("m1", 7, talker, BOT, "", "hi"), ACCOUNT, Person(talker)) is None

    @pytest.mark.parametrize(
        ("text", "gone"),
        [
            (" 7001 ", "7001"),
            (
                '<sysmsg type="revokemsg"><revokemsg><msgid>12</msgid><newmsgid>7001</newmsgid></revokemsg></sysmsg>',
                "7001",
            ),
            ("<newmsgid><![CDATA[7001]]></newmsgid>", "7001"),
            ("<sysmsg/>", None),
            ("", None),
        ],
    )
    def test_a_recall_names_its_message_in_either_way(self, text: str, gone: str | None) -> None:
        got = to_inbound(Received("m1", 13, "wxid_bob", BOT, "", text), ACCOUNT, Person("wxid_bob"))
        assert (got.message if isinstance(got, Recalled) else got) == gone

    def test_a_private_message_is_left_as_it_is(self) -> None:
        text = "@夜校\u2005hi"
        got = to_inbound(Received("m1", 7, "wxid_bob", BOT, "", text), ACCOUNT, Person("wxid_bob"))
        assert isinstance(got, Message)
        assert (got.text, got.chat, got.group, got.addressed) == (text, "wxid_bob", False, True)

    def test_a_private_reply_names_nobody(self) -> None:
        assert parts_of(Reply("r1", "wxid_bob", "hi", to=Person("wxid_bob", "Bob")), False) == ["hi"]
        assert parts_of(Reply("r1", "2001@chatroom", "hi", to=Person("wxid_bob")), False) == ["hi"]


class TestEchoes:
    def test_each_of_our_words_comes_back_once(self) -> None:
        echoes = Echoes(lambda: 0.0)
        echoes.expect("a", "ok &amp; well")
        echoes.expect("a", "ok & well")
        assert echoes.is_ours("m1", "a", "ok &  well\n")
        assert echoes.is_ours("m1", "a", "ok & well")  # the same message, told twice
        assert not echoes.is_ours("m2", "b", "ok & well")
        assert echoes.is_ours("m3", "a", "ok & well")
        assert not echoes.is_ours("m4", "a", "ok & well")

    @pytest.mark.parametrize("early", [True, False])
    def test_an_id_stands_for_its_words(self, early: bool) -> None:
        echoes = Echoes(lambda: 0.0)
        echoes.expect("a", "ok")
        echoes.expect("a", "ok")
        if early:  # it came back before the gateway said that it went out
            assert echoes.is_ours("m1", "a", "ok")
        echoes.sent_as("m1", "a", "ok")
        assert echoes.is_ours("m1", "a", "changed on its way")
        assert echoes.is_ours("m2", "a", "ok")
        assert not echoes.is_ours("m3", "a", "ok")

    def test_what_never_came_back_is_forgotten(self) -> None:
        now = 0.0
        echoes = Echoes(lambda: now)
        echoes.expect("a", "ok")
        now = MEMORY + 1
        assert not echoes.is_ours("m1", "a", "ok")
