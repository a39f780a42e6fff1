"""Weixin, official: the adapter over real HTTP against a fake of Weixin's server."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from adapters import registry
from adapters.base import AdapterError, AsksForCode, Busy, DeliveryFailed, Health, Inbound, Message, Reply
from adapters.testing import QUIET, AdapterContract, NoReplies, TestHost, running, until
from adapters.weixin import translate
from adapters.weixin.adapter import WeixinAdapter
from adapters.weixin.hosts import trusted
from adapters.weixin.pauses import Pauses
from adapters.weixin.settings import OFFICIAL, WeixinSettings
from adapters.weixin.state import Contact, Login, State
from tests.adapters.weixin_far import DAY, QUICK, REPLIES, FakeIlink, WeixinFar, host_in, person_id, words

ALICE = person_id("alice")
STALE = {"errcode": -14, "errmsg": "session timeout"}


class TestContract(AdapterContract):
    @pytest.fixture
    async def far(self, tmp_path: Path) -> AsyncIterator[WeixinFar]:
        async with WeixinFar(tmp_path) as far:
            yield far


@pytest.fixture
async def far(tmp_path: Path) -> AsyncIterator[WeixinFar]:
    """One bot whose owner scans every code at once."""
    async with WeixinFar(tmp_path) as far:
        yield far


@pytest.fixture
async def fake() -> AsyncIterator[FakeIlink]:
    """The server alone: nobody scans unless the test does."""
    fake = FakeIlink()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
def host(tmp_path: Path) -> TestHost:
    return host_in(tmp_path / "weixin")


def adapter_for(fake: FakeIlink, host: TestHost, pauses: Pauses = QUICK) -> WeixinAdapter:
    """A new adapter, as after a restart where `host` has been used before."""
    return WeixinAdapter(WeixinSettings(base_url=fake.url), host, pauses=pauses, clock=fake.now)


async def reported(host: TestHost, right: Callable[[Health], bool], after: int = 0) -> Health:
    """The first report from the `after`th on that is `right`; waits for it."""
    await until(lambda: any(right(one) for one in host.reports[after:]))
    return next(one for one in host.reports[after:] if right(one))


def online(health: Health) -> bool:
    return health.state == "online"


def shows_code(health: Health) -> bool:
    return health.state == "login" and bool(health.qr)


def texts(heard: list[Inbound]) -> list[str]:
    return [one.text for one in heard if isinstance(one, Message)]


def reply(name: str, text: str = "hello", chat: str = ALICE) -> Reply:
    return Reply(name, chat, text, "exchange")


class TestLogin:
    async def test_a_scan_logs_in_and_makes_the_scanner_the_owner(self, fake: FakeIlink, host: TestHost) -> None:
        async with running(adapter_for(fake, host)) as heard:
            shown = await reported(host, shows_code)
            assert shown.qr.endswith(fake.codes[-1].value)
            fake.scan("olga", status="scaned")
            scanned = await reported(host, lambda one: "scanned" in one.detail)
            assert scanned.qr == ""
            fake.set_status("confirmed")
            await reported(host, online)
            assert [owner.id for owner in host.owners] == [person_id("olga")]
            fake.say(fake.bot_of("olga"), "olga", words("hi"))
            await heard.next(Message)
        assert fake.named("getupdates")[0].headers["host"].startswith("localhost")  # the `baseurl` it was told
        assert [one.state for one in host.reports] == ["starting", "login", "login", "online"]

    async def test_a_restart_needs_no_login_and_can_answer_at_once(self, far: WeixinFar) -> None:
        async with running(far.adapter()) as heard:
            await far.say("before")
            await heard.next(Message)
            await until(lambda: (far.host.folder / "place.json").exists())
        async with running(adapter := far.adapter()) as heard:
            await TestContract.send(adapter, reply("r1"))
            await far.say("after")
            await heard.next(Message)
            assert texts(heard.all) == ["after"]
        assert len(far.fake.codes) == 1
        assert [one.text for one in far.shown()] == ["hello"]

    async def test_digits_are_asked_for_until_they_are_right(self, fake: FakeIlink, host: TestHost) -> None:
        adapter = adapter_for(fake, host)
        assert isinstance(adapter, AsksForCode)
        async with running(adapter):
            await reported(host, shows_code)
            adapter.enter_code("999999")  # nobody asked
            fake.scan("olga", digits="123456")
            first = await reported(host, lambda one: one.wants_code)
            assert "wrong" not in first.detail
            adapter.enter_code(" ")
            adapter.enter_code("000000")
            await reported(host, lambda one: one.wants_code and "wrong" in one.detail)
            adapter.enter_code(" 123456 ")
            await reported(host, lambda one: "scanned" in one.detail)
            fake.set_status("confirmed")
            await reported(host, online)
        tried = [call.query.get("verify_code") for call in fake.named("get_qrcode_status")]
        assert "999999" not in tried
        assert next(one for one in tried if one) == "000000"
        assert "123456" in tried

    async def test_too_many_wrong_digits_bring_a_new_code(self, fake: FakeIlink, host: TestHost) -> None:
        async with running(adapter := adapter_for(fake, host)):
            await reported(host, shows_code)
            fake.scan("olga", digits="123456")
            for times in (1, 2, 3):
                await until(lambda times=times: sum(one.wants_code for one in host.reports) == times)  # type: ignore[misc]
                adapter.enter_code("1")
            again = await reported(host, lambda one: shows_code(one) and "too many wrong digits" in one.detail)
            assert again.qr.endswith(fake.codes[1].value)

    async def test_the_login_goes_on_where_it_is_sent(self, fake: FakeIlink, host: TestHost) -> None:
        async with running(adapter_for(fake, host)):
            await reported(host, shows_code)
            fake.scan("olga", status="scaned_but_redirect")
            await reported(host, online)
        hosts = [call.headers["host"] for call in fake.named("get_qrcode_status")]
        assert hosts[0].startswith("127.0.0.1")
        assert hosts[-1] == f"localhost:{fake.port}"

    async def test_the_login_goes_nowhere_foreign(
        self, fake: FakeIlink, host: TestHost, caplog: pytest.LogCaptureFixture
    ) -> None:
        fake.redirect_host = "weixin.qq.com.evil.example"
        fake.names_base = "https://192.0.2.1"
        async with running(adapter_for(fake, host)):
            await reported(host, shows_code)
            fake.scan("olga", status="scaned_but_redirect")
            await until(lambda: "not its own; staying" in caplog.text)
            fake.set_status("confirmed")
            await reported(host, online)
        assert {call.headers["host"] for call in fake.calls} == {f"127.0.0.1:{fake.port}"}

    async def test_codes_that_nobody_scans_end_in_a_rest(self, fake: FakeIlink, host: TestHost) -> None:
        async with running(adapter_for(fake, host)):
            for number in range(1, 4):
                await until(lambda number=number: len(fake.codes) == number)  # type: ignore[misc]
                fake.set_status("expired")
            await reported(host, lambda one: one.state == "offline" and "were not used" in one.detail)
            await until(lambda: len(fake.codes) == 4)
            assert sum(shows_code(one) for one in host.reports) >= 3
            fake.scan("olga")
            await reported(host, online)

    async def test_a_code_that_nobody_ends_is_replaced(self, fake: FakeIlink, host: TestHost) -> None:
        fake.hold = 0.02
        async with running(adapter_for(fake, host, Pauses(first=0.02, poll=0.01, code_life=0.1))):
            await until(lambda: len(fake.codes) >= 2)

    async def test_a_server_that_is_away_at_first(self, fake: FakeIlink, host: TestHost) -> None:
        await fake.stop()
        async with running(adapter_for(fake, host)):
            await reported(host, lambda one: one.state == "offline" and "can't be reached" in one.detail)
            await fake.start()
            await reported(host, shows_code)
            await fake.stop()
            await reported(host, lambda one: shows_code(one) and "trying again" in one.detail)
            await fake.start()
            fake.scan("olga")
            await reported(host, online)

    async def test_confirmed_without_credentials_is_no_login(self, fake: FakeIlink, host: TestHost) -> None:
        fake.faults["get_qrcode_status"] = [{"status": "confirmed"}]
        async with running(adapter_for(fake, host)):
            await reported(host, lambda one: shows_code(one) and "no credentials" in one.detail)


class TestStaleLogin:
    async def test_it_is_told_with_a_new_code_and_nothing_is_called_meanwhile(self, far: WeixinFar) -> None:
        async with running(adapter := far.adapter()) as heard:
            await far.say("one")
            await heard.next(Message)
            far.fake.scanner = ""
            far.bot.token = "ended"
            far.fake.touch()
            ended = await reported(far.host, lambda one: shows_code(one) and "ended the login" in one.detail)
            assert ended.qr.endswith(far.fake.codes[-1].value)
            before = len(far.fake.named("getupdates"))
            with pytest.raises(DeliveryFailed, match="not logged in") as failure:
                await adapter.send(reply("r1"))
            assert not failure.value.permanent
            adapter.busy(ALICE, True)
            await asyncio.sleep(QUIET)
            assert len(far.fake.named("getupdates")) == before
            assert not far.fake.named("sendmessage")

    async def test_the_same_bot_goes_on_where_it_was(self, far: WeixinFar) -> None:
        async with running(adapter := far.adapter()) as heard:
            await far.say("one")
            await heard.next(Message)
            far.bot.token = "ended"
            await far.say("while away")
            await heard.next(Message, 1)
            assert texts(heard.all) == ["one", "while away"]
            await TestContract.send(adapter, reply("r1"))
        assert len(far.fake.codes) == 2
        (held,) = far.fake.codes[1].held
        assert held != far.bot.token

    async def test_another_bot_begins_at_the_beginning(self, far: WeixinFar) -> None:
        async with running(adapter := far.adapter()) as heard:
            await far.say("to the old bot")
            await heard.next(Message)
            far.fake.same_bot = False
            far.bot.token = "ended"
            far.fake.touch()
            await until(lambda: len(far.fake.bots) == 2)
            far.fake.say(far.fake.bots[1], "alice", words("to the new bot"))
            await heard.next(Message, 1)
            assert texts(heard.all) == ["to the old bot", "to the new bot"]
            await TestContract.send(adapter, reply("r1"))
            assert [one.text for one in far.fake.bots[1].shown("alice")] == ["hello"]
        cursors = [call.body["get_updates_buf"] for call in far.fake.named("getupdates")]
        assert cursors.count("") == 2
        assert State(far.host.folder).logins[0].bot == far.fake.bots[1].id
        assert State(far.host.folder).logins[1].bot == far.bot.id  # its token may be needed to bind it again

    async def test_bound_already_is_a_success(self, far: WeixinFar) -> None:
        async with running(far.adapter()) as heard:
            await far.say("one")
            await heard.next(Message)
            far.fake.faults["getupdates"].append(STALE)
            await far.say("two")
            await heard.next(Message, 1)
        assert far.fake.codes[1].held == [far.bot.token]
        assert State(far.host.folder).login == State(far.host.folder).logins[0]
        assert len(State(far.host.folder).logins) == 1

    async def test_bound_already_in_vain_is_not_believed_twice(self, far: WeixinFar) -> None:
        far.fake.faults["getupdates"] = [STALE, STALE]
        async with running(far.adapter()) as heard:
            await far.say("hi")
            await heard.next(Message)
        assert [len(code.held) for code in far.fake.codes] == [0, 1, 0]


class TestReceiving:
    async def test_what_was_not_taken_in_comes_again_after_a_crash(self, far: WeixinFar) -> None:
        class Crashes:
            def __init__(self) -> None:
                self.heard: list[str] = []

            async def __call__(self, inbound: Inbound) -> NoReplies:
                assert isinstance(inbound, Message)
                if inbound.text == "two":
                    raise MemoryError
                self.heard.append(inbound.text)
                return NoReplies()

        for text in ("one", "two", "three"):
            await far.say(text)
        crashes = Crashes()
        with pytest.raises(MemoryError):
            await far.adapter().run(crashes)
        assert crashes.heard == ["one"]
        assert State(far.host.folder).contacts[ALICE].context_token  # "one" may be answered after the restart
        async with running(far.adapter()) as heard:
            await until(lambda: len(heard.all) == 3)
            assert texts(heard.all) == ["one", "two", "three"]

    async def test_ids_of_64_bits_stay_exact(self, far: WeixinFar) -> None:
        async with running(adapter := far.adapter()) as heard:
            for after, as_text in enumerate((False, True)):
                far.fake.ids_as_text = as_text
                message = await far.say("hi")
                assert int(message) > 2**63
                assert (await heard.next(Message, after * 2)).id == message
                sent = await TestContract.send(adapter, reply(f"r{after}"))
                assert sent.message_ids == (far.shown()[-1].id,)
                await far.say("不错", quote=far.shown()[-1].id)
                assert (await heard.next(Message, after * 2 + 1)).quote == far.shown()[-1].id

    async def test_the_servers_errors_are_answered_with_its_pauses(
        self, far: WeixinFar, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slept: list[float] = []
        sleep = asyncio.sleep

        async def note(seconds: float) -> None:
            slept.append(seconds)
            await sleep(0)

        far.fake.faults["getupdates"] = [{"ret": -1, "errmsg": "system error"} for _ in range(4)]
        monkeypatch.setattr(asyncio, "sleep", note)
        async with running(adapter_for(far.fake, far.host, Pauses())) as heard:
            await far.say("hi")
            await heard.next(Message)
        assert [pause for pause in slept if pause in (2.0, 30.0)] == [2.0, 2.0, 30.0, 2.0]
        failure = await reported(far.host, lambda one: one.state == "offline")
        assert "system error" in failure.detail
        assert "2 s" in failure.detail

    async def test_nonsense_is_waited_out(self, far: WeixinFar) -> None:
        far.fake.faults["getupdates"] = [500, b"<html>", b"[]", {"msgs": [7, {}, {"from_user_id": "x"}]}]
        async with running(far.adapter()) as heard:
            await far.say("hi")
            await heard.next(Message)
            assert texts(heard.all) == ["hi"]
            failures = [one.detail for one in far.host.reports if one.state == "offline"]
            assert len(failures) == 3
            assert "HTTP 500" in failures[0]
        # It was announced each time, but "online" is not said again before something was delivered.
        assert [one.state for one in far.host.reports][2:] == ["online", "offline", "offline", "offline", "online"]

    async def test_no_news_is_no_error(self, far: WeixinFar) -> None:
        far.fake.faults["getupdates"] = [524, 504]
        async with running(far.adapter()) as heard:
            await far.say("hi")
            await heard.next(Message)
        assert not [one for one in far.host.reports if one.state == "offline"]

    async def test_the_server_says_how_long_to_wait(self, far: WeixinFar) -> None:
        far.fake.poll_hint = 1000
        async with running(far.adapter()) as heard:
            await far.say("hi")
            await heard.next(Message)
            polls = len(far.fake.named("getupdates"))
            loop = asyncio.get_running_loop()
            began = loop.time()
            await until(lambda: len(far.fake.named("getupdates")) > polls + 1)  # the fake would hold each for 15 s
            assert 0.5 < loop.time() - began < 10
        assert not [one for one in far.host.reports if one.state == "offline"]

    async def test_each_call_carries_the_headers(self, far: WeixinFar) -> None:
        async with running(adapter := far.adapter()) as heard:
            await far.say("hi")
            await heard.next(Message)
            await TestContract.send(adapter, reply("r1"))
        (status,) = far.fake.named("get_qrcode_status")
        assert "authorization" not in status.headers
        posts = [call for call in far.fake.calls if call.name != "get_qrcode_status"]
        uins = [call.headers["x-wechat-uin"] for call in posts]
        assert len(set(uins)) == len(uins) > 3
        assert all(0 <= int(base64.b64decode(uin)) < 2**32 for uin in uins)
        assert {call.headers["ilink-app-clientversion"] for call in posts} == {"132105"}
        tokens = {call.headers.get("authorization") for call in posts if call.name != "get_bot_qrcode"}
        assert tokens == {f"Bearer {far.bot.token}"}
        assert posts[-1].body["base_info"]["bot_agent"].startswith("nightschool/")

    async def test_it_says_that_it_comes_and_goes(self, far: WeixinFar) -> None:
        async with running(far.adapter()):
            await reported(far.host, online)
            assert far.bot.notified == ["start"]
        assert far.bot.notified == ["start", "stop"]

    async def test_it_is_online_again_as_soon_as_the_network_is(self, far: WeixinFar) -> None:
        far.fake.hold = 60
        async with running(far.adapter()) as heard:
            await far.say("hi")
            await heard.next(Message)
            await until(lambda: len(far.fake.named("getupdates")) == 2)
            await far.cut()
            lost = await reported(far.host, lambda one: one.state == "offline")
            assert "can't be reached" in lost.detail
            await until(lambda: sum(one.state == "offline" for one in far.host.reports) == 3)
            count = len(far.host.reports)
            await far.mend()
            await reported(far.host, online, count - 1)  # no message comes, and the poll is held

    async def test_two_bots_in_one_process_hear_their_own(self, fake: FakeIlink, tmp_path: Path) -> None:
        hosts = [host_in(tmp_path / name, name) for name in ("first", "second")]
        adapters = [adapter_for(fake, one) for one in hosts]
        async with running(adapters[0]) as first:
            await reported(hosts[0], shows_code)
            fake.scan("olga")
            await reported(hosts[0], online)
            async with running(adapters[1]) as second:
                await reported(hosts[1], shows_code)
                fake.scan("otto")
                await reported(hosts[1], online)
                for person in ("olga", "otto"):
                    fake.say(fake.bot_of(person), "alice", words(f"to {person}'s"))
                await first.next(Message)
                await second.next(Message)
                await adapters[0].send(reply("r1", "from the first"))
                await adapters[1].send(reply("r1", "from the second"))
                assert (texts(first.all), texts(second.all)) == (["to olga's"], ["to otto's"])
        assert [one.text for one in fake.bot_of("olga").shown("alice")] == ["from the first"]
        assert [one.text for one in fake.bot_of("otto").shown("alice")] == ["from the second"]
        assert [host.owners[0].id for host in hosts] == [person_id("olga"), person_id("otto")]


class TestSending:
    async def test_a_retry_is_shown_once(self, far: WeixinFar) -> None:
        far.fake.lost = ["sendmessage"]
        async with running(adapter := far.adapter()) as heard:
            await far.say("hi")
            await heard.next(Message)
            with pytest.raises(DeliveryFailed, match="HTTP 500") as failure:
                await adapter.send(reply("r1"))
            assert not failure.value.permanent
            assert len(far.shown()) == 1
        async with running(adapter := far.adapter()):  # and a restart forgets nothing of it
            sent = await TestContract.send(adapter, reply("r1"))
            assert sent.message_ids == (far.shown()[0].id,)
            await adapter.send(reply("r2"))
        assert len(far.shown()) == 2

    async def test_parts_that_went_out_go_out_once(self, far: WeixinFar) -> None:
        long = reply("r1", "".join(f"{number:05d} " for number in range(1800)))
        async with running(adapter := far.adapter()) as heard:
            await far.say("hi")
            await heard.next(Message)
            far.fake.faults["sendmessage"] = [503]
            with pytest.raises(DeliveryFailed):
                await adapter.send(long)
            far.fake.lost = ["sendmessage"]
            with pytest.raises(DeliveryFailed):
                await adapter.send(long)
            calls = len(far.fake.named("sendmessage"))
            sent = await adapter.send(long)
            assert len(far.fake.named("sendmessage")) == calls + 3  # the first one's answer was lost
            assert sent.message_ids == tuple(one.id for one in far.shown())
            assert "".join(one.text for one in far.shown()) == long.text

            far.fake.say(far.bot, "alice", words("more"))
            await heard.next(Message, 1)
            again = Reply("r2", long.chat, long.text)
            far.fake.faults["sendmessage"] = []
            first = len(far.fake.named("sendmessage"))
            original = far.bot.left["alice"]
            far.bot.left["alice"] = 1
            with pytest.raises(DeliveryFailed):
                await adapter.send(again)
            far.fake.skew = 61
            far.bot.left["alice"] = original
            await adapter.send(again)
            ids = [call.body["msg"]["client_id"] for call in far.fake.named("sendmessage")[first:]]
            assert len(ids) == 4  # part 1, part 2 refused, part 2, part 3
            assert ids[1] == ids[2]
            assert len(set(ids)) == 3

    async def test_a_throttle_is_waited_out_and_a_message_ends_it(self, far: WeixinFar) -> None:
        async with running(adapter := far.adapter()) as heard:
            await far.say("hi")
            await heard.next(Message)
            for number in range(REPLIES):
                await TestContract.send(adapter, reply(f"r{number}"))
            waits, calls = [], []
            for later in (0, 59, 2, 0, 121):
                far.fake.skew += later
                with pytest.raises(DeliveryFailed) as failure:
                    await adapter.send(reply("late"))
                assert not failure.value.permanent
                waits.append(failure.value.retry_after)
                calls.append(len(far.fake.named("sendmessage")) - REPLIES)
            assert waits == [60.0, pytest.approx(1, abs=0.9), 120.0, pytest.approx(120, abs=1), 240.0]
            assert calls == [1, 1, 2, 2, 3]  # nothing was tried before its time
            await far.say("go on")
            await heard.next(Message, 1)
            await adapter.send(reply("late"))
            assert len(far.shown()) == REPLIES + 1

    async def test_who_never_wrote_can_not_be_written_to(self, far: WeixinFar) -> None:
        async with running(adapter := far.adapter()):
            await reported(far.host, online)
            with pytest.raises(DeliveryFailed, match="only answer") as failure:
                await adapter.send(reply("r1"))
        assert not failure.value.permanent
        assert failure.value.retry_after
        assert not far.fake.named("sendmessage")

    async def test_a_day_later_it_waits_for_the_person(self, far: WeixinFar) -> None:
        async with running(adapter := far.adapter()) as heard:
            await far.say("hi")
            await heard.next(Message)
            far.fake.skew = DAY + 60
            with pytest.raises(DeliveryFailed, match="24 hours") as failure:
                await adapter.send(reply("r1"))
            assert not failure.value.permanent
            assert not far.fake.named("sendmessage")
            await far.say("back")
            await heard.next(Message, 1)
            await adapter.send(reply("r1"))

    async def test_the_window_counts_from_when_the_person_wrote(self, far: WeixinFar) -> None:
        far.fake.skew = -DAY - 60
        await far.say("long ago")
        far.fake.skew = 0
        async with running(adapter := far.adapter()) as heard:
            await heard.next(Message)
            with pytest.raises(DeliveryFailed, match="24 hours"):
                await adapter.send(reply("r1"))

    async def test_the_newest_context_token_is_echoed(self, far: WeixinFar) -> None:
        async with running(adapter := far.adapter()) as heard:
            old = await far.say("one")
            far.fake.skew = 1
            await far.say("two")
            await far.again(old)
            await heard.next(Message, 2)
            await adapter.send(reply("r1"))
        (sent,) = far.fake.named("sendmessage")
        assert sent.body["msg"]["context_token"] == far.bot.inbox[1]["context_token"]

    async def test_any_other_refusal_can_be_tried_again(self, far: WeixinFar) -> None:
        far.fake.faults["sendmessage"] = [{"ret": -3, "errmsg": "busy"}, STALE]
        async with running(adapter := far.adapter()) as heard:
            await far.say("hi")
            await heard.next(Message)
            for why in ("busy", "ended the login"):
                with pytest.raises(DeliveryFailed, match=why) as failure:
                    await adapter.send(reply("r1"))
                assert (failure.value.permanent, failure.value.retry_after) == (False, None)
            far.fake.faults["sendmessage"] = [{"ret": 0}]
            assert (await adapter.send(reply("r2"))).message_ids == ()  # an older server names none
            assert (await adapter.send(reply("r3", ""))).message_ids == ()
            assert len(far.fake.named("sendmessage")) == 3
            await adapter.send(reply("r4", "half of a character: \ud83d"))

    async def test_before_the_login_it_says_so(self, fake: FakeIlink, host: TestHost) -> None:
        with pytest.raises(DeliveryFailed, match="not logged in"):
            await adapter_for(fake, host).send(reply("r1"))


class TestTyping:
    async def test_it_is_kept_up_and_taken_back(self, far: WeixinFar) -> None:
        async with running(adapter := far.adapter()) as heard:
            assert isinstance(adapter, Busy)
            await far.say("hi")
            await heard.next(Message)
            adapter.busy(ALICE, True)
            adapter.busy(ALICE, True)
            await until(lambda: far.bot.typing.count((ALICE, 1)) >= 2)
            adapter.busy(ALICE, False)
            adapter.busy(ALICE, True)
            await until(lambda: (ALICE, 2) in far.bot.typing and far.bot.typing[-1] == (ALICE, 1))
            assert far.bot.typing.count((ALICE, 2)) == 1
        assert far.bot.typing[-1] == (ALICE, 2)  # nobody types when the bot is gone
        assert len(far.fake.named("getconfig")) == 1

    async def test_whatever_fails_is_left_alone(self, far: WeixinFar) -> None:
        far.fake.faults["getconfig"] = [{"ret": -1}, 500, {"ret": 0}]
        async with running(adapter := far.adapter()) as heard:
            adapter.busy("nobody", True)
            await far.say("hi")
            await heard.next(Message)
            for count in (1, 2, 3):
                adapter.busy(ALICE, True)
                await until(lambda count=count: len(far.fake.named("getconfig")) == count)  # type: ignore[misc]
                await until(lambda: not adapter._typing._shown)
            far.fake.skew = 61  # it was given no ticket, and asks again later
            far.fake.faults["sendtyping"] = [{"ret": -1}]
            adapter.busy(ALICE, True)
            await until(lambda: bool(far.fake.named("sendtyping")))
            await until(lambda: not adapter._typing._shown)
            adapter.busy(ALICE, True)  # the refused ticket is not used again
            await until(lambda: bool(far.bot.typing))
        assert len(far.fake.named("getconfig")) == 5
        assert {call.body["ilink_user_id"] for call in far.fake.named("getconfig")} == {ALICE}


class TestState:
    LOGIN = Login("secret-token", "b@im.bot", OFFICIAL, "o@im.wechat")

    async def test_only_the_owner_of_the_files_can_read_them(self, far: WeixinFar) -> None:
        async with running(far.adapter()) as heard:
            await far.say("hi")
            await heard.next(Message)
        files = sorted(far.host.folder.iterdir())
        assert [file.name for file in files] == ["login.json", "place.json"]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}

    def test_a_write_that_fails_leaves_the_old_file(self, host: TestHost, monkeypatch: pytest.MonkeyPatch) -> None:
        state = State(host.folder)
        state.logged_in(self.LOGIN)
        state.wrote("p", Contact("token-1", 1.0))
        state.save("cursor-1")

        def no_space(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", no_space)
        with pytest.raises(OSError, match="No space"):
            state.save("cursor-2")
        again = State(host.folder)
        assert (again.cursor, again.contacts["p"].context_token) == ("cursor-1", "token-1")

    def test_what_can_not_be_read_is_put_aside(self, host: TestHost) -> None:
        state = State(host.folder)
        state.logged_in(self.LOGIN)
        state.save("cursor-1")
        (host.folder / "place.json").write_text('{"version": 1, "bot": "b@im.bot", "people": 3}')
        again = State(host.folder)
        assert (again.login, again.cursor) == (self.LOGIN, "")
        (host.folder / "login.json").write_text("{")
        assert State(host.folder).login is None
        assert sorted(file.name for file in host.folder.iterdir()) == ["login.json.unreadable", "place.json.unreadable"]

    def test_files_of_a_later_version_are_not_touched(self, host: TestHost) -> None:
        (host.folder / "login.json").write_text('{"version": 2}')
        with pytest.raises(AdapterError, match="another version"):
            State(host.folder)

    def test_the_place_of_another_bot_is_not_ours(self, host: TestHost) -> None:
        state = State(host.folder)
        state.logged_in(self.LOGIN)
        state.save("cursor-1")
        place = (host.folder / "place.json").read_text()
        state.logged_in(Login("other-token", "c@im.bot", OFFICIAL, "o@im.wechat"))
        (host.folder / "place.json").write_text(place)  # as if the program had died between the two files
        assert State(host.folder).cursor == ""

    async def test_nothing_secret_is_logged_or_shown(self, far: WeixinFar, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        async with running(adapter := far.adapter()) as heard:
            await far.say("my words")
            await heard.next(Message)
            far.fake.faults["sendmessage"] = [{"ret": -2}]
            with pytest.raises(DeliveryFailed) as failure:
                await adapter.send(reply("r1", "its words"))
            state = State(far.host.folder)
        said = (
            caplog.text + repr(state.logins) + repr(state.contacts) + str(failure.value) + repr(failure.value.__cause__)
        )
        assert "/ilink/bot/get_qrcode_status" in said
        secrets = [far.fake.codes[0].value, far.bot.token, *far.bot.contexts, "my words", "its words"]
        assert [one for one in secrets if one in said] == []


class TestDoctor:
    async def looks(self, fake: FakeIlink, host: TestHost) -> list[tuple[bool, str]]:
        found = await WeixinAdapter.diagnose(WeixinSettings(base_url=fake.url), host)
        return [(one.right, one.to_do) for one in found]

    async def test_before_during_and_after_a_login(self, far: WeixinFar) -> None:
        reached, login = await self.looks(far.fake, far.host)
        assert reached == (True, "")
        assert not login[0]
        assert "scan" in login[1]
        async with running(far.adapter()) as heard:
            await far.say("hi")
            await heard.next(Message)
        assert await self.looks(far.fake, far.host) == [(True, ""), (True, "")]
        far.fake.faults["getconfig"] = [{"ret": -1, "errmsg": "odd"}]
        assert "odd" in (await self.looks(far.fake, far.host))[1][1]
        far.bot.token = "ended"
        assert "new code" in (await self.looks(far.fake, far.host))[1][1]
        await far.fake.stop()
        ((right, to_do),) = await self.looks(far.fake, far.host)
        assert not right
        assert "network" in to_do

    async def test_no_network_and_no_login(self, fake: FakeIlink, host: TestHost) -> None:
        await fake.stop()
        assert [right for right, _ in await self.looks(fake, host)] == [False, False]

    async def test_files_that_can_not_be_used(self, fake: FakeIlink, host: TestHost) -> None:
        (host.folder / "login.json").write_text('{"version": 2}')
        ((right, to_do),) = await self.looks(fake, host)
        assert not right
        assert "another version" in to_do


def voice(text: str | None) -> dict[str, Any]:
    return {"type": 3, "voice_item": {"playtime": 900, **({} if text is None else {"text": text})}}


IMAGE = {"type": 2, "image_item": {"media": {}}}


def made(*items: object, **fields: object) -> Message | None:
    return translate.message(
        {"message_id": 5, "from_user_id": "p", "message_type": 1, "item_list": list(items), **fields}, "b"
    )


class TestTranslate:
    @pytest.mark.parametrize(
        ("items", "kind", "text"),
        [
            ([words("a"), words("b")], "text", "a\nb"),
            ([words("\U0001f600 \ud83d")], "text", "\U0001f600 \ufffd"),
            ([voice("spoken")], "voice", "spoken"),
            ([voice(None)], "voice", ""),
            ([IMAGE], "image", ""),
            ([words("look"), IMAGE], "image", "look"),
            ([{"type": 4, "file_item": {"file_name": "x"}}], "file", ""),
            ([{"type": 5}], "video", ""),
            ([{"type": 99}], "other", ""),
            ([{"type": 99}, words("but words too")], "text", "but words too"),
            ([{"type": [1]}, "no item", {}], "other", ""),
            ([], "other", ""),
        ],
    )
    def test_kinds(self, items: list[dict[str, Any]], kind: str, text: str) -> None:
        message = made(*items)
        assert message is not None
        assert (message.kind, message.text) == (kind, text)

    def test_a_group_is_a_direct_chat_with_its_sender(self) -> None:
        message = made(words("hi"), group_id="g@chatroom")
        assert message is not None
        assert (message.chat, message.group, message.addressed) == ("p", False, True)

    def test_who_does_not_count(self) -> None:
        assert made(words("mine"), message_type=2) is None
        assert made(words("mine"), from_user_id="b") is None
        assert made(words("whose?"), from_user_id="") is None

    @pytest.mark.parametrize(
        ("reference", "quote"),
        [
            ({"svr_id": 2**64 - 1}, str(2**64 - 1)),
            ({"svr_id": "18446744073709551615"}, "18446744073709551615"),
            ({"svr_id": 0, "message_item": {"msg_id": 7}}, "7"),
            ({"title": "what was said"}, None),
            ("odd", None),
        ],
    )
    def test_quotes(self, reference: object, quote: str | None) -> None:
        message = made(words("first"), {**words("不错"), "ref_msg": reference})
        assert message is not None
        assert message.quote == quote

    def test_ids(self) -> None:
        def id_of(**fields: object) -> str:
            message = made({**words("x"), "msg_id": fields.pop("msg_id", 0)}, **fields)
            return "" if message is None else message.id

        assert id_of(message_id=2**64 - 1) == "18446744073709551615"
        assert id_of(message_id="0", msg_id=9) == "9"
        assert id_of(message_id=None, client_id="c") == "p/c"
        assert id_of(message_id=None, seq=3) == "p/3"
        assert id_of(message_id=None) == ""

    JSON = st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    )
    NAMES = st.sampled_from(["message_id", "from_user_id", "item_list", "context_token", "create_time_ms", "seq"])
    ITEM = st.dictionaries(st.sampled_from(["type", "text_item", "voice_item", "ref_msg", "msg_id"]), JSON)
    RAW = st.dictionaries(NAMES, JSON)

    @settings(deadline=None)
    @given(RAW, st.lists(ITEM | JSON, max_size=3) | JSON)
    def test_nothing_that_comes_is_an_error(self, raw: dict[str, Any], items: object) -> None:
        raw = {"message_id": 1, "from_user_id": "p", **raw, "item_list": items}
        message = translate.message(raw)
        translate.contact(raw)
        assert message is None or (message.id and message.chat)


class TestSettings:
    @pytest.mark.parametrize(
        "url", ["http://ilinkai.weixin.qq.com", "ilinkai.weixin.qq.com", "https://a@b.c", "https://"]
    )
    def test_addresses_that_would_not_do(self, url: str) -> None:
        with pytest.raises(ValidationError):
            WeixinSettings(base_url=url)

    def test_what_may_stand_there(self) -> None:
        assert WeixinSettings().base_url == "https://ilinkai.weixin.qq.com"
        assert WeixinSettings(base_url="http://127.0.0.1:8080/").base_url == "http://127.0.0.1:8080"
        with pytest.raises(ValidationError):
            WeixinSettings.model_validate({"token": "x"})

    @pytest.mark.parametrize(
        ("named", "address"),
        [
            ("sh.ilinkai.weixin.qq.com", "https://sh.ilinkai.weixin.qq.com"),
            ("https://ilinkai2.weixin.qq.com/", "https://ilinkai2.weixin.qq.com"),
            ("http://ilinkai.weixin.qq.com", None),
            ("ilinkai.weixin.qq.com:8443", None),
            ("ilinkai.weixin.qq.com:x", None),
            ("ilinkai.weixin.qq.com.evil.example", None),
            ("evilqq.com", None),
            ("evil.example/ilinkai.weixin.qq.com", None),
            ("evil.example\\.qq.com", None),
            ("evil.example#.qq.com", None),
            ("user@a.qq.com", None),
            ("a.qq.com?to=evil", None),
            ("127.0.0.1", None),
            ("localhost", None),
            ("[::1]", None),
            ("169.254.169.254", None),
            ("com", None),
            ("", None),
            ("file:///etc/passwd", None),
        ],
    )
    def test_only_its_own_hosts_are_trusted(self, named: str, address: str | None) -> None:
        assert trusted(OFFICIAL, named) == address

    def test_other_servers_have_their_own_hosts(self) -> None:
        assert trusted("https://a.example.com.cn", "b.example.com.cn") == "https://b.example.com.cn"
        assert trusted("https://a.example.com.cn", "b.other.com.cn") is None
        assert trusted("https://192.0.2.1", "192.0.2.2") is None
        assert trusted("http://127.0.0.1:80", "localhost:81") == "http://localhost:81"
        assert trusted("http://127.0.0.1:80", "ilinkai.weixin.qq.com") is None

    def test_the_registry_finds_it(self) -> None:
        assert registry.load("weixin") is WeixinAdapter
        assert registry.settings_class("weixin") is WeixinSettings


def test_the_files_are_json_that_a_person_can_read(host: TestHost) -> None:
    state = State(host.folder)
    state.logged_in(TestState.LOGIN)
    kept = json.loads((host.folder / "login.json").read_text(encoding="utf-8"))
    assert kept["version"] == 1
    assert kept["logins"][0]["bot"] == "b@im.bot"
