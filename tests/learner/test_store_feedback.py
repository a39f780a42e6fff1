"""Feedback: the newest counts, a retract cancels, and nothing lands on the wrong text."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import HOUR, PLACE, Scene

from learner.deriving import derive
from learner.store import ExchangeNotReady, Store
from learner.store.rows import NewFeedback, OutboxDraft, Place
from learner.what_stands import newest_of_each

CHATS = itertools.count()


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    store = Store("sqlite://")
    yield store
    store.close()


@pytest.fixture
def scene(store: Store) -> Scene:
    return fresh_scene(store)


def fresh_scene(store: Store) -> Scene:
    """A chat and a mind that no test has used: one database serves them all."""
    chat = f"chat{next(CHATS)}"
    return Scene(store, place=Place("bot", "web", chat), mind=chat)


def test_feedback_answers_its_inbox_row_once(scene: Scene) -> None:
    shown = scene.talk("hi", "one", "two")
    row = scene.arrive("2")
    fed = NewFeedback(shown.id, "web:ann", True, "choice", "2", "", scene.tick(), keep=2, offer="chosen")
    thanks = OutboxDraft(f"thanks-{shown.id}", scene.place, {"text": "thanks"})
    first = scene.store.add_feedback(row.id, fed, [thanks])
    assert scene.store.add_feedback(row.id, fed, [thanks]) == first
    assert len(scene.store.feedback(scene.mind)) == 1
    assert [out.draft.id for out in scene.store.outbox(row.id)] == [thanks.id]
    assert row.id not in [waiting.id for waiting in scene.store.waiting()]


def test_a_choice_becomes_the_history(scene: Scene) -> None:
    shown = scene.talk("hi", "one", "two")
    scene.choose(shown.id, "2")
    assert scene.history() == ["hi", "two"]
    after = scene.store.exchange(shown.id)
    assert after is not None
    assert (after.offer, after.kept) == ("chosen", 2)


def test_a_late_choice_leaves_a_history_that_moved_on(scene: Scene) -> None:
    shown = scene.talk("hi", "one", "two")
    scene.talk("and?", "three")
    scene.choose(shown.id, "2")
    assert scene.history() == ["hi", "one", "and?", "three"]
    assert [pair.chosen for pair in scene.store.records(scene.mind).pairs] == ["two"]


def test_taking_a_choice_back_reopens_the_offer(scene: Scene) -> None:
    shown = scene.talk("hi", "one", "two")
    scene.choose(shown.id, "2")
    scene.say(shown.id, "retract")
    assert scene.history() == ["hi", "one"]
    assert scene.store.open_offer(scene.place, "ann", scene.now) == shown
    assert scene.store.latest_feedback(scene.place, "web:ann") is None


def test_taking_back_late_does_not_reopen(scene: Scene) -> None:
    shown = scene.talk("hi", "one", "two")
    scene.choose(shown.id, "2")
    scene.now += HOUR
    scene.say(shown.id, "retract")
    view = scene.store.exchange(shown.id)
    assert view is not None
    assert view.offer == "expired"
    gone_on = scene.talk("hi", "one", "two")
    scene.choose(gone_on.id, "1")
    scene.talk("and?", "three")
    scene.say(gone_on.id, "retract")
    view = scene.store.exchange(gone_on.id)
    assert view is not None
    assert view.offer == "closed"


def test_undo_goes_back_one_exchange_at_a_time(scene: Scene) -> None:
    first, second = scene.talk("a", "one"), scene.talk("b", "two")
    scene.say(first.id, "rating", "good")
    scene.say(second.id, "rating", "bad")
    scene.say(second.id, "rating", "good", teacher="web:ben")
    for expected in (second.id, first.id):
        last = scene.store.latest_feedback(scene.place, "web:ann")
        assert last is not None
        assert last.exchange == expected
        scene.say(last.exchange, "retract")
    assert scene.store.latest_feedback(scene.place, "web:ann") is None
    assert scene.store.latest_feedback(scene.place, "web:ben") is not None


def test_an_unfinished_reply_takes_no_feedback(scene: Scene) -> None:
    exchange = scene.begin(scene.arrive("hi"))
    with pytest.raises(ExchangeNotReady, match="generating"):
        scene.say(exchange, "rating", "good")


def test_minds_do_not_learn_from_each_other(scene: Scene) -> None:
    scene.say(scene.talk("hi", "one").id, "rating", "good")
    assert len(scene.store.records(scene.mind).ratings) == 1
    assert scene.store.records("another").ratings == ()
    assert scene.store.feedback("another") == []


def test_stats_count_what_stands(scene: Scene) -> None:
    offers = [scene.talk(f"q{number}", f"a{number}", f"b{number}") for number in range(5)]
    for offer, value in zip(offers[:3], ("1", "tie", "both_bad"), strict=True):
        scene.choose(offer.id, value)
    scene.choose(offers[3].id, "2", trusted=False)
    single = scene.talk("q", "a")
    scene.say(single.id, "rating", "good")
    scene.correct(single.id, "better")
    scene.say(scene.talk("r", "a").id, "rating", "bad", teacher="web:ben")
    scene.say(offers[0].id, "retract")
    stats = scene.store.stats(scene.mind)
    assert stats == {
        "exchanges": 7,
        "offers": 5,
        "expired": 0,
        "closed": 2,
        "choices": 0,
        "ties": 1,
        "both_bad": 1,
        "ratings_good": 0,
        "ratings_bad": 1,
        "corrections": 1,
        "retracted": 1,
        "untrusted": 1,
        "by_teacher": {"web:ann": 3, "web:ben": 1},
        "pairs": 1,
        "ratings": 3,
        "left_out": {"retracted": 1, "untrusted": 1},
        "imported": {},
    }


Step = tuple[str, str]  # what is done, by whom
DOINGS = ["1", "2", "tie", "both_bad", "good", "bad", "words", "retract", "restart-reading"]
STEPS = st.lists(st.tuples(st.sampled_from(DOINGS), st.sampled_from(["web:ann", "web:ben"])), max_size=8)


def do(scene: Scene, exchange: str, step: Step) -> None:
    doing, teacher = step
    if doing in ("good", "bad"):
        scene.say(exchange, "rating", doing, teacher)
    elif doing == "words":
        scene.correct(exchange, f"words of {teacher}", teacher)
    elif doing == "retract":
        scene.say(exchange, "retract", "", teacher)
    elif doing != "restart-reading":
        scene.choose(exchange, doing, teacher)


def expected_history(steps: list[Step]) -> str:
    """The plain rule: the newest word about the text that was not taken back, else candidate 1."""
    text, standing = "one", list[Step]()
    for doing, teacher in steps:
        if doing == "retract":
            standing = [step for step in standing if step[1] != teacher]
        else:
            standing.append((doing, teacher))
    for doing, teacher in standing:
        text = {"1": "one", "2": "two", "words": f"words of {teacher}"}.get(doing, text)
    return text


def last_words(steps: list[Step]) -> dict[str, str]:
    last = {teacher: doing for doing, teacher in steps if doing != "restart-reading"}
    return {teacher: doing for teacher, doing in last.items() if doing != "retract"}


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_any_sequence_of_feedback_ends_as_the_rule_says(store: Store, steps: list[Step]) -> None:
    scene = fresh_scene(store)
    shown = scene.talk("hi", "one", "two")
    for step in steps:
        do(scene, shown.id, step)
    assert scene.history() == ["hi", expected_history(steps)]
    words = last_words(steps)
    standing = {
        one.teacher: (one.correction and "words") or one.value
        for one in newest_of_each(store.feedback(scene.mind))
        if one.kind != "retract"
    }
    assert standing == words
    for teacher in ("web:ann", "web:ben"):
        assert (store.latest_feedback(scene.place, teacher) is not None) == (teacher in words)
    records = store.records(scene.mind)
    assert records == derive(store.exchanges(scene.mind), store.feedback(scene.mind))
    assert {pair.provenance.teacher for pair in records.pairs} == {
        teacher for teacher, word in words.items() if word in ("1", "2", "words")
    }
    assert records.ties == sum(word == "tie" for word in words.values())
    log = [line for line in store.chat_log(scene.place, 5) if line.role == "assistant"]
    assert log[0].feedback == words.get("web:ann", "").replace("words", "correction")
    assert store.feedback_word(shown.id) == log[0].feedback


def test_the_place_is_part_of_the_key(scene: Scene) -> None:
    scene.say(scene.talk("hi", "one").id, "rating", "good")
    assert scene.store.latest_feedback(PLACE, "web:ann") is None
