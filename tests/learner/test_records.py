"""Each rule by which exchanges and feedback become preference records."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_samples import candidate

from learner.deriving import SESSION_GAP, derive
from learner.engine.base import ChatMessage
from learner.records import Exchange, Feedback, PreferencePair, PreferenceRecords, fold_of
from learner.what_stands import newest_of_each, settled_on


def exchange(name: str, *texts: str, at: float = 0.0, chat: str = "c", asked: str = "") -> Exchange:
    prompt = (ChatMessage("system", "Be kind."), ChatMessage("user", asked or f"question {name}"))
    shown = tuple(candidate(text, side) for side, text in enumerate(texts, 1))
    return Exchange(name, "default", "bot", "web", chat, "ann", prompt, (1, 2), shown, at)


def choice(number: int, about: str, value: str, teacher: str = "web:ann", trusted: bool = True) -> Feedback:
    return Feedback(number, about, teacher, trusted, "choice", value, "", 100.0 + number)


def rating(number: int, about: str, value: str, teacher: str = "web:ann") -> Feedback:
    return replace(choice(number, about, value, teacher), kind="rating")


def correction(number: int, about: str, words: str, teacher: str = "web:ann") -> Feedback:
    return replace(choice(number, about, "", teacher), kind="correction", correction=words)


def retract(number: int, about: str, teacher: str = "web:ann") -> Feedback:
    return replace(choice(number, about, "", teacher), kind="retract")


def pairs(records: PreferenceRecords) -> list[tuple[str, str]]:
    return [(pair.chosen, pair.rejected) for pair in records.pairs]


def ratings(records: PreferenceRecords) -> list[tuple[str, bool]]:
    return [(one.completion, one.desirable) for one in records.ratings]


OFFER = exchange("e", "one", "two")
SINGLE = exchange("s", "only")


@pytest.mark.parametrize(("value", "expected"), [("1", ("one", "two")), ("2", ("two", "one"))])
def test_a_choice_is_a_pair(value: str, expected: tuple[str, str]) -> None:
    records = derive([OFFER], [choice(1, "e", value)])
    assert pairs(records) == [expected]
    pair = records.pairs[0]
    assert (pair.prompt, pair.prompt_ids, pair.source) == (OFFER.prompt, (1, 2), "choice")
    assert pair.chosen_ids == candidate(expected[0]).token_ids
    assert pair.provenance.loras == ("0001", "0001")
    assert (pair.provenance.exchange, pair.provenance.teacher, pair.provenance.created_at) == ("e", "web:ann", 101.0)


def test_both_bad_is_two_undesirable_replies() -> None:
    records = derive([OFFER], [choice(1, "e", "both_bad")])
    assert ratings(records) == [("one", False), ("two", False)]
    assert {one.source for one in records.ratings} == {"both_bad"}


def test_a_tie_is_counted() -> None:
    records = derive([OFFER], [choice(1, "e", "tie")])
    assert (records.pairs, records.ratings, records.ties, records.left_out) == ((), (), 1, {})
    [tied] = records.tied
    assert ({tied.chosen, tied.rejected}, tied.source, tied.chosen_side) == ({"one", "two"}, "tie", None)
    assert records.exchanges() == {"e"}


def test_a_tie_that_cannot_train_is_counted_all_the_same() -> None:
    assert derive([SINGLE], [choice(1, "s", "tie")]) == PreferenceRecords((), (), 1, {"not_an_offer": 1})


@pytest.mark.parametrize("side", [1, 2])
def test_a_choice_knows_where_the_chosen_reply_was_shown(side: int) -> None:
    assert [pair.chosen_side for pair in derive([OFFER], [choice(1, "e", str(side))]).pairs] == [side]
    assert derive([OFFER], [correction(1, "e", "three")]).pairs[0].chosen_side is None


def test_what_was_known_before_a_choice_stays_with_it_alone() -> None:
    known = replace(OFFER, expected=2)
    assert [pair.expected_side for pair in derive([known], [choice(1, "e", "1")]).pairs] == [2]
    assert derive([OFFER], [choice(1, "e", "1")]).pairs[0].expected_side is None
    assert derive([known], [correction(1, "e", "three")]).pairs[0].expected_side is None
    assert derive([known], [choice(1, "e", "tie")]).tied[0].expected_side is None


@pytest.mark.parametrize(("value", "desirable"), [("good", True), ("bad", False)])
def test_a_rating_is_about_the_only_reply(value: str, desirable: bool) -> None:
    records = derive([SINGLE], [rating(1, "s", value)])
    assert ratings(records) == [("only", desirable)]
    assert records.ratings[0].source == "rating"


def test_a_rating_after_a_choice_is_about_the_chosen() -> None:
    records = derive([OFFER], [choice(1, "e", "2"), rating(2, "e", "good")])
    assert ratings(records) == [("two", True)]
    assert records.pairs == ()


def test_a_rating_of_an_offer_that_nobody_settled_lands_on_neither() -> None:
    for before in ([], [choice(1, "e", "2"), retract(2, "e")], [choice(1, "e", "2", trusted=False)]):
        mine = [replace(one, teacher="web:ben") for one in before]
        assert derive([OFFER], [*mine, rating(9, "e", "good")]).ratings == ()
    left = derive([OFFER], [rating(9, "e", "good")]).left_out
    assert left == {"not_settled": 1}


def test_a_correction_rejects_all_that_was_shown() -> None:
    records = derive([OFFER, SINGLE], [correction(1, "e", "best"), correction(2, "s", "best")])
    assert pairs(records) == [("best", "one"), ("best", "two"), ("best", "only")]
    assert {(pair.chosen_ids, pair.source) for pair in records.pairs} == {(None, "correction")}
    assert records.pairs[0].rejected_ids == candidate("one").token_ids
    assert records.pairs[0].provenance.loras == ("0001",)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (correction(1, "s", " only "), "same_text"),
        (correction(1, "s", "  "), "empty"),
        (choice(1, "s", "1"), "not_an_offer"),
        (choice(1, "same", "1"), "same_text"),
        (choice(1, "cut", "1"), "unfinished"),
        (choice(1, "mute", "2"), "empty"),
        (rating(1, "late", "bad"), "unfinished"),
        (choice(1, "e", "1", trusted=False), "untrusted"),
        (choice(1, "gone", "1"), "no_exchange"),
        (retract(1, "e"), "retracted"),
    ],
)
def test_what_gives_no_record_is_counted_by_its_reason(said: Feedback, reason: str) -> None:
    cut = replace(OFFER, id="cut", candidates=(candidate("one"), candidate("tw", 2, "cancelled")))
    late = replace(SINGLE, id="late", candidates=(candidate("on", finish="timeout"),))
    known = [OFFER, SINGLE, exchange("same", "x", " x "), cut, exchange("mute", "a", " "), late]
    assert derive(known, [said]) == PreferenceRecords((), (), 0, {reason: 1})


def test_both_bad_leaves_out_only_what_was_cut_short() -> None:
    cut = replace(OFFER, candidates=(candidate("one"), candidate("tw", 2, "timeout")))
    records = derive([cut], [choice(1, "e", "both_bad")])
    assert ratings(records) == [("one", False)]
    assert records.left_out == {"unfinished": 1}


def test_a_reply_cut_at_its_length_still_counts() -> None:
    long = replace(SINGLE, candidates=(candidate("only", finish="length"),))
    assert ratings(derive([long], [rating(1, "s", "good")])) == [("only", True)]


@pytest.mark.parametrize("value", ["1", "2", "tie", "both_bad"])
def test_what_strangers_say_changes_nothing(value: str) -> None:
    own = [choice(1, "e", "1")]
    alone, beside = derive([OFFER], own), derive([OFFER], [*own, choice(2, "e", value, "web:bob", trusted=False)])
    assert beside.left_out == {"untrusted": 1}
    assert replace(beside, left_out={}) == alone


def test_the_newest_word_counts() -> None:
    said = [choice(1, "e", "1"), choice(2, "e", "tie"), choice(3, "e", "2")]
    assert pairs(derive([OFFER], said)) == [("two", "one")]
    assert pairs(derive([OFFER], [*said, retract(4, "e")])) == []
    assert pairs(derive([OFFER], [*said, retract(4, "e"), choice(5, "e", "1")])) == [("one", "two")]


def test_teachers_who_disagree_are_both_kept() -> None:
    records = derive([OFFER], [choice(1, "e", "1"), choice(2, "e", "2", "web:ben")])
    assert pairs(records) == [("one", "two"), ("two", "one")]


def test_the_same_word_about_the_same_texts_counts_once() -> None:
    again = replace(OFFER, id="e2")
    said = [choice(1, "e", "1"), choice(2, "e2", "1"), choice(3, "e2", "1", "web:ben")]
    records = derive([OFFER, again], said)
    assert [pair.provenance.teacher for pair in records.pairs] == ["web:ann", "web:ben"]
    assert records.left_out == {"duplicate": 1}


def test_a_gap_begins_a_session() -> None:
    times = {"a": 0.0, "b": SESSION_GAP, "c": 2 * SESSION_GAP + 1}
    known = [exchange(name, "x", at=at) for name, at in times.items()]
    known.append(exchange("d", "x", at=1.0, chat="other"))
    said = [rating(number, one.id, "good") for number, one in enumerate(known)]
    sessions = {one.provenance.exchange: one.provenance.session for one in derive(known, said).ratings}
    assert sessions["a"] == sessions["b"]
    assert len(set(sessions.values())) == 3


def test_settled_on_follows_the_newest_word() -> None:
    assert settled_on([]) is None
    assert settled_on([choice(1, "e", "2"), rating(2, "e", "bad")]) == 2
    assert settled_on([choice(1, "e", "2"), choice(2, "e", "tie")]) is None
    assert settled_on([choice(1, "e", "2"), correction(2, "e", "x")]) is None
    assert settled_on([choice(1, "e", "2"), choice(2, "e", "1", "web:ben"), retract(3, "e", "web:ben")]) == 2


# Held out


def test_the_same_question_is_always_in_one_fold() -> None:
    known = [exchange(f"e{n}", f"a{n}", asked=asked, chat=f"c{n}") for n, asked in enumerate(["Hi  there", "hi there"])]
    said = [rating(1, "e0", "good"), rating(2, "e1", "bad")]
    assert len({fold_of(one, 1000) for one in derive(known, said).ratings}) == 1


def test_folds_are_about_alike_in_size() -> None:
    known = [exchange(f"e{n}", "one", "two") for n in range(1000)]
    made = derive(known, [choice(n, f"e{n}", "1") for n in range(1000)]).pairs
    sizes = Counter(fold_of(pair, 4) for pair in made)
    assert sorted(sizes) == [0, 1, 2, 3]
    assert all(200 < size < 300 for size in sizes.values())


# Whatever happens

TEXTS = st.sampled_from(["", " ", "a", "b", "ccc"])
FINISHES = st.sampled_from(["stop", "length", "cancelled", "timeout"])


@st.composite
def exchanges(draw: Callable[..., object]) -> list[Exchange]:
    made = []
    for number in range(draw(st.integers(0, 4))):  # type: ignore[call-overload]
        count = draw(st.integers(0, 2))
        shown = tuple(
            candidate(str(draw(TEXTS)), side, str(draw(FINISHES)))
            for side in range(1, count + 1)  # type: ignore[operator]
        )
        at = float(draw(st.integers(0, 3))) * SESSION_GAP  # type: ignore[arg-type]
        made.append(replace(exchange(f"e{number}", at=at, asked="q"), candidates=shown))
    return made


VALUES = {
    "choice": ["1", "2", "tie", "both_bad"],
    "rating": ["good", "bad"],
    "correction": [""],
    "retract": [""],
}


@st.composite
def feedback(draw: Callable[..., object]) -> list[Feedback]:
    made = []
    for number in range(draw(st.integers(0, 8))):  # type: ignore[call-overload]
        kind = str(draw(st.sampled_from(sorted(VALUES))))
        about = f"e{draw(st.integers(0, 4))}"
        teacher = str(draw(st.sampled_from(["web:ann", "web:ben"])))
        value = str(draw(st.sampled_from(VALUES[kind])))
        one = choice(number, about, value, teacher, bool(draw(st.booleans())))
        words = str(draw(TEXTS)) if kind == "correction" else ""
        made.append(replace(one, kind=kind, correction=words))
    return made


@given(known=exchanges(), said=feedback(), seed=st.integers(0, 9))
def test_derive_is_total_and_deterministic(known: list[Exchange], said: list[Feedback], seed: int) -> None:
    records = derive(known, said)
    mixed, shuffled = list(known), list(said)
    random.Random(seed).shuffle(mixed)
    random.Random(seed).shuffle(shuffled)
    assert derive(mixed, shuffled) == records
    newest = newest_of_each(said)
    assert derive(known, newest).pairs == records.pairs
    standing = {(one.exchange, one.teacher) for one in newest if one.trusted and one.kind != "retract"}
    made: list[object] = [*records.pairs, *records.ratings]
    assert {(one.provenance.exchange, one.provenance.teacher) for one in made} <= standing  # type: ignore[attr-defined]
    for pair in records.pairs:
        assert pair.chosen.strip() != pair.rejected.strip()
        assert pair.chosen.strip()
    shown = {one.id: one for one in known}
    for one in made:
        texts = {c.text for c in shown[one.provenance.exchange].candidates if c.finish in ("stop", "length")}  # type: ignore[attr-defined]
        generated = one.rejected if isinstance(one, PreferencePair) else one.completion  # type: ignore[attr-defined]
        assert generated in texts
    assert all(records.left_out.values())
    accounted = len({(o.provenance.exchange, o.provenance.teacher) for o in made}) + records.ties  # type: ignore[attr-defined]
    assert accounted + sum(records.left_out.values()) >= len(newest)  # nothing is lost silently
