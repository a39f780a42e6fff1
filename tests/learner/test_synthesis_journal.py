"""The journal keeps every answer across a crash, one run at a time, and holds no key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.corpus.synthesis.errors import ItemFailed, JournalError
from learner.corpus.synthesis.journal import Entry, Journal, read
from learner.corpus.synthesis.wire import Answer, Ask, Drawing
from learner.engine.base import ChatMessage

UTF8 = st.text(st.characters(exclude_categories=["Cs"]))
COUNT = st.integers(0, 10**6)
ANSWERS = st.builds(Answer, UTF8, UTF8, COUNT, COUNT, st.booleans())


@settings(deadline=None, max_examples=50)
@given(st.builds(Entry, UTF8, UTF8, ANSWERS) | st.builds(Entry, UTF8, UTF8, st.none(), UTF8))
def test_an_entry_is_one_line_and_comes_back_the_same(entry: Entry) -> None:
    line = entry.to_json()
    assert "\n" not in line
    assert Entry.from_json(line) == entry


def test_a_torn_last_line_is_passed_over_wherever_it_was_torn(tmp_path: Path) -> None:
    whole = "".join(
        Entry(f"k{i}", "dialogue", Answer(f"答{i}", "stop", 1, 2)).to_json() + "\n" for i in range(3)
    ).encode()
    for cut in range(0, len(whole), 3):
        path = tmp_path / f"{cut}.jsonl"
        path.write_bytes(whole[:cut])
        lines = whole[:cut].count(b"\n")
        with Journal(path) as journal:
            kept = {entry.key for entry in journal.entries()}
            assert len(kept) in (lines, lines + 1)  # one more where only the line's end was missing
            assert {f"k{i}" for i in range(lines)} <= kept
            journal.keep(Entry("new", "dialogue", Answer("新", "stop", 1, 1)))
        assert set(read(path)) == kept | {"new"}


def test_one_run_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.journal.jsonl"
    with Journal(path), pytest.raises(JournalError, match="another run"):
        Journal(path).__enter__()
    with Journal(path):
        pass


def test_another_file_is_not_taken_for_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "a.journal.jsonl"
    path.write_text('{"messages": []}\n', "utf-8")
    with pytest.raises(JournalError, match=r"a\.journal\.jsonl:1"), Journal(path):
        pass
    assert path.read_text("utf-8") == '{"messages": []}\n'


def test_what_was_refused_is_asked_again_only_when_told(tmp_path: Path) -> None:
    path = tmp_path / "a.journal.jsonl"
    with Journal(path) as journal:
        journal.keep(Entry("k", "dialogue", None, "HTTP 400: no"))
        with pytest.raises(ItemFailed, match="HTTP 400"):
            journal.answer("k")
    with Journal(path, retry_refused=True) as journal:
        assert journal.answer("k") is None


def test_a_key_names_model_messages_drawing_and_index() -> None:
    ask = Ask("dialogue", 3, (ChatMessage("user", "在吗"),), Drawing(1.0, 100, {"b": 1, "a": 2}))
    keys = {
        ask.key("m"),
        ask.key("n"),
        Ask("dialogue", 4, ask.messages, ask.drawing).key("m"),
        Ask("restyle", 3, ask.messages, ask.drawing).key("m"),
        Ask("dialogue", 3, (ChatMessage("system", "在吗"),), ask.drawing).key("m"),
        Ask("dialogue", 3, ask.messages, Drawing(0.9, 100, {"b": 1, "a": 2})).key("m"),
    }
    assert len(keys) == 6
    assert Ask("dialogue", 3, ask.messages, Drawing(1.0, 100, {"a": 2, "b": 1})).key("m") == ask.key("m")


def test_calls_that_a_kill_cut_short_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.journal.jsonl"
    with Journal(path) as journal:
        for key in "abcd":
            journal.begin(key)
        journal.keep(Entry("a", "dialogue", Answer('说", "under_way": 1', "stop", 1, 1)))
        journal.end("b")
        assert journal.interrupted == 0
    with Journal(path) as journal:
        assert journal.interrupted == 2
        journal.begin("c")
        journal.keep(Entry("c", "dialogue", Answer("c", "stop", 1, 1)))
    with Journal(path) as journal:
        assert journal.interrupted == 2
        assert {entry.key for entry in journal.entries()} == {"a", "c"}
