"""Forgetting a person leaves nothing of them, and takes no more than that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from store_samples import PLACE, Scene

from learner.engine.base import ChatMessage
from learner.store import Store
from learner.store.forget import quotes, scrub
from learner.store.rows import Known, Place, RunRow

SECRET = "my cat is called Mandarin"
SECRET_ZH = "我的猫叫橘子先生呀"
GROUP = Place("bot", "web", "group")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/n.db")
    yield store
    store.close()


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_no_file_holds_a_word_of_the_forgotten(store: Store, tmp_path: Path) -> None:
    scene = Scene(store)
    shown = scene.talk(SECRET, f"so {SECRET}", SECRET_ZH)
    scene.correct(shown.id, f"I said {SECRET_ZH}")
    store.mark_sent(f"out-{shown.id}", ["p1"])
    store.reset(PLACE, scene.tick())
    store.note_person(Known("bot", "web", "ann", "Ann Mandarin", owner=False, teacher=True))
    store.add_run(RunRow(1, "default", "refused", 1.0, 2.0, {}, {"sample": [SECRET]}))
    kept = Scene(store, place=Place("bot", "web", "bens"))
    kept.choose(kept.talk("hello", "yes", "no", person="ben").id, "1", "web:ben")
    assert SECRET.encode() in bytes_of(tmp_path)
    forgotten = store.forget("web:ann")
    left = bytes_of(tmp_path)
    for words in (SECRET, SECRET_ZH, "Mandarin", "橘子"):
        assert words.encode() not in left
    assert forgotten.files_clean
    assert forgotten.exchanges == {shown.id}
    assert forgotten.rows["candidates"] == 2
    assert forgotten.rows["resets"] == 1
    assert store.chat_log(PLACE, 9) == []
    assert store.known("bot", "web", "ann") is None
    assert len(store.records("default").pairs) == 1
    assert kept.history() == ["hello", "yes"]


def test_prompts_that_quote_the_forgotten_do_not_train(store: Store, tmp_path: Path) -> None:
    scene = Scene(store, place=GROUP)
    before = scene.talk("hi all", "welcome", person="ben")
    scene.talk(SECRET, "what a lovely name", person="ann")
    quoting = (ChatMessage("user", f"ann: {SECRET}"), ChatMessage("user", "ben: what did she say?"))
    after = scene.talk("what did she say?", f"she said {SECRET}", person="ben", prompt=quoting)
    for exchange in (before, after):
        scene.say(exchange.id, "rating", "good", "web:ben")
    forgotten = store.forget("web:ann")
    assert forgotten.tainted == 1
    assert after.id in forgotten.exchanges
    assert before.id not in forgotten.exchanges
    records = store.records("default")
    assert [rating.completion for rating in records.ratings] == ["welcome"]
    assert records.left_out == {"no_exchange": 1}
    assert SECRET.encode() not in bytes_of(tmp_path)
    assert scene.history() == ["hi all", "welcome", "what did she say?", "she said …"]


def test_a_forgotten_teachers_words_leave_other_peoples_history(store: Store, tmp_path: Path) -> None:
    scene = Scene(store, place=GROUP)
    shown = scene.talk("hi", "one", person="ben")
    scene.correct(shown.id, SECRET, "web:ann")
    assert scene.history() == ["hi", SECRET]
    forgotten = store.forget("web:ann")
    assert scene.history() == ["hi", "one"]
    assert forgotten.exchanges == {shown.id}
    assert store.feedback("default") == []
    assert SECRET.encode() not in bytes_of(tmp_path)


def test_who_has_the_same_id_elsewhere_is_somebody_else(store: Store) -> None:
    other = Scene(store, place=Place("bot", "telegram", "c"))
    other.talk("hello", "yes", person="ann")
    Scene(store).talk("hi", "one", person="ann")
    store.forget("web:ann")
    assert other.history() == ["hello", "yes"]


def test_forgetting_a_stranger_does_nothing(store: Store) -> None:
    Scene(store).talk("hi", "one")
    forgotten = store.forget("web:nobody")
    assert (forgotten.rows, forgotten.exchanges, forgotten.tainted) == ({}, frozenset(), 0)


def test_a_reader_in_the_way_is_reported(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learner.store.database.PRAGMAS", ("PRAGMA busy_timeout=50",))
    hasty = Store(f"sqlite:///{tmp_path}/n.db")
    Scene(hasty).talk(SECRET, "one")
    reader = Store(f"sqlite:///{tmp_path}/n.db")
    with reader._database.read() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM turns").scalar()
        assert not hasty.forget("web:ann").files_clean
    assert hasty.forget("web:ann").files_clean
    assert SECRET.encode() not in bytes_of(tmp_path)
    hasty.close()
    reader.close()


@pytest.mark.parametrize(
    ("content", "text", "quoted"),
    [
        ("ann: 好", "好", True),
        ("你好吗", "好", False),
        ("一\nann：好", "好", True),
        ("she said it is raining now", "it is raining", True),
        ("", "好", False),
    ],
)
def test_short_words_are_quotes_only_as_whole_lines(content: str, text: str, quoted: bool) -> None:
    assert quotes(content, [text]) is quoted


def test_scrubbing_reaches_into_json() -> None:
    value = {"a": ["x my long secret y", 1], "b": None}
    assert scrub(value, ["my long secret", "x"]) == {"a": ["x … y", 1], "b": None}
