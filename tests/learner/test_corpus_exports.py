"""What is peculiar to each export of chats: MemoTrace, WeClone and Telegram as they really write."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.corpus.readers import Reading, Unreadable, detect
from learner.corpus.readers.csv_rows import csv_rows
from learner.corpus.rows import Dropped
from tests.learner.corpus_samples import MEMOTRACE, MINUTE, NOON, WECLONE, Wrote, imported, memotrace, said_in, telegram

ASKED = Wrote("ann", "ann", "吃了吗？", NOON)
ANSWERED = Wrote("ann", "me", "吃了，你呢", NOON + MINUTE)
FIELDS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\ufeff"))
TALK = [("user", "吃了吗？"), ("assistant", "吃了，你呢")]


def rows_to(path: Path, rows: list[list[Any]], head: tuple[str, ...] = MEMOTRACE) -> Path:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return path


def row(talker: int, mine: int, at: int, text: str, *names: str, kind: int = 1, sub: int = 0) -> list[Any]:
    return [1, talker, kind, sub, mine, NOON + at, 0, text, "", *names]


# MemoTrace ----------------------------------------------------------------------------------


@pytest.mark.parametrize("remarks", [True, False])
def test_a_peer_without_a_remark_is_not_lost(tmp_path: Path, remarks: bool) -> None:
    report, found = imported(memotrace(tmp_path / "m.csv", [ASKED, ANSWERED], remarks=remarks))
    assert (said_in(found), report.dropped) == (TALK, 0)


def test_two_chats_of_one_number_are_told_apart_by_their_names(tmp_path: Path) -> None:
    rows = [
        row(7, 0, 0, "在吗", "安", "ann", "安"),
        row(7, 0, 10, "几点", "", "bob", "bob"),
        row(7, 1, 20, "在", "安", "ann", "我"),
        row(7, 1, 30, "八点", "", "bob", "我"),
    ]
    assert [said_in([one]) for one in imported(rows_to(tmp_path / "m.csv", rows))[1]] == [
        [("user", "在吗"), ("assistant", "在")],
        [("user", "几点"), ("assistant", "八点")],
    ]


def test_the_export_of_one_private_chat_has_shorter_rows(tmp_path: Path) -> None:
    rows = [row(7, 0, 0, "在吗"), row(7, 1, 20, "在")]
    assert said_in(imported(rows_to(tmp_path / "m.csv", rows))[1]) == [("user", "在吗"), ("assistant", "在")]


def test_the_export_of_one_group_names_who_speaks(tmp_path: Path) -> None:
    rows = [
        row(7, 0, 0, "谁来", "安", "ann", "wxid_a"),
        row(7, 1, 20, "我来", "", "自己", "wxid_me"),
        row(7, 0, 40, "好", "", "bob", "wxid_b"),
        row(7, 0, 50, "几点", "安", "ann", "wxid_a"),
        row(7, 1, 60, "八点", "", "自己", "wxid_me"),
    ]
    path = rows_to(tmp_path / "m.csv", rows)
    report, found = imported(path)
    assert said_in(found) == [("user", "谁来"), ("assistant", "我来")]
    assert report.reasons == {"not said to me": 2, "answers nobody surely": 1}
    labelled = said_in(imported(path, groups="labelled")[1])
    assert labelled[2] == ("user", "wxid_b: 好\nwxid_a: 几点")
    assert imported(path, groups="drop")[0].reasons == {"group chat": 5}


def test_kinds_and_quotes(tmp_path: Path) -> None:
    quoted = "<msg><appmsg><title>好 &amp; 快</title><type>57</type></appmsg></msg>"
    rows = [
        row(7, 0, 0, "在吗"),
        row(7, 1, 5, quoted, kind=49, sub=57),
        row(7, 0, 9, "<msg/>", kind=47),
        row(7, 0, 9, "", kind=49, sub=57),
        row(7, 0, 9, "", kind=49, sub=2000),
        row(7, 0, 9, "撤回了一条消息", kind=10000),
        row(7, 0, 9, "?", kind=1234),
    ]
    report, found = imported(rows_to(tmp_path / "m.csv", rows))
    assert said_in(found) == [("user", "在吗"), ("assistant", "好 & 快")]
    assert report.reasons == {"sticker": 1, "quote": 1, "money": 1, "system message": 1, "other": 1}


def test_malformed_rows_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    good = [",".join(map(str, row(7, mine, at, text, "r", "n", "s"))) for mine, at, text in ((0, 0, "a"), (1, 9, "b"))]
    bad = [
        '1,7,1,0,0,1700000000,0,"never closed',
        "1,2,3",
        "x,7,one,0,0,1,0,secret",
        "x,7,1,0,yes,1,0,secret",
        'a,"b"c,d',
    ]
    path.write_text("\n".join([",".join(MEMOTRACE), *bad, *good]) + "\n", "utf-8")
    report, found = imported(path)
    assert said_in(found) == [("user", "a"), ("assistant", "b")]
    assert (report.read, report.kept, report.reasons) == (7, 2, {"malformed": 5})
    assert [(one.file, one.line) for one in report.faults] == [("m.csv", line) for line in range(2, 7)]
    assert "secret" not in repr(report.faults)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    said = [ASKED, *(ASKED._replace(text="天气不错，出去走走。", at=NOON + number) for number in range(9)), ANSWERED]
    report, found = imported(memotrace(tmp_path / "m.csv", said, encoding))
    assert found[0].messages[0].content.startswith("吃了吗？\n天气不错，")
    assert report.dropped == 0


def test_a_broken_byte_costs_its_row_only(tmp_path: Path) -> None:
    path = memotrace(tmp_path / "m.csv", [ASKED, ASKED._replace(text="坏", at=NOON + 5), ANSWERED], "utf-8")
    path.write_bytes(path.read_bytes().replace("坏".encode(), b"\xe5\x9d"))
    report, found = imported(path)
    assert said_in(found) == TALK
    assert (report.faults[0].line, report.reasons) == (3, {"malformed": 1})


def test_a_huge_field_and_half_a_character(tmp_path: Path) -> None:
    _, found = imported(memotrace(tmp_path / "m.csv", [ASKED._replace(text="长" * 300_000), ANSWERED]))
    assert len(found[0].messages[0].content) == 300_000
    path = telegram(tmp_path / "r.json", [ASKED, ANSWERED])
    path.write_text(path.read_text("utf-8").replace("你呢", "\\ud83d"), "utf-8")
    assert said_in(imported(path)[1])[1] == ("assistant", "吃了，\ufffd")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(FIELDS, min_size=1, max_size=4), max_size=8))
def test_csv_rows_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]
) -> None:
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)
    assert [one[1] for one in csv_rows(path) if not isinstance(one, Dropped)] == rows


# WeClone ------------------------------------------------------------------------------------


def test_weclone_rooms_replies_and_times(tmp_path: Path) -> None:
    rows = [
        [1, 11, "Text", 0, "wxid_a", "", "hello", "", "2024/10/4 11:42"],
        [2, 12, "引用回复", 1, "me", "", "hi\n\n[引用](2024-10-04 11:42:00)Ann:hello", "", "2024-10-04 11:42:31"],
        [3, 13, "动画表情", 0, "wxid_a", "", "", "", "2024-10-04 11:43:00"],
        [4, 14, "系统通知", 0, "wxid_a", "", "x", "", "2024-10-04 11:43:00"],
        [5, 15, "文本", 0, "wxid_a", "", "x", "", "yesterday"],
    ]
    report, (one,) = imported(rows_to(tmp_path / "m.csv", rows, WECLONE), reading=Reading(zone=None))
    assert said_in([one]) == [("user", "hello"), ("assistant", "hi")]
    assert report.reasons == {"sticker": 1, "system message": 1, "malformed": 1}
    assert report.faults[0].line == 8  # the reply takes three lines


def test_a_weclone_folder_is_one_chat(tmp_path: Path) -> None:
    ann, bob = tmp_path / "ann", tmp_path / "bob"
    ann.mkdir()
    bob.mkdir()
    times = [f"2024-10-04 11:42:0{number}" for number in range(4)]
    paths = [
        rows_to(ann / "1.csv", [[1, 1, "文本", 0, "a", "", "q", "", times[0]]], WECLONE),
        rows_to(bob / "1.csv", [[1, 2, "文本", 0, "b", "", "Q", "", times[1]]], WECLONE),
        rows_to(ann / "2.csv", [[1, 3, "文本", 1, "me", "", "r", "", times[2]]], WECLONE),
        rows_to(bob / "2.csv", [[1, 4, "文本", 1, "me", "", "R", "", times[3]]], WECLONE),
    ]
    assert [said_in([one]) for one in imported(paths)[1]] == [
        [("user", "q"), ("assistant", "r")],
        [("user", "Q"), ("assistant", "R")],
    ]


# Telegram -----------------------------------------------------------------------------------


def message(who: str, text: Any, at: int, **more: Any) -> dict[str, Any]:
    return {
        "id": at,
        "type": "message",
        "date_unixtime": str(NOON + at),
        "from": who,
        "from_id": f"user{who}",
        "text": text,
    } | more


def chat_to(path: Path, messages: list[Any], kind: str = "personal_chat") -> Path:
    path.write_text(json.dumps({"name": "x", "type": kind, "id": "ann", "messages": messages}, indent=1), "utf-8")
    return path


def test_a_telegram_text_may_be_a_list_and_forwards_are_nobodys_words(tmp_path: Path) -> None:
    messages = [
        message("ann", ["look: ", {"type": "link", "text": "https://x.org"}, ", ok?"], 0),
        message("me", "forwarded words", 5, forwarded_from="Bob"),
        message("me", "of someone gone", 6, forwarded_from=None),
        {"id": 7, "type": "service", "action": "phone_call"},
        message("me", [], 8),
        message("me", "nice", 9),
        message("me", {"no": 1}, 10),
        message("me", "no time", 11) | {"date_unixtime": ""},
    ]
    report, found = imported(chat_to(tmp_path / "result.json", messages))
    assert said_in(found) == [("user", "look: https://x.org, ok?"), ("assistant", "nice")]
    assert report.reasons == {"forwarded": 2, "system message": 1, "empty": 1, "malformed": 2}
    lines = (tmp_path / "result.json").read_text().splitlines()
    assert [lines[one.line - 1].strip() for one in report.faults] == ["{", "{"]


def test_what_is_said_about_a_forward_answers_nothing_that_is_there(tmp_path: Path) -> None:
    messages = [
        message("ann", "hi", 0),
        message("me", "hello", 5),
        message("ann", "an article", 10, forwarded_from="x"),
        message("me", "well written", 20),
    ]
    for label in (False, True):
        report, found = imported(chat_to(tmp_path / "r.json", messages), keep_media=label)
        assert said_in(found) == [("user", "hi"), ("assistant", "hello")]
        assert report.reasons == {"forwarded": 1, "answers nothing": 1}


def test_a_caption_is_text(tmp_path: Path) -> None:
    path = chat_to(tmp_path / "r.json", [message("ann", "my cat", 0, photo="x.jpg"), message("me", "cute", 5)])
    assert said_in(imported(path)[1])[0] == ("user", "my cat")
    assert said_in(imported(path, keep_media=True)[1])[0] == ("user", "[图片]my cat")


def test_channels_and_bots_are_no_conversations(tmp_path: Path) -> None:
    for kind, reason in (
        ("bot_chat", "chat with a bot"),
        ("saved_messages", "saved messages"),
        ("public_channel", "channel"),
    ):
        report, found = imported(chat_to(tmp_path / "r.json", [message("x", "a", 0), message("me", "b", 1)], kind))
        assert (found, report.reasons) == ([], {reason: 2})


def test_a_group_needs_to_know_who_i_am(tmp_path: Path) -> None:
    path = chat_to(tmp_path / "r.json", [message("ann", "a", 0), message("me", "b", 1)], "private_group")
    with pytest.raises(Unreadable, match="--me"):
        imported(path)
    for name in ("me", "userme"):
        assert said_in(imported(path, reading=Reading(me=(name,)))[1]) == [("user", "a"), ("assistant", "b")]


def test_in_a_group_a_reply_goes_to_whom_it_quotes_or_names(tmp_path: Path) -> None:
    messages = [
        message("ann", "who has the key", 0),
        message("bob", "who is late", 10),
        message("me", "the key is here", 20, reply_to_message_id=0),
        message("ann", "thanks", 30),
        message("bob", "@me and me?", 40),
        message("me", "you are late", 50),
        message("cy", "hi", 60),
        message("ann", "hi", 70),
        message("me", "@cy hello", 80),
        message("me", "all", 90),
    ]
    path = chat_to(tmp_path / "r.json", messages, "private_group")
    report, found = imported(path, reading=Reading(me=("me",)))
    assert [said_in([one]) for one in found] == [
        [("user", "who has the key"), ("assistant", "the key is here")],
        [("user", "@me and me?"), ("assistant", "you are late")],
        [("user", "hi"), ("assistant", "@cy hello\nall")],
    ]
    assert report.reasons == {"not said to me": 3}


def test_a_broken_export_gives_what_can_be_read(tmp_path: Path) -> None:
    path = chat_to(tmp_path / "r.json", [message("ann", "a", 0), message("me", "b", 1), message("ann", "c", 2)])
    path.write_text(path.read_text("utf-8").replace('"text": "c"', '"text" "c"'), "utf-8")
    report, found = imported(path)
    assert said_in(found) == [("user", "a"), ("assistant", "b")]
    assert report.reasons == {"malformed": 1}
    whole = path.read_text("utf-8")
    path.write_text(whole[: whole.index('"b"')], "utf-8")
    report, found = imported(path, format="telegram")
    assert (report.read, report.reasons["malformed"]) == (2, 1)


def test_files_are_known_by_what_is_in_them(tmp_path: Path) -> None:
    assert detect(memotrace(tmp_path / "a", [ASKED])) == "memotrace"
    assert detect(telegram(tmp_path / "b", [ASKED])) == "telegram"
    assert detect(rows_to(tmp_path / "c", [], WECLONE)) == "weclone"
    (tmp_path / "d").write_text("a,b\n1,2\n")
    (tmp_path / "e").write_text("")
    for name in ("d", "e"):
        with pytest.raises(Unreadable, match=name):
            detect(tmp_path / name)
    with pytest.raises(Unreadable, match="StrContent"):
        imported(tmp_path / "d", format="memotrace")
