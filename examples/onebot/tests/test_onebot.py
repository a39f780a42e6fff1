"""The adapter against a OneBot implementation on loopback: the contract, and what is OneBot's own."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("websockets")

from nightschool_onebot.adapter import OneBotAdapter
from onebot_far_end import BOT, TOKEN, TOKEN_ENV, OneBotFarEnd
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from adapters.base import (
    AdapterError,
    DeliveryFailed,
    Inbound,
    Joined,
    Message,
    OwnerWrote,
    Recalled,
    Reply,
)
from adapters.testing import AdapterContract, NoReplies, running, until


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token is in the environment."""
    monkeypatch.setenv(TOKEN_ENV, TOKEN)


@pytest.fixture
async def far(tmp_path: Path) -> AsyncIterator[OneBotFarEnd]:
    """A far end to connect to."""
    async with OneBotFarEnd(tmp_path) as far:
        yield far


@pytest.fixture
async def caller(tmp_path: Path) -> AsyncIterator[OneBotFarEnd]:
    """A far end that connects to the adapter."""
    async with OneBotFarEnd(tmp_path, "reverse") as far:
        yield far


class TestOneBot(AdapterContract):
    """The contract, over both directions and both formats."""

    @pytest.fixture(params=["forward-array", "forward-string", "reverse-array"])
    async def far(self, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[OneBotFarEnd]:
        direction, form = request.param.split("-")
        async with OneBotFarEnd(tmp_path, direction, form) as far:
            yield far


def states(far: OneBotFarEnd) -> list[str]:
    """What was reported, repeats left out."""
    said = [one.state for one in far.host.reports]
    return [one for index, one in enumerate(said) if index == 0 or said[index - 1] != one]


async def online(far: OneBotFarEnd) -> None:
    """Wait until the adapter says that it is there."""
    await until(lambda: states(far)[-1:] == ["online"])


# What arrives -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("image", {"file": "a.jpg", "url": "https://example.com/a.jpg"}, "image"),
        ("image", {"file": "a.jpg", "sub_type": 1}, "sticker"),
        ("record", {"file": "a.amr"}, "voice"),
        ("video", {"file": "a.mp4"}, "video"),
        ("file", {"file": "a.pdf"}, "file"),
        ("face", {"id": "76"}, "sticker"),
        ("json", {"data": '{"app":"x"}'}, "other"),
    ],
)
async def test_each_kind_of_segment_has_its_kind(
    far: OneBotFarEnd, kind: str, data: dict[str, Any], expected: str
) -> None:
    async with running(far.adapter()) as heard:
        await far.say_segments([{"type": kind, "data": data}])
        got = await heard.next(Message)
        assert (got.kind, got.text) == (expected, "")


async def test_a_picture_keeps_its_caption_and_words_between_faces_stay_text(far: OneBotFarEnd) -> None:
    async with running(far.adapter()) as heard:
        look = {"type": "text", "data": {"text": "look"}}
        await far.say_segments([{"type": "image", "data": {"file": "a"}}, look])
        assert (await heard.next(Message)).text == "look"
        await far.say_segments([look, {"type": "face", "data": {"id": "1"}}])
        got = await heard.next(Message, 1)
        assert (got.text, got.kind) == ("look", "text")


async def test_mentions_of_others_stay_in_the_text(far: OneBotFarEnd) -> None:
    async with running(far.adapter()) as heard:
        others = [{"type": "at", "data": {"qq": "20001", "name": "@Alice"}}, {"type": "at", "data": {"qq": "all"}}]
        await far.say_segments([*others, {"type": "text", "data": {"text": " hi"}}], chat="club", person="bob")
        got = await heard.next(Message)
        assert (got.text, got.addressed) == ("@Alice@all hi", False)


async def test_a_quote_of_the_bot_in_a_group_is_for_the_bot_even_after_a_restart(far: OneBotFarEnd) -> None:
    async with running(adapter := far.adapter()) as heard:
        await far.say("what now?", chat="club", person="bob", mention=True)
        got = await heard.next(Message)
        (sent,) = (await adapter.send(Reply("r1", got.chat, "this", "e1", answers=got.id, to=got.person))).message_ids
        await far.say("why?", chat="club", person="bob", quote=far.shown("club")[0].id)
        quoting = await heard.next(Message, 1)
        assert (quoting.addressed, quoting.quote) == (True, sent)
        assert not [call for call in far.calls if call["action"] == "get_msg"]
    async with running(far.adapter()) as heard:
        await far.say("and?", chat="club", person="bob", quote=far.shown("club")[0].id)
        assert (await heard.next(Message)).addressed
        await far.say("not you", chat="club", person="bob", quote="1001")
        assert not (await heard.next(Message, 1)).addressed


async def test_a_reply_in_a_group_quotes_and_names_whom_it_answers(far: OneBotFarEnd) -> None:
    async with running(adapter := far.adapter()) as heard:
        asked = await far.say("what now?", chat="club", person="bob", mention=True)
        got = await heard.next(Message)
        await adapter.send(Reply("r1", got.chat, "字" * 2500, "e1", answers=got.id, to=got.person))
        (_, _, first), (_, _, second) = far.said
        assert [one["type"] for one in first] == ["reply", "at", "text"]
        assert (first[0]["data"]["id"], first[1]["data"]["qq"]) == (asked, "20002")
        assert [one["type"] for one in second] == ["text"]
        assert first[2]["data"]["text"].startswith(" 字")  # QQ puts nothing between a mention and what follows


async def test_recalls_and_newcomers_in_groups_say_who(far: OneBotFarEnd) -> None:
    async with running(far.adapter()) as heard:
        message = await far.say("oops", chat="club", person="bob")
        await far.recall(message, chat="club", person="bob")
        recalled = await heard.next(Recalled)
        assert (recalled.message, recalled.person.id) == ((await heard.next(Message)).id, far.person_id("bob"))
        friend = {"time": 1, "self_id": BOT, "post_type": "notice", "notice_type": "friend_add", "user_id": 20003}
        await far.emit(friend)
        joined = await heard.next(Joined)
        assert (joined.chat, joined.group) == (far.chat_id("carol"), False)


async def test_the_owner_is_told_from_the_bot_though_the_bots_words_come_back_first(far: OneBotFarEnd) -> None:
    async with running(adapter := far.adapter()) as heard:
        await far.say("hi", chat="club", person="bob")
        got = await heard.next(Message)
        await adapter.send(Reply("r1", got.chat, "mine", "e1"))
        await far.owner_writes("the owner's", chat="club")
        wrote = await heard.next(OwnerWrote)
        assert (wrote.chat, wrote.text, wrote.person.id) == (far.chat_id("club"), "the owner's", str(BOT))
        assert len(heard.all) == 2


async def test_words_whose_sending_was_never_answered_are_not_the_owners(far: OneBotFarEnd) -> None:
    async with running(adapter := far.adapter(answer_seconds=0.2)) as heard:
        await far.say("hi")
        got = await heard.next(Message)
        far.swallow_answers = True
        with pytest.raises(DeliveryFailed):
            await adapter.send(Reply("r1", got.chat, "mine", "e1", answers=got.id))
        far.swallow_answers = False
        await far.owner_writes("the owner's")
        assert (await heard.next(OwnerWrote)).text == "the owner's"


async def test_nonsense_stops_nothing(far: OneBotFarEnd, caplog: pytest.LogCaptureFixture) -> None:
    async with running(far.adapter()) as heard:
        await far.emit({"post_type": "message", "self_id": BOT, "user_id": 20001, "message": "no id"})
        await far.emit({"post_type": "message", "self_id": BOT, "message_id": 3, "user_id": 1, "sender": "secret word"})
        await far.emit({"post_type": "request", "self_id": BOT, "request_type": "friend", "user_id": 20001})
        await far.emit(["not", "an", "object"])  # type: ignore[arg-type]
        await far.say("still here")
        assert (await heard.next(Message)).text == "still here"
    assert "secret word" not in caplog.text


async def test_what_could_not_be_stored_is_tried_again(far: OneBotFarEnd) -> None:
    """Nobody sends it a second time, so that the adapter must."""
    taken: list[Inbound] = []
    failures = [OSError("the disk is full")]

    async def receive(inbound: Inbound) -> NoReplies:
        if failures:
            raise failures.pop()
        taken.append(inbound)
        return NoReplies()

    running_adapter = asyncio.create_task(far.adapter().run(receive))
    await far.say("one")
    await far.say("two")
    await until(lambda: len(taken) == 2)
    assert [one.text for one in taken if isinstance(one, Message)] == ["one", "two"]
    running_adapter.cancel()
    await asyncio.gather(running_adapter, return_exceptions=True)


# What is sent -----------------------------------------------------------------------------------


async def test_only_what_did_not_go_out_is_sent_again(far: OneBotFarEnd) -> None:
    async with running(adapter := far.adapter(answer_seconds=1.0)) as heard:
        await far.say("hi")
        reply = Reply("r1", (await heard.next(Message)).chat, "一" * 2000 + "二" * 2000, "e1")
        broken: list[bool] = []
        take = far.take

        async def break_once(params: dict[str, Any]) -> int:
            if "二" in params["message"][0]["data"]["text"] and not broken:
                broken.append(True)
                far.drop()
                return 0
            return await take(params)

        far.take = break_once  # type: ignore[method-assign]
        with pytest.raises(DeliveryFailed):
            await adapter.send(reply)
        assert [one.text[0] for one in far.shown()] == ["一"]
        sent = await AdapterContract.send(adapter, reply)
        assert [one.text[0] for one in far.shown()] == ["一", "二"]
        assert len(sent.message_ids) == 2


@pytest.mark.parametrize(("code", "permanent"), [(1404, True), (1400, True), (100, False), (1200, False)])
async def test_a_refusal_is_permanent_only_where_a_retry_cannot_help(
    far: OneBotFarEnd, code: int, permanent: bool
) -> None:
    async with running(adapter := far.adapter()):
        await online(far)
        far.fail_next = [{"status": "failed", "retcode": code, "data": None}]
        with pytest.raises(DeliveryFailed) as failure:
            await adapter.send(Reply("r1", far.chat_id("alice"), "hello"))
        assert failure.value.permanent == permanent


async def test_a_chat_that_is_no_number_is_refused_for_good(far: OneBotFarEnd) -> None:
    async with running(adapter := far.adapter()):
        await online(far)
        with pytest.raises(DeliveryFailed, match="no QQ number") as failure:
            await adapter.send(Reply("r1", "alice", "hello"))
        assert failure.value.permanent


# The connection ---------------------------------------------------------------------------------


async def test_health_follows_the_connection_and_qq(far: OneBotFarEnd) -> None:
    async with running(far.adapter()):
        await until(lambda: states(far) == ["starting", "online"])
        await far.cut()
        await until(lambda: states(far)[-1] == "offline")
        await far.mend()
        await online(far)
        beat = {"time": 1, "self_id": BOT, "post_type": "meta_event", "meta_event_type": "heartbeat", "interval": 5000}
        await far.emit({**beat, "status": {"online": False, "good": False}})
        await until(lambda: "logged out" in far.host.reports[-1].detail)
        await far.emit({**beat, "status": {"online": True, "good": True}})
        await online(far)


async def test_pauses_double_and_begin_anew_after_a_connection(far: OneBotFarEnd) -> None:
    async with running(far.adapter()):
        await online(far)
        await far.cut()
        await until(lambda: [one.state for one in far.host.reports].count("offline") >= 4)
        pauses = [one.detail.rpartition("in ")[2] for one in far.host.reports if one.state == "offline"]
        assert pauses[:4] == ["0.02 s", "0.04 s", "0.08 s", "0.16 s"]
        await far.mend()
        await online(far)
        before = len(far.host.reports)
        await far.cut()
        await until(lambda: len(far.host.reports) > before)
        assert far.host.reports[before].detail.endswith("in 0.02 s")


async def test_a_wrong_token_is_said_and_never_shown(far: OneBotFarEnd) -> None:
    far.token = "another"
    async with running(far.adapter()):
        await until(lambda: any(one.state == "offline" for one in far.host.reports))
        assert TOKEN_ENV in far.host.reports[-1].detail
        far.token = TOKEN
        await online(far)
        assert far.headers["Authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in str(far.host.reports) + repr(far.settings())


async def test_neither_token_nor_words_reach_a_log(far: OneBotFarEnd, caplog: pytest.LogCaptureFixture) -> None:
    """Not even when everybody's logs are wide open; the far end's own log of the wire is left out."""
    caplog.set_level(logging.INFO, logger="websockets.server")
    caplog.set_level(logging.DEBUG)  # last, since it also sets what caplog keeps
    async with running(adapter := far.adapter()) as heard:
        await far.say("a secret word")
        got = await heard.next(Message)
        await adapter.send(Reply("r1", got.chat, "a secret answer", "e1"))
    assert TOKEN not in caplog.text
    assert "secret" not in caplog.text


async def test_a_token_refused_after_the_handshake_is_said_too(far: OneBotFarEnd) -> None:
    """Some implementations open the connection first, and then say no."""

    async def refuse(connection: Any, call: dict[str, Any]) -> None:
        await connection.send('{"status": "failed", "retcode": 1403, "data": null, "message": "token"}')
        await connection.close()

    far.answer = refuse  # type: ignore[method-assign]
    async with running(far.adapter()):
        await until(lambda: any("refuses the token" in one.detail for one in far.host.reports))


async def test_qq_that_is_not_logged_in_is_offline(far: OneBotFarEnd) -> None:
    far.logged_in = False
    async with running(far.adapter()):
        await until(lambda: any("not logged in" in one.detail for one in far.host.reports))
        far.logged_in = True
        await online(far)


async def test_a_token_that_is_not_there_is_a_fault_in_the_settings(
    far: OneBotFarEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TOKEN_ENV)
    with pytest.raises(AdapterError, match=TOKEN_ENV):
        await far.adapter().run(lambda inbound: pytest.fail("nothing can arrive"))


async def test_nothing_runs_on_after_the_end(far: OneBotFarEnd) -> None:
    before = asyncio.all_tasks()
    adapter = far.adapter()
    async with running(adapter):
        await online(far)
    ours = [task for task in asyncio.all_tasks() - before if "onebot_far_end" not in repr(task.get_coro())]
    assert [task for task in ours if "nightschool_onebot" in repr(task)] == []
    with pytest.raises(DeliveryFailed, match="no connection"):
        await adapter.send(Reply("r1", "20001", "hello"))


# OneBot connects to us --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        ({}, "/", 401),
        ({"Authorization": "Bearer wrong"}, "/", 401),
        ({}, "/?access_token=wrong", 401),
        ({"Authorization": f"Bearer {TOKEN}", "X-Client-Role": "API"}, "/", 400),
        ({"Authorization": f"Bearer {TOKEN}", "Origin": "https://example.com"}, "/", 403),
    ],
)
async def test_who_may_connect(tmp_path: Path, headers: dict[str, str], path: str, status: int) -> None:
    far = OneBotFarEnd(tmp_path, "reverse")
    async with running(far.adapter()):
        await until(lambda: _listens(far.port))
        with pytest.raises(InvalidStatus) as refusal:
            await connect(f"ws://127.0.0.1:{far.port}{path}", additional_headers=headers, proxy=None)
        assert refusal.value.response.status_code == status


async def test_a_token_in_the_address_is_taken_too(tmp_path: Path) -> None:
    far = OneBotFarEnd(tmp_path, "reverse")
    async with running(far.adapter()):
        await until(lambda: _listens(far.port))
        async with connect(f"ws://127.0.0.1:{far.port}/?access_token={TOKEN}", proxy=None) as caller:
            assert "get_login_info" in str(await caller.recv())


async def test_the_newest_connection_is_the_one_to_talk_to(caller: OneBotFarEnd, tmp_path: Path) -> None:
    async with running(adapter := caller.adapter()):
        await online(caller)
        newer, caller.redials = OneBotFarEnd(tmp_path, "reverse"), False
        newer.port = caller.port
        async with newer:
            await until(lambda: newer.connected and not caller.connected)
            await AdapterContract.send(adapter, Reply("r1", newer.chat_id("alice"), "hello"))
            assert ([one.text for one in newer.shown()], caller.shown()) == (["hello"], [])


async def test_a_port_that_is_taken_is_said_and_waited_for(tmp_path: Path) -> None:
    far = OneBotFarEnd(tmp_path, "reverse")
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", far.port)
    async with running(far.adapter()):
        await until(lambda: any("free the port" in one.detail for one in far.host.reports))
        server.close()
        await server.wait_closed()
        async with far:
            await online(far)


# nightschool doctor -----------------------------------------------------------------------------


async def test_doctor_says_that_all_is_well(far: OneBotFarEnd) -> None:
    found = await OneBotAdapter.diagnose(far.settings(), far.host)
    assert [one.right for one in found] == [True, True, True]


async def test_doctor_says_what_to_do(far: OneBotFarEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    far.online = False
    assert "log in" in (await OneBotAdapter.diagnose(far.settings(), far.host))[-1].to_do
    far.logged_in, far.online = False, True
    assert "log in" in (await OneBotAdapter.diagnose(far.settings(), far.host))[-1].to_do
    far.token = "another"
    assert "refuses the token" in (await OneBotAdapter.diagnose(far.settings(), far.host))[-1].to_do
    await far.cut()
    assert "start OneBot" in (await OneBotAdapter.diagnose(far.settings(), far.host))[-1].to_do
    monkeypatch.delenv(TOKEN_ENV)
    (only,) = await OneBotAdapter.diagnose(far.settings(), far.host)
    assert (only.right, TOKEN_ENV in only.to_do) == (False, True)


async def test_doctor_looks_whether_the_port_is_free(tmp_path: Path) -> None:
    far = OneBotFarEnd(tmp_path, "reverse")
    assert (await OneBotAdapter.diagnose(far.settings(), far.host))[-1].right
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", far.port)
    assert "free it" in (await OneBotAdapter.diagnose(far.settings(), far.host))[-1].to_do
    server.close()
    await server.wait_closed()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
