"""The Telegram adapter: PTB's real client against a Bot API on loopback."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from telegram_api import TOKEN
from telegram_far import FAST, SECRET, TelegramFar, free_port
from telegram_proxies import FAR_NAME, proxy

from adapters import registry
from adapters.base import AdapterError, DeliveryFailed, Health, Inbound, Message, Moved, Pressed, Reacted, Reply
from adapters.telegram.adapter import TelegramAdapter
from adapters.telegram.client import ALLOWED_UPDATES
from adapters.telegram.settings import TelegramSettings
from adapters.telegram.timing import Limits
from adapters.testing import AdapterContract, Heard, NoReplies, running, until

OFFER = Reply("o1", "1001", "which?", "e1", candidates=("one. <b>", "two_*"))


class TestTelegram(AdapterContract):
    @pytest.fixture(params=["polling", "webhook"])
    async def far(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> AsyncIterator[TelegramFar]:
        async with TelegramFar(tmp_path, monkeypatch, webhook=request.param == "webhook") as far:
            yield far


@pytest.fixture
async def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TelegramFar]:
    """Telegram, asked by polls; "alice" is the person 1001."""
    async with TelegramFar(tmp_path, monkeypatch) as far:
        far.number("alice")
        yield far


@pytest.fixture
async def hooked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TelegramFar]:
    """Telegram, bringing updates to a webhook."""
    async with TelegramFar(tmp_path, monkeypatch, webhook=True) as far:
        far.number("alice")
        yield far


def states(far: TelegramFar) -> list[str]:
    return [health.state for health in far.host.reports]


async def online(far: TelegramFar) -> None:
    await until(lambda: states(far)[-1:] == ["online"])


async def refused(adapter: TelegramAdapter, reply: Reply) -> DeliveryFailed:
    """Why `reply` can't be delivered."""
    with pytest.raises(DeliveryFailed) as failure:
        await adapter.send(reply)
    return failure.value


def test_it_is_found_by_name() -> None:
    assert registry.load("telegram") is TelegramAdapter
    assert registry.settings_class("telegram") is TelegramSettings


# Nothing lost -------------------------------------------------------------------------------


class Slow(Heard):
    """Stores only when it is let; fails `failures` times before."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__()
        self.failures = failures

    async def __call__(self, inbound: Inbound) -> NoReplies:
        if self.failures:
            self.failures -= 1
            raise OSError("the disk is full of secret words")
        return await super().__call__(inbound)


async def test_what_was_not_stored_comes_again_at_the_next_start(far: TelegramFar) -> None:
    async with running(far.adapter()) as heard:
        heard.stores.clear()
        await far.say("keep this")
        first = await heard.next(Message)
    async with running(far.adapter()) as heard:
        assert await heard.next(Message) == first
    async with running(far.adapter()) as heard:  # it was confirmed when the one before left
        await far.say("next")
        assert (await heard.next(Message)).text == "next"


@pytest.mark.parametrize("webhook", [False, True])
async def test_what_could_not_be_stored_is_asked_for_again(
    webhook: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with TelegramFar(tmp_path, monkeypatch, webhook=webhook) as far:
        await _stored_in_the_end(far, Slow(failures=2))
    assert "could not be stored" in caplog.text
    assert "secret words" not in "".join(record.getMessage() for record in caplog.records if record.levelno > 10)


async def _stored_in_the_end(far: TelegramFar, slow: Slow) -> None:
    task = asyncio.create_task(far.adapter().run(slow))
    for text in ("one", "two"):
        await far.say(text)
    await until(lambda: len(slow.all) == 2)
    assert [one.text for one in slow.all if isinstance(one, Message)] == ["one", "two"]
    assert any("can't be stored" in health.detail for health in far.host.reports)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_one_update_that_cannot_be_read_stops_no_other(
    far: TelegramFar, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(far.adapter()) as heard:
        await far.api.push(message={"message_id": "no", "chat": "what is this", "text": "private words"})
        await far.say("next")
        assert (await heard.next(Message)).text == "next"
    assert "can't be read" in caplog.text
    assert "private words" not in "".join(record.getMessage() for record in caplog.records if record.levelno > 10)


async def test_all_that_it_hears_is_asked_for(far: TelegramFar) -> None:
    async with running(far.adapter()):
        await until(lambda: bool(far.api.called("getUpdates")))
        assert set(json.loads(far.api.called("getUpdates")[0]["allowed_updates"])) == set(ALLOWED_UPDATES)


async def test_nothing_is_left_when_it_ends(far: TelegramFar) -> None:
    before = asyncio.all_tasks()
    async with running(adapter := far.adapter()) as heard:
        await far.say("hi")
        await heard.next(Message)
        adapter.busy("1001", True)
        adapter.stream("1001", "e1", 1, "he")
        await until(lambda: bool(far.api.called("sendChatAction")))
    left = {task for task in asyncio.all_tasks() - before if "telegram" in repr(task.get_coro())}
    assert left == set()
    assert "adapters.telegram" not in str(logging.getLogger("httpx").filters)


# Health -------------------------------------------------------------------------------------


async def test_a_second_instance_is_told_of_and_waited_out(far: TelegramFar) -> None:
    async with running(far.adapter()):
        await online(far)
        async with running(far.adapter()):
            await until(lambda: any("another instance" in health.detail for health in far.host.reports))
        await online(far)


async def test_a_wrong_token_is_told_of_and_tried_again(far: TelegramFar, caplog: pytest.LogCaptureFixture) -> None:
    far.api.refuse("getMe", 401, "Unauthorized", times=2)
    async with running(far.adapter()) as heard:
        await until(lambda: "offline" in states(far))
        assert "TELEGRAM_TOKEN" in far.host.reports[-1].detail
        await far.say("now it is right")
        await heard.next(Message)
    assert len(far.api.called("getMe")) == 3
    assert TOKEN not in caplog.text + str(far.host.reports)


async def test_no_token_is_a_fault_of_the_settings(far: TelegramFar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TELEGRAM_TOKEN")
    with pytest.raises(AdapterError, match="TELEGRAM_TOKEN is not set"):
        await far.adapter().run(Heard())


async def test_a_lost_network_is_told_of_and_comes_back(far: TelegramFar) -> None:
    async with running(far.adapter()):
        await online(far)
        await far.cut()
        await until(lambda: states(far)[-1] == "offline")
        assert "set a proxy" in far.host.reports[-1].detail
        await far.mend()
        await online(far)
    assert far.host.reports[0] == Health("starting")
    assert far.host.reports[-1] == Health("online", "@NightBot")


async def test_being_asked_to_wait_is_waited_out(far: TelegramFar) -> None:
    far.api.refuse("getUpdates", 429, "Too Many Requests", retry_after=1)
    async with running(far.adapter()):
        await until(lambda: "offline" in states(far))
        assert "wait 1 s" in far.host.reports[-1].detail
        await online(far)
    asked = [call.at for call in far.api.calls if call.method == "getUpdates"]
    assert asked[1] - asked[0] >= 1.0


async def test_neither_token_nor_words_are_logged(far: TelegramFar, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with running(adapter := far.adapter()) as heard:
        await far.say("words of alice")
        got = await heard.next(Message)
        await adapter.send(Reply("r1", got.chat, "words of the bot", "e1"))
    assert "getUpdates" in caplog.text  # httpx did write its addresses
    assert TOKEN not in caplog.text
    assert "words of" not in caplog.text


async def test_an_answer_that_is_cut_off_is_not_logged(far: TelegramFar, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    far.api.refuse("getUpdates", 200, '{"ok": true, "result": [{"update_id": 1, "message": {"text": "words of alice')
    async with running(far.adapter()) as heard:
        await until(lambda: "offline" in states(far))
        await far.say("hi")
        await heard.next(Message)
    assert "words of" not in caplog.text + str(far.host.reports)


async def test_the_menu_of_commands_is_offered_once(far: TelegramFar) -> None:
    async with running(far.adapter(language="en")):
        await until(lambda: bool(far.api.called("setMyCommands")))
        await far.cut()
        await until(lambda: states(far)[-1] == "offline")
        await far.mend()
        await online(far)
    (called,) = far.api.called("setMyCommands")
    assert {"command": "help", "description": "how it works"} in json.loads(called["commands"])


# Sending ------------------------------------------------------------------------------------


async def test_refusals_say_whether_to_try_again(far: TelegramFar) -> None:
    async with running(adapter := far.adapter()):
        await online(far)
        reply = Reply("r1", "1001", "hello", "e1")
        for status, description, more, permanent, retry_after in (
            (429, "Too Many Requests: retry after 7", {"retry_after": 7}, False, 7.0),
            (403, "Forbidden: bot was blocked by the user", {}, True, None),
            (400, "Bad Request: chat not found", {}, True, None),
            (401, "Unauthorized", {}, False, None),
            (500, "Internal Server Error", {}, False, None),
        ):
            far.api.refuse("sendMessage", status, description, **more)
            failure = await refused(adapter, reply)
            assert (failure.permanent, failure.retry_after) == (permanent, retry_after), description
            assert TOKEN not in str(failure)
        await adapter.send(reply)
        assert [one.text for one in far.shown()] == ["hello"]
        assert (await refused(adapter, Reply("r2", "1001", " \n"))).permanent
        assert (await refused(adapter, Reply("r3", "console", "hello"))).permanent
    assert not (await refused(adapter, reply)).permanent


async def test_parts_that_went_out_are_not_sent_again(far: TelegramFar) -> None:
    async with running(adapter := far.adapter()):
        await online(far)
        reply = Reply("r1", "1001", "a" * 4096 + "b" * 4096 + "c", "e1")
        far.api.refuse("sendMessage", 500, "later", after=1)
        assert not (await refused(adapter, reply)).permanent
        assert [one.text[0] for one in far.shown()] == ["a"]
        sent = await adapter.send(reply)
        assert [one.text[0] for one in far.shown()] == ["a", "b", "c"]
        assert sent.message_ids == tuple(f"1001:{one.id}" for one in far.shown())
        assert await adapter.send(reply) == sent  # it is out: nothing is sent twice
        assert len(far.shown()) == 3


@pytest.mark.parametrize("mode", ["MarkdownV2", "HTML"])
async def test_markup_is_escaped_where_it_is_read(far: TelegramFar, mode: str) -> None:
    async with running(adapter := far.adapter(parse_mode=mode)):
        await online(far)
        await adapter.send(Reply("r1", "1001", "1 < 2 & *x* [y](z) `w` a.b!", "e1"))
        sent = await adapter.send(OFFER)
        assert far.shown()[0].text == "1 < 2 & *x* [y](z) `w` a.b!"
        await adapter.settle("1001", sent.message_ids, OFFER, "1")
        assert far.shown()[1].text == "which?\n\n✅ 1. one. <b>\n\n2. two_*"
        assert {call["parse_mode"] for call in far.api.called("sendMessage")} == {mode}


async def test_in_a_group_a_reply_answers_its_message(far: TelegramFar) -> None:
    async with running(adapter := far.adapter()) as heard:
        number = await far.say("what?", chat="club", person="bob", mention=True)
        got = await heard.next(Message)
        await adapter.send(Reply("r1", got.chat, "a" * 5000, "e1", answers=got.id))
        await adapter.send(Reply("r2", got.chat, "thanks", answers="u77"))
        first, *others = far.api.called("sendMessage")
        answered = json.loads(first["reply_parameters"])
        assert answered == {"message_id": int(number), "allow_sending_without_reply": True}
        assert [call.get("reply_parameters") for call in others] == [None, None]


async def test_a_topic_is_answered_in_the_topic(far: TelegramFar) -> None:
    async with running(adapter := far.adapter()) as heard:
        await far.write("club", "bob", text="hi", message_thread_id=9, is_topic_message=True)
        got = await heard.next(Message)
        assert got.chat == f"{far.chat_id('club')}:9"
        sent = await adapter.send(Reply("r1", got.chat, "hello", "e1", answers=got.id))
        adapter.busy(got.chat, True)
        await until(lambda: bool(far.api.called("sendChatAction")))
        assert far.api.called("sendMessage")[0]["message_thread_id"] == "9"
        assert far.api.called("sendChatAction")[0]["message_thread_id"] == "9"
        await far.react(far.shown("club")[0].id, "good", chat="club", person="bob")
        reacted = await heard.next(Reacted)
        assert (reacted.chat, reacted.message) == (got.chat, *sent.message_ids)


async def test_the_same_number_in_two_chats_is_two_messages(far: TelegramFar) -> None:
    async with running(adapter := far.adapter()):
        await online(far)
        first = await adapter.send(Reply("r1", "1001", "hello", "e1"))
        second = await adapter.send(Reply("r2", "1002", "hello", "e2"))
        assert {number for _, number in far.api.messages} == {1}
        assert first.message_ids != second.message_ids


async def test_a_group_that_became_a_supergroup_is_followed(far: TelegramFar) -> None:
    old, new = far.number("club", group=True), far.number("big club", group=True)
    far.api.refuse("sendMessage", 400, "Bad Request: group chat was upgraded", migrate_to_chat_id=new)
    async with running(adapter := far.adapter()) as heard:
        await online(far)
        sent = await adapter.send(Reply("r1", str(old), "hello", "e1"))
        assert [one.text for one in far.shown("big club")] == ["hello"]
        assert sent.message_ids == (f"{new}:1",)
        moved = await heard.next(Moved)
        assert (moved.chat, moved.to) == (str(old), str(new))
        await adapter.send(Reply("r2", str(old), "again", "e2"))
        assert len(far.shown("big club")) == 2
        assert len(far.api.called("sendMessage")) == 3


async def test_messages_keep_telegrams_pace(far: TelegramFar) -> None:
    limits = Limits((1, 0.3), (20, 60.0), (30, 1.0))
    async with running(adapter := far.adapter(limits=limits)):
        await online(far)
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(adapter.send(Reply(f"r{i}", "1001", f"number {i}", f"e{i}")) for i in range(3)))
        assert asyncio.get_running_loop().time() - began >= 0.6
        assert [one.text for one in far.shown()] == ["number 0", "number 1", "number 2"]
        await adapter.settle("1001", ("1001:1",), OFFER, "1")
        assert asyncio.get_running_loop().time() - began >= 0.9


# Choices and ratings ------------------------------------------------------------------------


async def test_every_press_is_answered_after_it_was_stored(far: TelegramFar) -> None:
    async with running(adapter := far.adapter()) as heard:
        await online(far)
        await adapter.send(OFFER)
        heard.stores.clear()
        query = await far.press_button("1", 2)
        assert (await heard.next(Pressed)).verdict == "both_bad"
        assert query not in far.api.answered
        heard.stores.set()
        await until(lambda: query in far.api.answered)
        far.api.messages[1001, 1]["reply_markup"]["inline_keyboard"][0][0]["callback_data"] = "from an older program"
        strange = await far.press_button("1", 0)
        await until(lambda: strange in far.api.answered)
        assert len(heard.all) == 1


async def test_an_offer_loses_its_buttons_when_it_is_settled(far: TelegramFar) -> None:
    async with running(adapter := far.adapter(language="zh")):
        await online(far)
        sent = await adapter.send(OFFER)
        assert far.shown()[0].buttons == ("1", "2", "都不好")
        await adapter.settle("1001", sent.message_ids, OFFER, "2")
        assert (far.shown()[0].text, far.shown()[0].buttons) == ("which?\n\n1. one. <b>\n\n✅ 2. two_*", ())
        await adapter.settle("1001", sent.message_ids, OFFER, "2")  # not modified: nothing to see
        await adapter.settle("1001", sent.message_ids, OFFER, "retract")
        assert far.shown()[0].buttons == ("1", "2", "都不好")


async def test_an_offer_in_two_messages_says_it_on_a_button(far: TelegramFar) -> None:
    async with running(adapter := far.adapter()) as heard:
        await online(far)
        offer = replace(OFFER, candidates=("😀" * 1500, "😀" * 1500))
        sent = await adapter.send(offer)
        assert [one.buttons for one in far.shown()] == [(), ("1", "2", "都不好")]
        await far.press(far.shown()[1].id, "2")
        await heard.next(Pressed)
        await adapter.settle("1001", sent.message_ids, offer, "2")
        assert far.shown()[1].buttons == ("✅ 2",)
        query = await far.press_button(far.shown()[1].id, 0)
        await until(lambda: query in far.api.answered)
        assert len(heard.all) == 1


async def test_settling_never_raises(far: TelegramFar) -> None:
    adapter = far.adapter()
    await adapter.settle("1001", ("1001:1",), OFFER, "1")
    async with running(adapter):
        await online(far)
        for ids in ((), ("1001:99",), ("what",), ("7:1",)):
            await adapter.settle("1001", ids, OFFER, "1")
        await far.cut()
        await adapter.settle("1001", ("1001:1",), OFFER, "1")


async def test_ratings_can_be_pressed_changed_and_taken_back(far: TelegramFar) -> None:
    reply = Reply("r1", "1001", "hello", "e1")
    async with running(adapter := far.adapter(rating_buttons=True)) as heard:
        await online(far)
        await adapter.send(Reply("n1", "1001", "a notice"))
        sent = await adapter.send(reply)
        assert [one.buttons for one in far.shown()] == [(), ("👍", "👎")]
        for at, verdict, buttons in (
            (0, "good", ("✅ 👍", "👎")),
            (1, "bad", ("👍", "✅ 👎")),
            (1, "retract", ("👍", "👎")),
        ):
            before = len(heard.all)
            await far.press_button(far.shown()[1].id, at)
            pressed = await heard.next(Pressed, before)
            assert (pressed.exchange, pressed.verdict) == ("e1", verdict)
            await adapter.settle("1001", sent.message_ids, reply, pressed.verdict)
            assert far.shown()[1].buttons == buttons
        await until(lambda: len(far.api.called("answerCallbackQuery")) == 3)
        assert [call["text"] for call in far.api.called("answerCallbackQuery")] == ["👍", "👎", "↩"]


async def test_in_a_group_one_persons_rating_marks_nothing(far: TelegramFar) -> None:
    club = far.chat_id("club")
    async with running(adapter := far.adapter(rating_buttons=True)):
        await online(far)
        sent = await adapter.send(reply := Reply("r1", club, "hello", "e1"))
        await adapter.settle(club, sent.message_ids, reply, "good")
        assert far.shown("club")[0].buttons == ("👍", "👎")
        assert far.api.called("editMessageReplyMarkup") == []


# While a reply is made ----------------------------------------------------------------------


async def test_a_reply_grows_as_a_draft_and_no_draft_follows_it(far: TelegramFar) -> None:
    async with running(adapter := far.adapter()):
        await online(far)
        adapter.stream("1001", "e1", 1, "hel")
        await until(lambda: len(far.api.called("sendMessageDraft")) == 1)
        adapter.stream("1001", "e1", 1, "lo ")
        adapter.stream("1001", "e1", 1, "there")
        await until(lambda: len(far.api.called("sendMessageDraft")) == 2)
        on_its_way = far.api.hold("sendMessageDraft")
        adapter.stream("1001", "e1", 1, "!")
        await until(lambda: len(far.api.called("sendMessageDraft")) == 3)
        adapter.stream("1001", "e1", 1, "!")
        adapter.busy("1001", False)
        sending = asyncio.create_task(adapter.send(Reply("r1", "1001", "hello there!!", "e1")))
        await asyncio.sleep(0.2)
        assert far.api.called("sendMessage") == []
        on_its_way.set()
        await sending
        drafts = far.api.called("sendMessageDraft")
        assert [draft["text"] for draft in drafts] == ["hel", "hello there", "hello there!"]
        assert len({draft["draft_id"] for draft in drafts}) == 1


async def test_a_draft_stops_when_no_reply_comes_of_it(far: TelegramFar) -> None:
    async with running(adapter := far.adapter()):
        await online(far)
        adapter.stream("1001", "e1", 1, "hel")
        await until(lambda: len(far.api.called("sendMessageDraft")) == 1)
        adapter.stream("1001", "e1", 1, "lo")
        adapter.busy("1001", False)
        await asyncio.sleep(4 * FAST.draft)
        assert len(far.api.called("sendMessageDraft")) == 1


async def test_drafts_are_for_private_chats_and_single_replies(far: TelegramFar) -> None:
    async with running(adapter := far.adapter()):
        await online(far)
        adapter.stream(far.chat_id("club"), "e1", 1, "hel")
        adapter.stream("1001", "e2", 2, "the second of two")
        await adapter.send(Reply("r1", far.chat_id("club"), "hello", "e1"))
    assert far.api.called("sendMessageDraft") == []


async def test_drafts_can_be_switched_off(far: TelegramFar) -> None:
    async with running(adapter := far.adapter(drafts=False)):
        await online(far)
        adapter.stream("1001", "e3", 1, "hel")
        await adapter.send(Reply("r3", "1001", "hello", "e3"))
    assert far.api.called("sendMessageDraft") == []


async def test_a_refused_draft_ends_the_drafts_of_that_reply_only(far: TelegramFar) -> None:
    far.api.refuse("sendMessageDraft", 429, "Too Many Requests", retry_after=3)
    async with running(adapter := far.adapter()):
        await online(far)
        for text in "hello":
            adapter.stream("1001", "e1", 1, text)
            await asyncio.sleep(FAST.draft)
        await adapter.send(Reply("r1", "1001", "hello", "e1"))
        assert len(far.api.called("sendMessageDraft")) == 1
        adapter.stream("1001", "e2", 1, "next")
        await until(lambda: len(far.api.called("sendMessageDraft")) == 2)


async def test_typing_is_shown_until_the_reply_is_made(far: TelegramFar) -> None:
    async with running(adapter := far.adapter()):
        await online(far)
        adapter.busy("1001", True)
        adapter.busy("1001", True)
        await until(lambda: len(far.api.called("sendChatAction")) >= 3)
        assert far.api.called("sendChatAction")[0]["action"] == "typing"
        adapter.busy("1001", False)
        shown = len(far.api.called("sendChatAction"))
        await asyncio.sleep(5 * FAST.typing)
        assert len(far.api.called("sendChatAction")) <= shown + 1


# Webhook ------------------------------------------------------------------------------------


async def post(far: TelegramFar, secret: str | None, body: Any) -> int:
    """What the webhook says to somebody who posts there."""
    headers = {} if secret is None else {"X-Telegram-Bot-Api-Secret-Token": secret}
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return (await client.post(far.settings().webhook_url, content=content, headers=headers)).status_code


async def test_the_webhook_lets_only_telegram_in(hooked: TelegramFar) -> None:
    update = {"update_id": 1, "message": hooked.message(text="let me in")}
    async with running(hooked.adapter()) as heard:
        await online(hooked)
        for secret in (None, "", "wrong", SECRET + "x", SECRET[:-1]):
            assert await post(hooked, secret, update) == 403
        for junk in (b"", b"junk", b"[1]", b"{}", b'{"update_id": "x"}', b"[" * 2_000_000):
            assert await post(hooked, SECRET, junk) == 400
        assert heard.all == []
        assert await post(hooked, SECRET, update) == 200
        assert [one.text for one in heard.all if isinstance(one, Message)] == ["let me in"]
    assert hooked.api.webhook["secret_token"] == SECRET
    assert hooked.api.webhook["max_connections"] == "1"  # in order
    assert set(json.loads(hooked.api.webhook["allowed_updates"])) == set(ALLOWED_UPDATES)


async def test_the_webhook_says_200_only_when_it_is_stored(hooked: TelegramFar) -> None:
    async with running(hooked.adapter()) as heard:
        await online(hooked)
        heard.stores.clear()
        posted = asyncio.create_task(post(hooked, SECRET, {"update_id": 1, "message": hooked.message(text="hi")}))
        await heard.next(Message)
        await asyncio.sleep(0.2)
        assert not posted.done()
        heard.stores.set()
        assert await posted == 200


async def test_a_webhook_that_somebody_removed_is_set_again(hooked: TelegramFar) -> None:
    async with running(hooked.adapter()) as heard:
        await online(hooked)
        hooked.api.webhook = {}
        await hooked.say("still there?")
        await heard.next(Message)


async def test_a_webhook_that_telegram_does_not_reach_is_told_of(hooked: TelegramFar) -> None:
    async with running(hooked.adapter()):
        await online(hooked)
        trouble = {
            "last_error_date": 4_000_000_000,
            "last_error_message": "Connection refused",
            "pending_update_count": 3,
        }
        hooked.api.webhook["told"] = trouble
        await until(lambda: states(hooked)[-1] == "offline")
        assert "Connection refused" in hooked.host.reports[-1].detail
        hooked.api.webhook["told"] = {}
        await online(hooked)


async def test_a_port_that_is_taken_is_told_of_and_waited_for(hooked: TelegramFar) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", hooked.settings().port))
        other.listen()
        task = asyncio.create_task(hooked.adapter().run(Heard()))
        await until(lambda: "offline" in states(hooked))
        assert str(hooked.settings().port) in hooked.host.reports[-1].detail
    await online(hooked)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_from_a_webhook_back_to_polling(far: TelegramFar) -> None:
    far.api.webhook = {"url": "http://127.0.0.1:1/", "secret_token": "x"}
    async with running(far.adapter()) as heard:
        await far.say("hi")
        await heard.next(Message)
    assert [call.get("drop_pending_updates") for call in far.api.called("deleteWebhook")] == [None]


# Proxies ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_everything_goes_through_the_proxy(far: TelegramFar, scheme: str) -> None:
    async with proxy(scheme, far.api.port) as between:
        adapter = far.adapter(base_url=f"http://{FAR_NAME}", proxy=between.address)
        async with running(adapter) as heard:
            await far.say("hi")
            got = await heard.next(Message)
            await adapter.send(Reply("r1", got.chat, "hello", "e1"))
            assert [one.text for one in far.shown()] == ["hello"]
        assert between.passed >= 2  # polls and messages have connections of their own


async def test_without_the_proxy_it_is_not_reached(far: TelegramFar) -> None:
    async with running(far.adapter(base_url=f"http://{FAR_NAME}")):
        await until(lambda: "offline" in states(far))


# Doctor -------------------------------------------------------------------------------------


async def test_the_doctor_finds_what_is_right(far: TelegramFar) -> None:
    found = await TelegramAdapter.diagnose(far.settings(), far.host)
    assert all(one.right for one in found)
    assert any("@NightBot" in one.what for one in found)
    assert any("setprivacy" in one.what for one in found)
    assert far.api.called("getUpdates") + far.api.called("deleteWebhook") == []  # a running bot is not disturbed


async def test_the_doctor_says_what_to_do(
    far: TelegramFar, hooked: TelegramFar, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wrong(settings: TelegramSettings) -> str:
        found = await TelegramAdapter.diagnose(settings, far.host)
        return " ".join(one.to_do for one in found if not one.right)

    far.api.webhook = {"url": "https://other.example", "secret_token": "x"}
    assert "another program set it" in await wrong(far.settings())
    with socket.socket() as other:
        other.bind(("127.0.0.1", hooked.settings().port))
        other.listen()
        assert "set another port" in await wrong(hooked.settings())
    far.api.refuse("getMe", 401, "Unauthorized")
    assert "@BotFather" in await wrong(far.settings())
    assert "set a proxy" in await wrong(far.settings(base_url=f"http://127.0.0.1:{free_port()}"))
    monkeypatch.delenv("TELEGRAM_TOKEN")
    assert "TELEGRAM_TOKEN is not set" in await wrong(far.settings())
