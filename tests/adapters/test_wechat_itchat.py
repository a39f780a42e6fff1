"""A WeChat alt account: the real itchat against a fake web server on loopback."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import pickle
import re
import stat
import threading
import tomllib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from adapters.base import (
    AdapterError,
    DeliveryFailed,
    Health,
    Inbound,
    Joined,
    Message,
    OwnerWrote,
    Person,
    Recalled,
    Reply,
)
from adapters.testing import AdapterContract, Heard, TestHost, running, until
from adapters.wechat_itchat.adapter import ItchatAdapter
from adapters.wechat_itchat.outgoing import MAX_CHARS, MOST_PIECES, OwnMessages, parts, pause
from adapters.wechat_itchat.people import People
from adapters.wechat_itchat.settings import ItchatSettings
from adapters.wechat_itchat.translate import newcomers, recalled, without_mention
from adapters.wechat_itchat.wire import Account, Contact, Group
from tests.adapters.itchat_far import ItchatFarEnd, Someone, revoke

MENTION = "\u2005"


@pytest.fixture
async def far(tmp_path: Path) -> AsyncIterator[ItchatFarEnd]:
    async with ItchatFarEnd(tmp_path / "private") as far:
        yield far


@pytest.fixture
async def closed(tmp_path: Path) -> AsyncIterator[ItchatFarEnd]:
    """A far end where nobody scans."""
    async with ItchatFarEnd(tmp_path / "private", auto_scan=False) as far:
        yield far


def reports(far: ItchatFarEnd) -> list[Health]:
    return far.hosts[-1].reports


async def told(far: ItchatFarEnd, state: str, words: str = "", after: int = 0) -> Health:
    """The first Health of `state` with `words` after the `after`th; waits for it."""

    def found() -> list[Health]:
        return [one for one in reports(far)[after:] if one.state == state and words in one.detail]

    await until(lambda: bool(found()))
    return found()[0]


async def started(far: ItchatFarEnd, heard: Heard, chat: str = "alice") -> Message:
    """Logged in, and `chat` is known by a first message."""
    await far.say("hi", chat=chat, person="alice")
    return await heard.next(Message)


class TestContract(AdapterContract):
    """What every adapter does."""


class TestSettings:
    def test_the_risk_must_be_accepted(self) -> None:
        with pytest.raises(ValidationError, match="accept_ban_risk = true") as refused:
            ItchatSettings()
        assert "block it for good" in str(refused.value)
        assert ItchatSettings(accept_ban_risk=True).human_like is False

    @pytest.mark.parametrize("language", ["en", "zh"])
    def test_the_settings_in_the_docs_are_all_there_are(self, language: str) -> None:
        text = (Path(__file__).parents[2] / "docs" / f"wechat.{language}.md").read_text("utf-8")
        (found,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
        (bot,) = tomllib.loads(found)["bots"]
        shown = bot["platforms"]["wechat"]
        assert ItchatSettings(**shown) == ItchatSettings(accept_ban_risk=True)
        assert set(shown) == set(ItchatSettings.model_fields)

    async def test_the_risk_is_told_at_every_start(self, far: ItchatFarEnd, caplog: pytest.LogCaptureFixture) -> None:
        async with running(far.adapter()):
            await far.attended()
        warning = next(one for one in caplog.records if one.levelno == logging.WARNING)
        assert "alt account that you can lose" in warning.getMessage()


class TestLogin:
    async def test_a_code_is_shown_scanned_and_confirmed(self, closed: ItchatFarEnd) -> None:
        async with running(closed.adapter()):
            shown = await told(closed, "login", "scan the code")
            assert shown.qr == "https://login.weixin.qq.com/l/code1=="
            closed.scan("scanned")
            assert (await told(closed, "login", "confirm on the phone")).qr == shown.qr
            closed.scan()
            await told(closed, "online")

    async def test_a_fresh_code_comes_only_after_the_old_expired_and_a_pause(self, closed: ItchatFarEnd) -> None:
        async with running(closed.adapter(qr_pause=0.4)):
            await until(lambda: closed.requests.count("login") >= 3)
            assert len(closed.codes) == 1
            expired = asyncio.get_running_loop().time()
            closed.scan("expired")
            await told(closed, "login", "expired; the next one comes in 0.4 s")
            await until(lambda: len(closed.codes) == 2)
            assert closed.codes[1][1] - expired >= 0.4
            await until(lambda: reports(closed)[-1].qr.endswith("/code2=="))

    def test_the_pause_is_fifteen_seconds_by_itself(self) -> None:
        assert ItchatSettings(accept_ban_risk=True).qr_pause == 15

    async def test_a_barred_account_is_told_of_and_may_try_again(self, far: ItchatFarEnd) -> None:
        far.barred = True
        async with running(far.adapter()) as heard:
            barred = await told(far, "offline", "barred from web logins")
            assert "wxsid" in barred.detail
            far.barred = False
            await told(far, "login", "barred")  # the next code says why the last one failed
            assert (await started(far, heard)).text == "hi"

    async def test_a_refused_account_is_told_of_and_may_try_again(self, far: ItchatFarEnd) -> None:
        far.init_refused = 1205
        async with running(far.adapter()) as heard:
            await told(far, "offline", "number 1205")
            far.init_refused = 0
            assert (await started(far, heard)).text == "hi"

    async def test_no_network_at_the_start_is_waited_out(self, far: ItchatFarEnd) -> None:
        await far.cut()
        async with running(far.adapter()) as heard:
            await told(far, "offline", "can't be reached")
            await far.mend()
            assert (await started(far, heard)).text == "hi"
            assert reports(far)[-1].state == "online"

    async def test_a_logout_by_the_phone_asks_for_a_scan_and_comes_back(self, far: ItchatFarEnd) -> None:
        async with running(adapter := far.adapter()) as heard:
            first = await started(far, heard)
            before = len(reports(far))
            far.auto_scan = False
            far.end_login()
            await told(far, "offline", "ended, by the phone", before)
            assert (await told(far, "login", "scan", before)).qr.endswith("/code2==")
            with pytest.raises(DeliveryFailed, match="not logged in"):
                await adapter.send(Reply("r1", first.chat, "hello"))
            far.scan()
            await told(far, "online", after=before)
            await far.say("again")
            again = await heard.next(Message, 1)
            assert (again.chat, again.person) == (first.chat, first.person)  # though the UserName is another
            assert far.logins == 2
            await adapter.send(Reply("r1", first.chat, "hello"))
            assert [one.text for one in far.shown()] == ["hello"]

    async def test_keys_are_neither_told_nor_logged(self, far: ItchatFarEnd, caplog: pytest.LogCaptureFixture) -> None:
        async with running(far.adapter()) as heard:
            await started(far, heard)
            await far.cut()
            await told(far, "offline")
        told_of = [one.detail for one in reports(far)] + [one.getMessage() for one in caplog.records]
        assert not any("sid1" in one or "211722515" in one for one in told_of)

    async def test_two_bots_share_nothing(self, far: ItchatFarEnd, tmp_path: Path) -> None:
        async with running(far.adapter()) as heard:
            await started(far, heard)
            async with ItchatFarEnd(tmp_path / "other") as other:
                other.people["alice"] = Someone("Alicia")
                async with running(adapter := other.adapter()) as others:
                    theirs = await started(other, others)
                    await far.say("to the first")
                    assert (await heard.next(Message, 1)).text == "to the first"
                    await adapter.send(Reply("r1", theirs.chat, "from the second"))
                    assert (len(other.sent), len(far.sent), len(others.all)) == (1, 0, 1)

    async def test_everything_ends_with_the_run(self, far: ItchatFarEnd) -> None:
        async with running(far.adapter()) as heard:
            await started(far, heard)
            assert any(one.name.startswith("wechat-") for one in threading.enumerate())
            ending = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - ending < 5  # the server holds the poll for 25 s
        assert not any(one.name.startswith("wechat-") for one in threading.enumerate())


class TestKeptLogin:
    async def test_a_restart_needs_no_scan_and_misses_nothing(self, far: ItchatFarEnd) -> None:
        async with running(far.adapter()) as heard:
            first = await started(far, heard)
            kept = far.folder / "login.pickle"
            await until((far.folder / "cursor.json").exists)
        assert {stat.S_IMODE(one.stat().st_mode) for one in far.folder.iterdir()} == {0o600}
        assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
        far.put("alice", "alice", 1, "while you were away")
        async with running(adapter := far.adapter()) as heard:
            away = await heard.next(Message)
            assert (away.text, away.chat) == ("while you were away", first.chat)
            await adapter.send(Reply("r1", away.chat, "back"))
            await told(far, "online")
        assert (len(far.codes), far.logins, len(heard.all)) == (1, 1, 1)
        assert all(one.state != "login" for one in reports(far))

    async def test_a_login_that_is_over_asks_for_a_scan(self, far: ItchatFarEnd) -> None:
        async with running(far.adapter()):
            await told(far, "online")
        far.end_login()
        async with running(far.adapter()):
            await told(far, "login", "ended")
            await told(far, "online")
        assert far.logins == 2

    async def test_what_is_not_stored_is_fetched_again(self, far: ItchatFarEnd) -> None:
        failures = iter([OSError("disk full")])
        heard = Heard()

        async def receive(inbound: Inbound) -> Any:
            if failure := next(failures, None):
                raise failure
            return await heard(inbound)

        task = asyncio.create_task(far.adapter().run(receive))
        await far.say("keep me")
        assert (await heard.next(Message)).text == "keep me"
        assert (await told(far, "offline", "could not be stored")).state == "offline"
        await told(far, "online", after=len(reports(far)) - 1)
        task.cancel()
        await asyncio.wait([task])
        assert len(heard.all) == 1

    async def test_what_was_under_way_at_the_end_comes_again(self, far: ItchatFarEnd) -> None:
        stuck = asyncio.Event()

        async def receive(inbound: Inbound) -> Any:
            stuck.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(far.adapter().run(receive))
        number = await far.say("not stored yet")
        await asyncio.wait_for(stuck.wait(), 20)
        assert not (far.folder / "cursor.json").exists()
        task.cancel()
        await asyncio.wait([task])
        async with running(far.adapter()) as heard:
            assert (await heard.next(Message)).id == number
        assert len(far.codes) == 1

    @pytest.mark.parametrize("mode", [0o620, 0o602])
    async def test_a_file_that_others_can_write_is_not_used(self, far: ItchatFarEnd, mode: int) -> None:
        async with running(far.adapter()):
            await told(far, "online")
        (far.folder / "login.pickle").chmod(mode)
        async with running(far.adapter()):
            assert "chmod go-w" in (await told(far, "login", "can be written by other users")).detail
            await told(far, "online")
        assert stat.S_IMODE((far.folder / "login.pickle").stat().st_mode) == 0o600  # of the new login

    async def test_a_file_of_somebody_else_is_not_used(
        self, far: ItchatFarEnd, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with running(far.adapter()):
            await told(far, "online")
        kept = far.folder / "login.pickle"
        whole = os.fstat

        def another(number: int) -> Any:
            found = whole(number)
            mine = (found.st_dev, found.st_ino) != (kept.stat().st_dev, kept.stat().st_ino)
            return found if mine else os.stat_result((*found[:4], found.st_uid + 1, *found[5:10]))

        monkeypatch.setattr(os, "fstat", another)
        async with running(far.adapter()):
            await told(far, "login", "belongs to another user")

    async def test_a_link_is_not_followed(self, far: ItchatFarEnd, tmp_path: Path) -> None:
        far.folder.mkdir(mode=0o700)
        (tmp_path / "planted").write_bytes(b"x")
        (far.folder / "login.pickle").symlink_to(tmp_path / "planted")
        async with running(far.adapter()):
            await told(far, "login", "remove it")

    async def test_a_folder_that_others_can_write_is_an_error(self, far: ItchatFarEnd) -> None:
        far.folder.mkdir()
        far.folder.chmod(0o777)
        with pytest.raises(AdapterError, match="chmod go-w"):
            await far.adapter().run(Heard())
        assert far.requests == []

    async def test_a_planted_pickle_calls_nothing(self, far: ItchatFarEnd, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> Any:
                return os.mkdir, (str(tmp_path / "called"),)

        far.folder.mkdir(mode=0o700)
        (far.folder / "login.pickle").write_bytes(pickle.dumps({"version": "1.4.1", "loginInfo": Evil()}))
        (far.folder / "login.pickle").chmod(0o600)
        async with running(far.adapter()):
            await told(far, "login", "can't be read")
            await told(far, "online")
        assert not (tmp_path / "called").exists()


class TestWhatArrives:
    @pytest.mark.parametrize(
        ("number", "fields", "kind"),
        [
            (3, {}, "image"),
            (47, {}, "sticker"),
            (34, {}, "voice"),
            (43, {}, "video"),
            (62, {}, "video"),
            (49, {"AppMsgType": 6, "FileName": "a.pdf"}, "file"),
            (49, {"AppMsgType": 8}, "sticker"),
            (49, {"AppMsgType": 5, "FileName": "a link"}, "other"),
            (49, {"AppMsgType": 2000}, "other"),
            (42, {}, "other"),
            (1, {"Url": "/map?x=1"}, "other"),
        ],
    )
    async def test_kinds(self, far: ItchatFarEnd, number: int, fields: dict[str, Any], kind: str) -> None:
        async with running(far.adapter()) as heard:
            await far.attended()
            far.put("alice", "alice", number, "<msg/>", **fields)
            got = await heard.next(Message)
            assert (got.kind, got.text, got.person.name) == (kind, "", "Alice")

    async def test_the_words_below_a_quote_are_text(self, far: ItchatFarEnd) -> None:
        async with running(far.adapter()) as heard:
            await far.attended()
            far.put("alice", "alice", 49, "<msg/>", AppMsgType=57, FileName="A &amp; B")
            await far.say("「Bot：which?」\n- - - - - - - - - - - - - - -\nthe second")
            await until(lambda: len(heard.all) == 2)
            assert [(one.text, one.kind) for one in heard.all] == [("A & B", "text"), ("the second", "text")]

    async def test_a_message_without_url_is_read_and_told_of(self, far: ItchatFarEnd) -> None:
        async with running(far.adapter()) as heard:
            await far.attended()
            far.put("alice", "alice", 1, "no url", without=("Url",))
            assert (await heard.next(Message)).text == "no url"
            assert "no Url" in (await told(far, "online", "itchat could not read")).detail
            await far.say("next")
            assert (await heard.next(Message, 1)).text == "next"

    async def test_a_message_of_nobody_is_told_of_and_left_out(self, far: ItchatFarEnd) -> None:
        async with running(far.adapter()) as heard:
            await far.attended()
            far.put("alice", "alice", 1, "whose?", without=("FromUserName",))
            await far.say("next")
            assert (await heard.next(Message)).text == "next"
            await told(far, "online", "left out")
            assert len(far.codes) == 1

    async def test_machines_are_not_heard(self, far: ItchatFarEnd) -> None:
        async with running(far.adapter()) as heard:
            await far.attended()
            far.put("news", "news", 1, "buy this")
            far.put("filehelper", "me", 1, "a note to myself")
            far.put("me", "me", 1, "to myself")
            far.put("me", "me", 51, "<msg><username>x</username></msg>")
            far.put("alice", "alice", 10000, "以上是打招呼的内容")
            await far.say("a person")
            assert (await heard.next(Message)).text == "a person"
            assert len(heard.all) == 1

    async def test_somebody_unknown_is_looked_up(self, far: ItchatFarEnd) -> None:
        async with running(far.adapter()) as heard:
            await far.attended()
            far.people["dave"] = Someone("Dave &amp; Co")
            await far.say("hello", chat="dave", person="dave")
            got = await heard.next(Message)
            assert (got.person.name, got.chat) == ("Dave &amp; Co", got.person.id)
            far.people["spam"] = Someone("Spam", official=True)
            await far.say("buy", chat="spam", person="spam")
            await far.say("again", chat="dave", person="dave")
            assert (await heard.next(Message, 1)).text == "again"

    async def test_the_owner_speaks_and_echoes_do_not(self, far: ItchatFarEnd) -> None:
        async with running(adapter := far.adapter()) as heard:
            got = await started(far, heard)

            async def echo_first() -> None:
                fetched = len(far.synced)
                far.put("alice", "me", 1, "mine", number=int(far.sent[-1].number))
                await until(lambda: len(far.synced) > fetched)

            far.answering = echo_first
            await adapter.send(Reply("r1", got.chat, "mine"))
            await far.owner_writes("mine")  # the same words, from the phone
            await far.owner_writes("let me", chat="club")
            await until(lambda: len(heard.all) == 3)
            first, second = (one for one in heard.all[1:] if isinstance(one, OwnerWrote))
            assert (first.chat, first.text, second.text) == (got.chat, "mine", "let me")
            assert second.chat == far.chat_id("club")
            assert first.person == second.person != got.person
            far.put("alice", "me", 3, "<msg/>")
            await far.say("next")
            await heard.next(Message, 3)
            assert len(heard.all) == 4

    async def test_a_recall_in_a_group_names_who_and_what(self, far: ItchatFarEnd) -> None:
        async with running(far.adapter()) as heard:
            number = await far.say("oops", chat="club", person="bob")
            got = await heard.next(Message)
            await far.recall(number, chat="club", person="bob")
            taken_back = await heard.next(Recalled)
            assert (taken_back.message, taken_back.chat, taken_back.person.id) == (got.id, got.chat, got.person.id)

    def test_recalls(self) -> None:
        assert recalled(revoke("6545152177546939934", "X")) == "6545152177546939934"
        assert recalled("<msgid>12</msgid><newmsgid>6545152177546939934</newmsgid>") == "6545152177546939934"
        assert recalled("<oldmsgid>17</oldmsgid>") == "17"
        assert recalled("<sysmsg type='other'/>") is None


class TestGroups:
    async def test_the_name_in_the_group_counts(self, far: ItchatFarEnd) -> None:
        far.cards["club", "me"] = "小助手"
        far.cards["club", "bob"] = "B & Co"
        far.people["bob"] = Someone("Bob", remark="that bore")  # nobody in the group shall read it
        async with running(far.adapter()) as heard:
            await far.attended()
            for text in (
                f"你好 @小助手{MENTION}在吗",
                "@小助手 在吗",
                "在吗 @Bot",
                "@Bot 在吗",
                "Bot 在吗",
                "@Bottom 在吗",
            ):
                far.put("club", "bob", 1, text)
            await until(lambda: len(heard.all) == 6)
            got = [(one.text, one.addressed) for one in heard.all if isinstance(one, Message)]
            assert got[:4] == [("你好 在吗", True), ("在吗", True), ("在吗", True), ("在吗", True)]
            assert got[4:] == [("Bot 在吗", False), ("@Bottom 在吗", False)]
            assert {one.person.name for one in heard.all if isinstance(one, Message)} == {"B & Co"}

    @pytest.mark.parametrize(
        ("text", "picked", "expected"),
        [
            (f"@Bot{MENTION}hi", False, ("hi", True)),
            (f"a @Bot{MENTION}b", False, ("a b", True)),
            ("a @Bot b", True, ("a b", True)),
            ("a @Bot b", False, ("a @Bot b", False)),
            ("hi @Bot", False, ("hi", True)),
            ("  @Bot", False, ("", True)),
            (f"@小B{MENTION}@Bot{MENTION}hi", False, ("hi", True)),
            ("@Botany is fun", False, ("@Botany is fun", False)),
        ],
    )
    def test_mentions(self, text: str, picked: bool, expected: tuple[str, bool]) -> None:
        assert without_mention(text, ("小B", "Bot", ""), picked) == expected

    async def test_the_reply_says_whom_it_is_for(self, far: ItchatFarEnd) -> None:
        async with running(adapter := far.adapter(human_like=True, typing_speed=1e6)) as heard:
            await far.say("hi", chat="club", person="bob", mention=True)
            got = await heard.next(Message)
            await adapter.send(Reply("r1", got.chat, "好的好的呀，我知道了", to=got.person))
            assert [one.text for one in far.shown("club")] == [f"@Bob{MENTION}好的好的呀", "我知道了"]
            await adapter.send(Reply("o1", got.chat, "哪个？", "e1", ("好，的", "不，行"), to=got.person))
            assert far.shown("club")[-1].text == f"@Bob{MENTION}哪个？\n\n1. 好，的\n\n2. 不，行"

    async def test_text_that_itchat_cannot_split_has_its_sender(self, far: ItchatFarEnd) -> None:
        async with running(far.adapter()) as heard:
            await far.attended()
            far.put("club", "", 1, f"{far.username('bob')}:\nhello")  # a bare line break, as some servers send
            got = await heard.next(Message)
            assert (got.text, got.person.id) == ("hello", far.person_id("bob"))

    @pytest.mark.parametrize(
        ("note", "names"),
        [
            ('"Bob"邀请"Carol"加入了群聊', ["Carol"]),
            ("“Bob”邀请“Carol、Dan”加入了群聊", ["Carol", "Dan"]),
            ('你邀请"Carol"加入了群聊', ["Carol"]),
            ('"Carol"通过扫描"Bob"分享的二维码加入群聊', ["Carol"]),
            (" “Carol”通过扫描你分享的二维码加入群聊", ["Carol"]),
            ('"Bob" invited "Carol" to the group chat', ["Carol"]),
            ('"Bob"邀请你加入了群聊', []),
            ('"Bob"修改群名为“加入了群聊”', []),
        ],
    )
    def test_notes_of_who_joined(self, note: str, names: list[str]) -> None:
        assert newcomers(note) == names

    async def test_a_newcomer_whose_name_another_has_is_not_told_of(self, far: ItchatFarEnd) -> None:
        async with running(far.adapter()) as heard:
            await far.attended()
            far.people["bob2"] = Someone("Bob", friend=False)
            await far.join(chat="club", person="bob2")
            await far.say("next")
            await heard.next(Message)
            assert not [one for one in heard.all if isinstance(one, Joined)]


class TestFriends:
    def ask(self, far: ItchatFarEnd) -> None:
        far.people["eve"] = Someone("Eve", friend=False)
        about = {"UserName": far.username("eve"), "NickName": "Eve", "Ticket": "t1"}
        far.put("fmessage", "fmessage", 37, "let me in", RecommendInfo=about, Ticket="t1")

    async def test_requests_are_left_for_the_phone(self, far: ItchatFarEnd) -> None:
        async with running(far.adapter()) as heard:
            await far.attended()
            self.ask(far)
            await far.say("next")
            await heard.next(Message)
            assert (far.accepted, len(heard.all)) == ([], 1)

    async def test_requests_are_accepted_where_that_is_set(self, far: ItchatFarEnd) -> None:
        async with running(adapter := far.adapter(accept_friends=True)) as heard:
            await far.attended()
            self.ask(far)
            joined = await heard.next(Joined)
            assert (joined.group, joined.person.name, joined.chat) == (False, "Eve", far.chat_id("eve"))
            assert (far.accepted[0]["Opcode"], far.accepted[0]["VerifyContent"]) == (3, "t1")
            await adapter.send(Reply("r1", joined.chat, "welcome"))
            assert far.shown("eve")[0].text == "welcome"

    async def test_a_friend_accepted_on_the_phone_is_told_of_once(self, far: ItchatFarEnd) -> None:
        async with running(far.adapter()) as heard:
            await far.attended()
            far.meet("eve", Someone("Eve"))
            joined = await heard.next(Joined)
            assert (joined.group, joined.chat, joined.person.id) == (False, far.chat_id("eve"), far.person_id("eve"))
            far.meet("eve", Someone("Eve", remark="E"))  # a change of a friend is no new friend
            far.meet("shop", Someone("Shop", official=True))
            far.meet("passer", Someone("Passer", friend=False))
            await far.say("next")
            await heard.next(Message)
            assert len(heard.all) == 2


class TestSending:
    async def test_pieces_go_out_as_a_person_sends_them(self, far: ItchatFarEnd) -> None:
        async with running(adapter := far.adapter(human_like=True, typing_speed=20.0, longest_pause=0.3)) as heard:
            got = await started(far, heard)
            sent = await adapter.send(Reply("r1", got.chat, "你好你好呀，今天怎么样？我很好的。", "e1", to=got.person))
            pieces = [one for one in far.sent if one.to == "alice"]
            assert [one.text for one in pieces] == ["你好你好呀", "今天怎么样？", "我很好的。"]
            assert sent.message_ids == tuple(one.number for one in pieces)
            assert pieces[1].at - pieces[0].at >= 0.3 - 0.02  # six characters, capped
            assert pieces[2].at - pieces[1].at >= 0.25 - 0.02

    async def test_a_chat_that_pauses_keeps_no_other_waiting(self, far: ItchatFarEnd) -> None:
        async with running(adapter := far.adapter(human_like=True, typing_speed=0.001, longest_pause=1e6)) as heard:
            alice = await started(far, heard)
            await far.say("hi", chat="bob", person="bob")
            bob = await heard.next(Message, 1)
            typing = asyncio.create_task(adapter.send(Reply("r1", alice.chat, "first piece，second piece")))
            await until(lambda: len(far.shown()) == 1)
            behind = asyncio.create_task(adapter.send(Reply("r2", alice.chat, "in turn")))
            await adapter.send(Reply("r3", bob.chat, "at once"))
            assert far.shown("bob")[0].text == "at once"
            assert [one.text for one in far.shown()] == ["first piece"]
            for task in (typing, behind):
                task.cancel()
            await asyncio.wait([typing, behind])

    async def test_a_retry_goes_on_where_it_failed(self, far: ItchatFarEnd) -> None:
        async with running(adapter := far.adapter(human_like=True, typing_speed=1e6)) as heard:
            got = await started(far, heard)
            reply = Reply("r1", got.chat, "one one，two two，three")

            async def refuse_the_next() -> None:
                far.send_answer = 1205

            far.answering = refuse_the_next
            with pytest.raises(DeliveryFailed) as failure:
                await adapter.send(reply)
            assert (failure.value.retry_after, failure.value.permanent) == (120.0, False)
            far.answering, far.send_answer = None, 0
            sent = await adapter.send(reply)
            assert [one.text for one in far.shown()] == ["one one", "two two", "three"]
            assert sent.message_ids == tuple(one.id for one in far.shown())
            assert await adapter.send(reply) == sent
            assert len(far.shown()) == 3

    async def test_what_looks_like_a_file_is_sent_as_words(self, far: ItchatFarEnd) -> None:
        async with running(adapter := far.adapter()) as heard:
            got = await started(far, heard)
            for number, text in enumerate(("@fil@/etc/passwd", "@img@x.png", "@vid@x", "@msg@x")):
                await adapter.send(Reply(f"r{number}", got.chat, text))
            assert [one.text for one in far.shown()] == ["@fil@/etc/passwd", "@img@x.png", "@vid@x", "@msg@x"]
            assert "webwxuploadmedia" not in far.requests

    async def test_who_was_not_met_in_this_login_is_waited_for(self, far: ItchatFarEnd) -> None:
        with pytest.raises(DeliveryFailed, match="not logged in"):
            await far.adapter().send(Reply("r1", "x", "hello"))
        async with running(adapter := far.adapter()):
            await far.attended()
            with pytest.raises(DeliveryFailed, match="not met") as failure:
                await adapter.send(Reply("r1", "x", "hello"))
            assert (failure.value.permanent, failure.value.retry_after) == (False, 600.0)

    def test_how_replies_are_cut(self) -> None:
        many = "，".join(["一二三四"] * (MOST_PIECES + 1))
        assert parts(Reply("r", "c", many), group=False, human_like=True) == [many]
        assert parts(Reply("r", "c", "好的呀，行的呀"), group=False, human_like=False) == ["好的呀，行的呀"]
        long = parts(Reply("r", "c", "字" * MAX_CHARS, to=Person("p", "Bob")), group=True, human_like=True)
        assert [len(one) for one in long] == [MAX_CHARS, len(f"@Bob{MENTION}")]
        offer = Reply("o", "c", "哪个？", "e", ("一，二，三", "四，五，六"))
        assert len(parts(offer, group=True, human_like=True)) == 1

    def test_pauses(self) -> None:
        settings = ItchatSettings(accept_ban_risk=True, typing_speed=5, longest_pause=3)
        assert (pause("12345", settings), pause("1" * 500, settings)) == (1.0, 3.0)

    def test_own_messages_are_known_after_a_restart(self, tmp_path: Path) -> None:
        path = tmp_path / "p" / "sent.json"
        own = OwnMessages(path)
        own.sending("c", "sent words")
        own.sent("c", "sent words", "17")
        own.sending("c", "lost words")  # no answer came
        own.sending("c", "refused words")
        own.refused("c", "refused words")
        assert "words" not in path.read_text("utf-8")
        own = OwnMessages(path)
        assert own.is_ours("17", "c", "whatever")
        assert own.is_ours("18", "c", "lost  words\n")
        assert not own.is_ours("19", "c", "lost words")  # once only
        assert own.is_ours("18", "c", "lost words")  # but again under the same number
        assert not own.is_ours("20", "c", "refused words")
        assert not own.is_ours("21", "other", "sent words")


class TestPeople:
    """Who keeps an id at the next login."""

    def book(self, tmp_path: Path) -> People:
        return People(tmp_path / "p" / "people.json")

    def login(self, people: People, name: str, *friends: Contact) -> None:
        people.enter(Account("key", name, "Bot"), friends)

    def known(self, tmp_path: Path, *contacts: Contact) -> list[str]:
        people = self.book(tmp_path)
        self.login(people, "first", *contacts)
        return [people.friend(one) for one in contacts]

    def again(self, tmp_path: Path, *contacts: Contact) -> tuple[list[str], People]:
        """The ids in a second login; all UserNames are new."""
        people = self.book(tmp_path)
        fresh = [dataclasses.replace(one, username=f"@again{number}") for number, one in enumerate(contacts)]
        self.login(people, "second", *fresh)
        return [people.friend(one) for one in fresh], people

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (Contact("@1", "Al", alias="al77"), Contact("@1", "New name", alias="al77", signature="s")),
            (Contact("@1", "Al", uin="9"), Contact("@1", "New name", uin="9")),
            (Contact("@1", "Al", remark="Boss"), Contact("@1", "New name", remark="Boss")),
            (Contact("@1", "Al", signature="s"), Contact("@1", "Al", signature="s")),
            (Contact("@1", "Al", signature="s"), Contact("@1", "Al", signature="s", remark="Boss")),
        ],
    )
    def test_they_are_known_by_what_lasts(self, tmp_path: Path, before: Contact, after: Contact) -> None:
        first = self.known(tmp_path, before)
        ids, people = self.again(tmp_path, after, Contact("@2", "Somebody"))
        assert ids[0] == first[0] != ids[1]
        assert people.unclear() == []

    @pytest.mark.parametrize(
        "impostors",
        [
            [Contact("@1", "Al", signature="s")],  # a remark name is the owner's to give, and it is missing
            [Contact("@1", "Al", remark="Other", signature="s")],
        ],
    )
    def test_who_has_a_remark_is_known_by_that_only(self, tmp_path: Path, impostors: list[Contact]) -> None:
        first = self.known(tmp_path, Contact("@1", "Al", remark="Boss", signature="s"))
        ids, _ = self.again(tmp_path, *impostors)
        assert not set(ids) & set(first)

    def test_another_account_of_the_same_look_is_another(self, tmp_path: Path) -> None:
        first = self.known(tmp_path, Contact("@1", "Al", alias="al77", signature="s"))
        ids, _ = self.again(tmp_path, Contact("@1", "Al", alias="evil", signature="s"))
        assert ids != first

    def test_two_who_look_alike_are_both_new_and_told_of(self, tmp_path: Path) -> None:
        first = self.known(tmp_path, Contact("@1", "Al", signature="s"))
        ids, people = self.again(tmp_path, Contact("@1", "Al", signature="s"), Contact("@2", "Al", signature="s"))
        assert len({*first, *ids}) == 3
        assert people.unclear() == ["Al", "Al"]
        assert people.unclear() == []

    def test_who_turns_up_later_takes_nobodys_place(self, tmp_path: Path) -> None:
        first = self.known(tmp_path, Contact("@1", "Al", signature="s"))
        people = self.book(tmp_path)
        self.login(people, "second")
        assert people.friend(Contact("@9", "Al", signature="s")) not in first

    def test_an_id_is_on_disk_before_it_is_given_and_no_name_is(self, tmp_path: Path) -> None:
        first = self.known(tmp_path, Contact("@1", "Alexandra", remark="Boss", signature="words"))
        kept = (tmp_path / "p" / "people.json").read_text("utf-8")
        assert first[0] in kept
        assert not any(word in kept for word in ("Alexandra", "Boss", "words"))
        people = self.book(tmp_path)  # the same login: a restart with a kept login
        self.login(people, "first")
        assert people.friend(Contact("@1", "Renamed")) == first[0]
        assert people.username(first[0]) == "@1"

    def club(self, username: str, name: str, members: Iterable[str], **more: str) -> Group:
        return Group(username, name, members=tuple(Contact(f"{username}{m}", m, friend=False) for m in members), **more)

    def test_groups_are_known_by_name_and_members(self, tmp_path: Path) -> None:
        people = self.book(tmp_path)
        self.login(people, "first")
        club = people.group(self.club("@@1", "Club", "abcd"))
        twin = people.group(self.club("@@2", "Twins", "wxyz"))
        other = people.group(self.club("@@3", "Twins", "wxyz"))
        people = self.book(tmp_path)
        self.login(people, "second")
        assert people.group(self.club("@@7", "Club", "vwxyz")) != club  # the name alone is not enough
        assert people.group(self.club("@@8", "Club", "abce")) == club
        assert people.group(self.club("@@9", "Twins", "wxyz")) not in (twin, other)
        assert people.unclear() == ["Twins"]

    def test_groups_are_known_by_a_number_that_lasts(self, tmp_path: Path) -> None:
        people = self.book(tmp_path)
        self.login(people, "first")
        club = people.group(self.club("@@1", "Club", "ab", uin="77@chatroom"))
        people = self.book(tmp_path)
        self.login(people, "second")
        assert people.group(self.club("@@8", "Renamed", "xy", uin="77@chatroom")) == club

    def test_members_are_known_by_their_name_in_the_group(self, tmp_path: Path) -> None:
        people = self.book(tmp_path)
        self.login(people, "first")
        club = self.club("@@1", "Club", "abc")
        first = [people.member(club, one) for one in club.members]
        people = self.book(tmp_path)
        self.login(people, "second")
        club = dataclasses.replace(club, username="@@2", members=(*club.members, Contact("@@new", "b", friend=False)))
        moved = [dataclasses.replace(one, username=f"@m{n}") for n, one in enumerate(club.members)]
        club = dataclasses.replace(club, members=tuple(moved))
        again = [people.member(club, one) for one in moved]
        assert (again[0], again[2]) == (first[0], first[2])
        assert first[1] not in again  # two are called b now
        assert people.unclear() == ["b", "b"]


class TestDoctor:
    async def test_it_says_what_to_do(self, far: ItchatFarEnd) -> None:
        settings = ItchatSettings(accept_ban_risk=True)
        host = TestHost("tester", far.folder)
        library, login, server = await ItchatAdapter.diagnose(settings, host)
        assert (library.right, login.right, server.right) == (True, False, True)
        assert "scan the code" in login.to_do
        async with running(far.adapter()):
            await told(far, "online")
        assert (await ItchatAdapter.diagnose(settings, host))[1].right
        await far.cut()
        far.folder.chmod(0o722)
        _, login, server = await ItchatAdapter.diagnose(settings, host)
        assert "chmod go-w" in login.to_do
        assert (server.right, "network" in server.to_do) == (False, True)
