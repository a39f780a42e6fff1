"""What the store promises about messages, exchanges, offers, people and runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from store_samples import HOUR, PLACE, Scene, candidate

from learner.store import ExchangeNotReady, Store, UnknownExchange
from learner.store.rows import Known, NewInbound, OutboxDraft, Place, RunRow, Turn


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    store = Store(f"sqlite:///{tmp_path}/n.db")
    yield Scene(store)
    store.close()


def notice(name: str, text: str = "hello") -> OutboxDraft:
    return OutboxDraft(name, PLACE, {"text": text, "exchange": None})


# Inbox and outbox


def test_what_is_delivered_twice_is_stored_once(scene: Scene) -> None:
    inbound = NewInbound(PLACE, "m1", "ann", "Message", {"text": "hi"}, 5.0)
    first = scene.store.receive("default", inbound)
    again = scene.store.receive("default", replace(inbound, payload={"text": "other"}, at=9.0))
    assert first.new
    assert not again.new
    assert again.row == first.row
    elsewhere = replace(inbound, place=replace(PLACE, platform="telegram"))
    assert scene.store.receive("default", elsewhere).new


def test_waiting_keeps_the_order_of_arrival_until_answered(scene: Scene) -> None:
    rows = [scene.arrive(text) for text in "abc"]
    scene.store.answer(rows[1].id, [notice("o1")])
    assert [row.id for row in scene.store.waiting()] == [rows[0].id, rows[2].id]


def test_answering_twice_answers_once(scene: Scene) -> None:
    row = scene.arrive("/help")
    scene.store.answer(row.id, [notice("o1"), notice("o2")])
    scene.store.answer(row.id, [notice("o3")])
    assert [out.draft.id for out in scene.store.outbox(row.id)] == ["o1", "o2"]


def test_unsent_replies_are_retried_in_order_until_sent_or_given_up(scene: Scene) -> None:
    row = scene.arrive("/help")
    scene.store.answer(row.id, [notice("o1"), notice("o2"), notice("o3")])
    scene.store.mark_sent("o2", ["p7", "p8"])
    scene.store.mark_failed("o1", "network", permanent=False)
    scene.store.mark_failed("o3", "blocked", permanent=True)
    assert [(out.draft.id, out.attempts) for out in scene.store.unsent("bot", "web")] == [("o1", 1)]
    assert scene.store.unsent("other") == []
    sent = scene.store.outbox(row.id)[1]
    assert (sent.state, sent.message_ids) == ("sent", ("p7", "p8"))


def test_a_late_failure_does_not_unsend(scene: Scene) -> None:
    row = scene.arrive("/help")
    scene.store.answer(row.id, [notice("o1")])
    scene.store.mark_sent("o1", ["p1"])
    scene.store.mark_sent("o1", ["p1"])
    scene.store.mark_failed("o1", "late", permanent=True)
    only = scene.store.outbox(row.id)[0]
    assert (only.state, only.message_ids, only.attempts) == ("sent", ("p1",), 1)


@pytest.mark.parametrize("text", ["a\ud800b", "nul\0", "", "x" * 100_000, "好\N{GRINNING FACE}"])
def test_any_text_can_be_stored(scene: Scene, text: str) -> None:
    row = scene.arrive(text)
    stored = row.inbound.payload["text"]
    assert stored.encode("utf-8") is not None  # no half surrogates any more
    exchange = scene.finish(scene.begin(row), row, text, "b")
    assert len(scene.history()) == 2
    assert len(exchange.candidates[0].text) == len(text)


# Exchanges


def test_a_finished_exchange_gives_back_all_that_was_generated(scene: Scene) -> None:
    shown = scene.talk("hi", "one", "two")
    assert shown.candidates == (candidate("one", 1), candidate("two", 2))
    assert (shown.state, shown.offer, shown.kept) == ("final", "open", None)
    assert shown.shown_at == scene.now
    assert scene.history() == ["hi", "one"]
    assert scene.store.waiting() == []


def test_a_single_reply_is_no_offer(scene: Scene) -> None:
    shown = scene.talk("hi", "one")
    assert (shown.offer, shown.expires_at, shown.kept) == ("none", None, 1)
    scene.store.close_offer(shown.id, "closed")
    assert scene.store.exchange(shown.id) == shown


def test_finishing_twice_is_finishing_once(scene: Scene) -> None:
    row = scene.arrive("hi")
    exchange = scene.begin(row)
    scene.finish(exchange, row, "one")
    scene.finish(exchange, row, "other")
    assert scene.history() == ["hi", "one"]


def test_a_crash_leaves_an_interrupted_exchange_and_a_message_to_answer(scene: Scene) -> None:
    row = scene.arrive("hi")
    cut = scene.begin(row)
    assert scene.store.interrupt_unfinished() == 1
    assert scene.store.interrupt_unfinished() == 0
    again = scene.begin(row)
    scene.finish(again, row, "one")
    states = [view.state for name in (cut, again) if (view := scene.store.exchange(name))]
    assert states == ["interrupted", "final"]
    with pytest.raises(ExchangeNotReady, match="interrupted"):
        scene.finish(cut, row, "late")


def test_beginning_again_interrupts_the_earlier_attempt(scene: Scene) -> None:
    row = scene.arrive("hi")
    first = scene.begin(row)
    scene.begin(row)
    view = scene.store.exchange(first)
    assert view is not None
    assert view.state == "interrupted"


def test_unknown_exchanges_are_named(scene: Scene) -> None:
    with pytest.raises(UnknownExchange, match="nope"):
        scene.store.finish_exchange("nope", [candidate("a")], Turn("user", "u", "q", None, 1.0), None, [], 1.0)
    assert scene.store.exchange("nope") is None


def test_an_exchange_is_found_by_the_message_that_showed_it(scene: Scene) -> None:
    shown = scene.talk("hi", "one")
    scene.store.mark_sent(f"out-{shown.id}", ["p1", "p2"])
    assert scene.store.exchange_of_message(PLACE, "p2") == shown
    assert scene.store.exchange_of_message(replace(PLACE, chat="other"), "p2") == shown  # a topic may not be told
    assert scene.store.exchange_of_message(replace(PLACE, platform="other"), "p2") is None
    assert scene.store.exchange_of_message(replace(PLACE, bot="other"), "p2") is None


def test_a_pending_offer_is_the_persons_latest_and_expires(scene: Scene) -> None:
    mine = scene.talk("hi", "one", "two")
    theirs = scene.talk("yo", "three", "four", person="ben")
    assert scene.store.open_offer(PLACE, "ann", scene.now) == scene.store.exchange(mine.id)
    assert scene.store.open_offer(PLACE, "ben", scene.now) == theirs
    assert scene.store.open_offer(PLACE, "ann", scene.now + HOUR) is None
    assert scene.store.open_offer(PLACE, "eve", scene.now) is None


def test_going_on_closes_the_offer(scene: Scene) -> None:
    first = scene.talk("hi", "one", "two")
    scene.talk("and?", "three")
    view = scene.store.exchange(first.id)
    assert view is not None
    assert view.offer == "closed"
    assert scene.store.open_offer(PLACE, "ann", scene.now) is None


def test_offers_are_counted_by_chat_and_time(scene: Scene) -> None:
    scene.talk("a", "one", "two")
    since = scene.now + 1
    scene.talk("b", "one", "two")
    scene.talk("c", "one")
    assert scene.store.offers_since(PLACE, since) == 1
    assert scene.store.offers_since(replace(PLACE, chat="x"), 0.0) == 0


# History


def test_a_reset_starts_anew_and_deletes_nothing(scene: Scene) -> None:
    shown = scene.talk("hi", "one")
    scene.store.reset(PLACE, scene.tick())
    assert scene.history() == []
    assert scene.store.latest_exchange(PLACE) is None
    assert scene.store.exchange(shown.id) == shown
    after = scene.talk("again", "two")
    assert scene.history() == ["again", "two"]
    assert scene.store.latest_exchange(PLACE) == after


def test_history_gives_the_newest_turns_oldest_first(scene: Scene) -> None:
    for number in range(4):
        scene.talk(f"q{number}", f"a{number}")
    assert [turn.text for turn in scene.store.history(PLACE, 3)] == ["a2", "q3", "a3"]


def test_the_chat_log_survives_a_reload(scene: Scene) -> None:
    shown = scene.talk("hi", "one", "two")
    scene.choose(shown.id, "2")
    scene.store.answer(scene.arrive("/help").id, [notice("o1", "help")])
    log = scene.store.chat_log(PLACE, 10)
    assert [(line.role, line.text) for line in log] == [
        ("user", "hi"),
        ("assistant", "one"),
        ("user", "/help"),
        ("notice", "help"),
    ]
    assert (log[1].candidates, log[1].offer, log[1].feedback, log[1].lora) == (
        ("one", "two"),
        "chosen",
        "2",
        "0001",
    )
    assert [line.text for line in scene.store.chat_log(PLACE, 2)] == ["/help", "help"]


def test_the_chat_log_says_when_an_offer_is_over(scene: Scene) -> None:
    scene.talk("hi", "one", "two")
    assert scene.store.chat_log(PLACE, 5, scene.now)[-1].offer == "open"
    assert scene.store.chat_log(PLACE, 5, scene.now + HOUR)[-1].offer == "expired"


# People and runs


def test_noting_a_person_renames_and_never_lowers(scene: Scene) -> None:
    store = scene.store
    store.claim_owner("bot", "web", "ann", 1.0)
    store.note_person(Known("bot", "web", "ann", "Ann", owner=False, teacher=False))
    store.note_person(Known("bot", "web", "ben", "Ben", owner=False, teacher=False))
    store.set_teacher("bot", "web", "ben", True)
    store.note_person(Known("bot", "web", "ben", "", owner=False, teacher=False))
    assert store.owners("bot") == [Known("bot", "web", "ann", "Ann", owner=True, teacher=True)]
    assert store.known("bot", "web", "ben") == Known("bot", "web", "ben", "Ben", owner=False, teacher=True)
    store.set_teacher("bot", "web", "ben", False)
    assert store.known("bot", "web", "ben") == Known("bot", "web", "ben", "Ben", owner=False, teacher=False)
    assert store.known("other", "web", "ann") is None


def test_run_numbers_never_come_twice(scene: Scene) -> None:
    numbers = [scene.store.next_number(), scene.store.next_number(7), scene.store.next_number(3)]
    assert numbers == [1, 8, 9]


def test_a_run_is_updated_in_place(scene: Scene) -> None:
    scene.store.add_run(RunRow(1, "default", "running", 5.0, None))
    scene.store.update_run(1, progress={"done": 0.5})
    scene.store.update_run(1, state="published", verdict={"kl": 0.1}, finished_at=9.0)
    expected = RunRow(1, "default", "published", 5.0, 9.0, {"done": 0.5}, {"kl": 0.1})
    assert scene.store.run(1) == expected
    assert scene.store.runs("default") == [expected]
    assert scene.store.runs("other") == []
    assert scene.store.run(2) is None


# Faults

KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from store_samples import Scene
from learner.store import Store
scene = Scene(Store(sys.argv[1]))
scene.choose(scene.talk("hi", "one", "two").id, "2")
scene.begin(scene.arrive("more"))
print("stored", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_stored_is_there_after_a_kill(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/n.db"
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": str(here.parents[1])}
    command = [sys.executable, "-c", KILLED, url, str(here)]
    killed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert killed.stdout == "stored\n", killed.stderr
    store = Store(url)
    assert [turn.text for turn in store.history(PLACE, 9)] == ["hi", "two"]
    assert [row.inbound.payload["text"] for row in store.waiting()] == ["more"]
    assert len(store.records("default").pairs) == 1
    assert store.interrupt_unfinished() == 1
    store.close()


def test_a_failed_transaction_leaves_nothing_behind(scene: Scene) -> None:
    row = scene.arrive("hi")
    exchange = scene.begin(row)
    broken = replace(candidate("two", 2), token_ids=(-1,))
    question = Turn("user", "ann", "hi", None, 1.0)
    with pytest.raises(Exception, match="argument"):
        scene.store.finish_exchange(exchange, [candidate("one"), broken], question, None, [], 2.0)
    view = scene.store.exchange(exchange)
    assert view is not None
    assert (view.state, view.candidates, scene.history()) == ("generating", (), [])
    assert len(scene.store.waiting()) == 1


def test_a_second_process_sees_what_the_first_stored(scene: Scene, tmp_path: Path) -> None:
    other = Store(f"sqlite:///{tmp_path}/n.db")
    shown = scene.talk("hi", "one", "two")
    assert other.exchange(shown.id) == shown
    Scene(other, place=Place("bot", "cli", "c2")).talk("yo", "x")
    assert [line.text for line in scene.store.chat_log(Place("bot", "cli", "c2"), 5)] == ["yo", "x"]
    other.close()
