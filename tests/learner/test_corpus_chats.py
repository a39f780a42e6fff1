"""Chats become dialogues: per chat, in order, every row accounted for, whatever wrote them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.corpus.conversations import PILE, Pacing
from tests.learner.corpus_samples import HOUR, MINUTE, NOON, Wrote, imported, memotrace, said_in, telegram, weclone

WRITERS: dict[str, Callable[..., Path]] = {"memotrace": memotrace, "weclone": weclone, "telegram": telegram}
every_format = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
ASKED = Wrote("ann", "ann", "吃了吗？", NOON)
ANSWERED = Wrote("ann", "me", "吃了，你呢", NOON + MINUTE)


def file_of(write: Callable[..., Path], folder: Path) -> Path:
    return folder / ("result.json" if write is telegram else "messages.csv")


@every_format
def test_a_reply_stays_with_whom_it_was_said_to(write: Any, tmp_path: Path) -> None:
    said = [ASKED, Wrote("bob", "bob", "几点？", NOON + 20), ANSWERED, Wrote("bob", "me", "八点，老地方。", NOON + 90)]
    _, found = imported(write(file_of(write, tmp_path), said))
    assert [said_in([one]) for one in found] == [
        [("user", "吃了吗？"), ("assistant", "吃了，你呢")],
        [("user", "几点？"), ("assistant", "八点，老地方。")],
    ]


@every_format
def test_consecutive_messages_are_joined_and_kept_as_they_are(write: Any, tmp_path: Path) -> None:
    said = [ASKED, Wrote("ann", "ann", " 在,吗. ", NOON + 5), ANSWERED, Wrote("ann", "me", "“a”, b\nc。", NOON + 70)]
    report, found = imported(write(file_of(write, tmp_path), said))
    assert said_in(found) == [("user", "吃了吗？\n 在,吗. "), ("assistant", "吃了，你呢\n“a”, b\nc。")]
    assert (report.read, report.kept, report.replies) == (4, 4, 1)


@every_format
def test_a_silence_ends_a_conversation_wherever_midnight_is(write: Any, tmp_path: Path) -> None:
    midnight = NOON + 12 * HOUR - 30
    said = [
        Wrote("ann", "ann", "睡了吗", midnight),
        Wrote("ann", "me", "没呢", midnight + MINUTE),
        Wrote("ann", "ann", "早", midnight + 8 * HOUR),
        Wrote("ann", "me", "早呀", midnight + 8 * HOUR + MINUTE),
    ]
    path = write(file_of(write, tmp_path), said)
    assert [len(one.messages) for one in imported(path)[1]] == [2, 2]
    assert [len(one.messages) for one in imported(path, pacing=Pacing(gap=9 * HOUR))[1]] == [4]


@every_format
def test_a_late_reply_is_context_and_not_learned(write: Any, tmp_path: Path) -> None:
    late = Wrote("ann", "me", "刚看到", NOON + 3 * HOUR)
    said = [
        ASKED,
        late,
        late._replace(who="ann", text="没事", at=late.at + 9),
        late._replace(text="嗯", at=late.at + 20),
    ]
    path = write(file_of(write, tmp_path), said)
    report, (one,) = imported(path)
    assert one.learned == (3,)
    assert report.kept == 4
    report, found = imported(write(path, said[:2]))
    assert (found, report.reasons) == ([], {"unanswered": 1, "late reply": 1})
    assert imported(path, pacing=Pacing(reply_within=4 * HOUR))[1][0].learned is None


@every_format
def test_a_picture_is_dropped_or_labelled_and_no_reply_answers_what_is_not_there(write: Any, tmp_path: Path) -> None:
    picture = Wrote("ann", "ann", "", NOON + 5 * MINUTE, kind=3)
    said = [ASKED, ANSWERED, picture, picture._replace(who="me", text="真好看", at=NOON + 6 * MINUTE, kind=1)]
    path = write(file_of(write, tmp_path), said)
    report, found = imported(path)
    assert said_in(found) == [("user", "吃了吗？"), ("assistant", "吃了，你呢")]
    assert report.reasons == {"image": 1, "answers nothing": 1}
    report, found = imported(path, keep_media=True)
    assert said_in(found)[2:] == [("user", "[图片]"), ("assistant", "真好看")]
    assert report.dropped == 0


@every_format
def test_a_reply_of_nothing_but_a_label_is_not_learned(write: Any, tmp_path: Path) -> None:
    report, found = imported(
        write(file_of(write, tmp_path), [ASKED, ANSWERED._replace(kind=3, text="")]), keep_media=True
    )
    assert (found, report.reasons) == ([], {"unanswered": 1, "no words": 1})


@every_format
def test_an_empty_text_does_not_fail(write: Any, tmp_path: Path) -> None:
    empty = ASKED._replace(text="", at=NOON + 1)
    report, found = imported(write(file_of(write, tmp_path), [ASKED, empty, ANSWERED, empty._replace(text=" \n ")]))
    assert said_in(found) == [("user", "吃了吗？"), ("assistant", "吃了，你呢")]
    assert report.reasons == {"empty": 2}


@pytest.mark.parametrize("write", [memotrace, telegram])
def test_what_was_exported_twice_counts_once(write: Any, tmp_path: Path) -> None:
    path, again = file_of(write, tmp_path), tmp_path / "again"
    again.mkdir()
    write(path, [ASKED, ANSWERED])
    report, found = imported([path, write(file_of(write, again), [ASKED, ANSWERED])])
    assert said_in(found) == [("user", "吃了吗？"), ("assistant", "吃了，你呢")]
    assert (report.read, report.kept, report.reasons) == (4, 2, {"duplicate": 2})


def test_a_message_that_stands_twice_in_a_file_counts_once(tmp_path: Path) -> None:
    report, found = imported(memotrace(tmp_path / "m.csv", [ASKED, ASKED, ANSWERED]))
    assert (len(found[0].messages), report.reasons) == (2, {"duplicate": 1})


def test_the_same_word_twice_in_a_minute_is_no_repeat_where_ids_differ(tmp_path: Path) -> None:
    _, found = imported(weclone(tmp_path / "m.csv", [ASKED, ASKED, ANSWERED]))
    assert said_in(found)[0] == ("user", "吃了吗？\n吃了吗？")


@every_format
def test_ones_own_systematic_replies_are_capped(write: Any, tmp_path: Path) -> None:
    said = []
    for number in range(10):
        at = NOON + number * 24 * HOUR
        mine = "好的" if number % 2 else "好的！"
        said += [Wrote("ann", "ann", f"第{number}件事", at), Wrote("ann", "me", mine, at + MINUTE)]
    path = write(file_of(write, tmp_path), said)
    report, found = imported(path, cap=3)
    assert len(found) == 3
    assert report.reasons == {"said too often": 7, "unanswered": 7}
    assert len(imported(path, cap=0)[1]) == 10


def test_a_capped_reply_stays_as_context(tmp_path: Path) -> None:
    said = [ASKED, ANSWERED, ASKED._replace(at=NOON + 120), ANSWERED._replace(at=NOON + 180)]
    said += [ASKED._replace(text="嗯？", at=NOON + 240), ANSWERED._replace(text="真的", at=NOON + 300)]
    report, (one,) = imported(memotrace(tmp_path / "m.csv", said), cap=1)
    assert one.learned == (1, 5)
    assert report.kept == 6


def test_a_long_conversation_is_cut_and_every_reply_learned_once(tmp_path: Path) -> None:
    said = []
    for number in range(100):
        at = NOON + number * 2 * MINUTE
        said += [Wrote("ann", "ann", f"问{number}", at), Wrote("ann", "me", f"答{number}", at + MINUTE)]
    report, found = imported(memotrace(tmp_path / "m.csv", said), pacing=Pacing(longest=20, context=4))
    learned = [
        one.messages[place].content
        for one in found
        for place in (one.learned if one.learned is not None else range(1, len(one.messages), 2))
    ]
    assert learned == [f"答{number}" for number in range(100)]
    assert max(len(one.messages) for one in found) <= 20
    assert [one.content for one in found[1].messages[:4]] == [one.content for one in found[0].messages[-4:]]
    assert (report.kept, report.replies) == (200, 100)


def test_a_pile_of_messages_is_cut_to_its_last(tmp_path: Path) -> None:
    said = [Wrote("ann", "ann", str(number), NOON + number) for number in range(PILE + 5)]
    report, found = imported(memotrace(tmp_path / "m.csv", [*said, ANSWERED._replace(at=NOON + 900)]))
    assert said_in(found)[0][1].split("\n")[0] == "5"
    assert report.reasons == {"unanswered": 5}


def test_personal_data_is_masked_by_default(tmp_path: Path) -> None:
    path = memotrace(tmp_path / "m.csv", [ASKED, ANSWERED._replace(text="打13812345678，寄到中山路3号")])
    report, found = imported(path, keep_personal=False)
    assert said_in(found)[1] == ("assistant", "打[电话]，寄到[地址]")
    assert report.masked == {"phone": 1, "address": 1}
    assert said_in(imported(path)[1])[1] == ("assistant", "打13812345678，寄到中山路3号")


TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from("\n\r，。\",'"), max_size=12)
MESSAGES = st.lists(
    st.builds(
        Wrote,
        st.sampled_from(["ann", "bob", "cy"]),
        st.sampled_from(["me", "other"]),
        TEXTS,
        st.integers(NOON, NOON + 3 * 24 * HOUR),
        st.sampled_from([1, 1, 1, 3]),
    ),
    max_size=40,
)


@every_format
@settings(max_examples=25, deadline=None)
@given(said=MESSAGES, cap=st.integers(0, 2), longest=st.integers(2, 6), label=st.booleans())
def test_every_row_is_in_the_output_or_in_the_report(
    write: Any, said: list[Wrote], cap: int, longest: int, label: bool
) -> None:
    said = [
        one._replace(who=one.who if one.who == "me" else one.chat, text=one.text + f"#{place};")
        for place, one in enumerate(said)
    ]
    said = [one if one.kind == 1 else one._replace(text="") for one in said]
    with tempfile.TemporaryDirectory() as folder:
        path = write(file_of(write, Path(folder)), said)
        wishes = {"cap": cap, "pacing": Pacing(longest=longest, context=2), "keep_media": label}
        report, found = imported(path, format={v: k for k, v in WRITERS.items()}[write], **wishes)
    assert report.read == len(said)
    shown = "\n".join(text for _, text in said_in(found))
    texts = [one.text for one in said if one.kind == 1]
    kept = [text for text in texts if any(text in line for _, line in said_in(found))]
    if not label:
        assert report.kept == len(kept), shown
    for one in found:
        roles = [message.role for message in one.messages]
        assert all(first != second for first, second in pairwise(roles))
        assert roles[-1] == "assistant"
        chats = {
            wrote.chat for wrote in said if wrote.kind == 1 and wrote.text in "\n".join(t for _, t in said_in([one]))
        }
        assert len(chats) <= 1 or label
