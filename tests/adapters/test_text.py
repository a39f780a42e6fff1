"""Cutting text, over anything that people or models write. What a character is, the regex library says."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from adapters.base import Reply
from adapters.text import chunks, clauses, offer_text, utf16_length

CHARACTERS = [
    *"ab1 .,!?;\n字。！？；，、～“”",
    "\r\n",
    "e\u0301",  # a letter and its accent
    "葛\U000e0100",  # a variant of a Chinese character
    "❤\ufe0f",
    "1\ufe0f\u20e3",
    "👍🏽",
    "👨‍👩‍👧‍👦",
    "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "🇨🇳",
    "क्षि",
    "กำ",
    "\u1112\u1161\u11ab",  # Korean as some systems decompose it
    " \u0308",  # a space that carries a mark
    "。\ufe00",
]
WRITTEN = st.lists(st.sampled_from(CHARACTERS), max_size=60).map("".join)
ANYTHING = st.text(st.characters(exclude_categories=[]), max_size=60)  # lone surrogates too: models make them
LIMITS = st.integers(1, 20)
MEASURES = pytest.mark.parametrize("length", [len, utf16_length], ids=["code points", "utf-16"])
LOSABLE = "，,；;、"  # what a pause replaces, beside white space
PROSE = st.text("好a1，,。.!？?；;、～~ \n”」", max_size=40)


@MEASURES
@given(text=WRITTEN | ANYTHING, limit=LIMITS)
def test_chunks_joined_are_the_text(length: Callable[[str], int], text: str, limit: int) -> None:
    parts = chunks(text, limit, length)
    assert "".join(parts) == text
    assert all(parts) or parts == [""]


@MEASURES
@given(text=WRITTEN | ANYTHING, limit=LIMITS)
def test_no_chunk_is_longer_than_the_limit(length: Callable[[str], int], text: str, limit: int) -> None:
    parts = chunks(text, limit, length)
    assert all(length(part) <= limit or len(part) == 1 for part in parts)
    assert len(parts) == 1 or length(text) > limit


@MEASURES
@given(text=WRITTEN, limit=LIMITS)
def test_no_character_is_broken(length: Callable[[str], int], text: str, limit: int) -> None:
    fits, ends, at = True, {0}, 0
    for character in regex.findall(r"\X", text):
        at += len(character)
        ends.add(at)
        fits = fits and length(character) <= limit
    cuts, at = [], 0
    for part in chunks(text, limit, length):
        at += len(part)
        cuts.append(at)
    assert not fits or set(cuts) <= ends


@given(text=WRITTEN, limit=st.integers(20, 40))
def test_chunks_are_not_cut_small(text: str, limit: int) -> None:
    longest = max(map(len, CHARACTERS))
    assert all(len(part) >= (limit - longest) // 2 for part in chunks(text, limit)[:-1])


@pytest.mark.parametrize(
    ("text", "limit", "parts"),
    [
        ("", 5, [""]),
        ("今天很好。我们走吧", 8, ["今天很好。", "我们走吧"]),
        ("one two three", 9, ["one two ", "three"]),
        ("first line\nsecond. More", 16, ["first line\n", "second. More"]),
        ("a" * 7, 3, ["aaa", "aaa", "a"]),
        ("e" + "\u0301" * 9, 4, ["e" + "\u0301" * 3, "\u0301" * 4, "\u0301" * 2]),
    ],
)
def test_cuts_stand_where_something_ends(text: str, limit: int, parts: list[str]) -> None:
    assert chunks(text, limit) == parts


@given(st.text(st.characters(exclude_categories=[]), max_size=40))
def test_utf16_counts_astral_characters_twice(text: str) -> None:
    assert utf16_length(text) == sum(2 if ord(character) > 0xFFFF else 1 for character in text)


@given(text=PROSE | ANYTHING, shortest=st.integers(0, 8))
def test_clauses_lose_nothing_but_marks_that_a_pause_replaces(text: str, shortest: int) -> None:
    at = 0
    for part in clauses(text, shortest):
        start = text.index(part, at)
        assert not text[at:start].strip().strip(LOSABLE + " \n")
        at = start + len(part)
    assert all(character in LOSABLE or character.isspace() for character in text[at:])


@given(PROSE)
def test_clauses_are_not_empty(text: str) -> None:
    assert all(clauses(text)) or clauses(text) == [text]


@given(st.from_regex(r"[1-9][0-9]{0,2}(,[0-9]{3}){0,2}(\.[0-9]{1,4})?", fullmatch=True))
def test_numbers_stay_whole(number: str) -> None:
    assert any(number in part for part in clauses(f"一共是{number}元，很便宜，买吧。"))
    assert any(number in part for part in clauses(f"It costs {number} today, which is cheap."))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("我今天很开心，你呢？明天一起去吧。", ["我今天很开心", "你呢？明天一起去吧。"]),
        ("嗯，好的，我马上就来", ["嗯，好的", "我马上就来"]),
        ("好的没问题,我知道了", ["好的没问题", "我知道了"]),
        ("他问：“真的是这样吗？”然后就走了。", ["他问：“真的是这样吗？”", "然后就走了。"]),
        ("see https://example.com/a.b?c=1;d, please", ["see https://example.com/a.b?c=1;d", "please"]),
        ("Really?! I had no idea...", ["Really?!", "I had no idea..."]),
        ("，，", ["，，"]),
        ("", [""]),
    ],
)
def test_clauses_are_what_people_send_in_one_go(text: str, parts: list[str]) -> None:
    assert clauses(text) == parts


def test_an_offer_shows_question_and_both_under_numbers() -> None:
    offer = Reply("o", "c", "which?", "e", candidates=("one\ntwo", "three"))
    assert re.split(r"\n\n", offer_text(offer)) == ["which?", "1. one\ntwo", "2. three"]
