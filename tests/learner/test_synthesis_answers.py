"""What a model says is read robustly: JSON wherever it stands, checked by its schema, duplicates told."""

from __future__ import annotations

import contextlib
import json
import random
import string
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.corpus.synthesis import checking
from learner.corpus.synthesis.checking import CharacterSketch, Restyled, Talk, TopicList, Unfit
from learner.corpus.synthesis.extracting import values
from learner.corpus.synthesis.near import Seen, jaccard, shingles
from learner.corpus.synthesis.wire import Answer
from learner.engine.base import ChatMessage

CHATTER = st.text(st.characters(exclude_characters="[]{}`<>"), max_size=80)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
).filter(lambda value: isinstance(value, dict | list))
SPOKEN = st.text(min_size=1, max_size=60).filter(str.strip)


def answer(text: str, finish: str = "stop") -> Answer:
    return Answer(text, finish, 1, 1)


@settings(deadline=None)
@given(JSON, CHATTER, CHATTER, st.sampled_from(["{}", "```json\n{}\n```", "```{}```", "<think>[1] {{}}</think>\n{}"]))
def test_json_is_found_in_fences_chatter_and_after_thoughts(value: Any, before: str, after: str, form: str) -> None:
    wrapped = form.replace("{{}}", "{ }").replace("{}", json.dumps(value, ensure_ascii=False), 1)
    if form.startswith("<think>"):
        before = ""
    assert value == next(values(f"{before}\n{wrapped}\n{after}"))


@settings(deadline=None)
@given(st.text())
def test_any_text_is_borne_with(text: str) -> None:
    list(values(text))
    for shape in (TopicList, Talk, CharacterSketch, Restyled):
        with contextlib.suppress(Unfit):
            checking.read(shape, answer(text))


@settings(deadline=None)
@given(JSON)
def test_any_json_is_fit_or_unfit(value: Any) -> None:
    for shape in (TopicList, Talk, CharacterSketch, Restyled):
        try:
            read = checking.read(shape, answer(json.dumps(value)))
        except Unfit:
            continue
        assert isinstance(read, shape)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["user", "assistant"]), SPOKEN), min_size=2, max_size=8))
def test_a_dialogue_alternates_and_ends_with_the_assistant(turns: list[tuple[str, str]]) -> None:
    text = json.dumps({"dialogue": [{"role": role, "content": said} for role, said in turns]})
    if not any(one == "user" and other == "assistant" for one, other in pairwise(role for role, _ in turns)):
        with pytest.raises(Unfit, match="fewer than"):  # no message has a reply
            checking.messages(checking.read(Talk, answer(text)))
        return
    messages = checking.messages(checking.read(Talk, answer(text)))
    roles = [one.role for one in messages]
    assert roles[-1] == "assistant"
    assert all(one != other for one, other in pairwise(roles))
    whole = "".join(one.content.replace("\n", "") for one in messages)
    cleaned = [said.strip().encode("utf-8", "replace").decode().replace("\n", "") for _, said in turns]
    assert "".join(cleaned).startswith(whole)


@pytest.mark.parametrize(
    "text",
    [
        '[{"role": "user", "content": "在吗"}, {"role": "海绵宝宝", "content": "在！"}]',
        '{"messages": [{"from": "human", "value": "在吗"}, {"from": "gpt", "value": "在！"}]}',
        '{"result": {"dialogue": [{"role": "用户", "content": "在吗"}, {"role": "角色", "content": "在！"},]}}',
        '{"dialogue": [{"user": "在吗"}, {"assistant": "在！"}], "note": "ok"}',
        '{"问": "在吗", "答": "在！", "topic": "问候"}',
        '{"dialogue": [{"role": "system", "content": "x"}, {"role": "user", "content": "在吗"}, '
        '{"role": "assistant", "content": "在！"}, {"role": "user", "content": "好"}]}',
    ],
)
def test_the_forms_that_models_choose_all_come_to_the_same(text: str) -> None:
    talk = checking.read(Talk, answer(text))
    assert checking.messages(talk, "海绵宝宝") == (ChatMessage("user", "在吗"), ChatMessage("assistant", "在！"))


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        ("", "stop", "empty"),
        ("对不起，我不能。", "stop", "unreadable"),
        ('{"dialogue": [{"role": "user", "content": "在', "length", "cut off"),
        (
            '{"dialogue": [{"role": "user", "content": ""}, {"role": "assistant", "content": "在"}]}',
            "stop",
            "wrong shape",
        ),
        (
            '{"dialogue": [{"role": "user", "content": 5}, {"role": "assistant", "content": "在"}]}',
            "stop",
            "wrong shape",
        ),
        ('__import__("os").system("false")', "stop", "unreadable"),
    ],
)
def test_what_is_unfit_says_why(text: str, finish: str, reason: str) -> None:
    with pytest.raises(Unfit) as raised:
        checking.read(Talk, answer(text, finish))
    assert raised.value.reason == reason


def test_deep_nesting_and_long_answers_end_soon() -> None:
    for text in ("[" * 100_000, '{"a":' * 50_000, '["' + "x" * 300_000, "{" * 50 + '"' * 100_000):
        with pytest.raises(Unfit):
            checking.read(Talk, answer(text))


def test_halves_of_characters_never_reach_a_dataset() -> None:
    text = '{"dialogue": [{"role": "user", "content": "a\\ud83d"}, {"role": "assistant", "content": "b\\udc00"}]}'
    for one in checking.messages(checking.read(Talk, answer(text))):
        one.content.encode("utf-8")


def test_a_character_that_says_it_is_a_model_is_out_of_character() -> None:
    said = [ChatMessage("user", "作为AI你怎么看"), ChatMessage("assistant", "作为ai，我……")]
    with pytest.raises(Unfit, match="作为AI"):
        checking.forbid(said, ["作为AI"])
    checking.forbid(said[:1], ["作为AI"])


# Duplicates -----------------------------------------------------------------------------------


def test_the_same_and_nearly_the_same_are_told_from_what_is_new() -> None:
    seen = Seen(0.7)
    text = "今天天气真好，我们一起去抓水母吧，派大星也来"
    assert seen.admit(text) == ""
    assert seen.admit(text.replace("，", " ,")) == "duplicate"
    assert seen.admit(text + "！好") == "near duplicate"
    assert seen.admit("我想吃一个美味蟹黄堡，再喝一杯可乐") == ""
    assert seen.admit("……") == ""
    assert seen.admit("……") == "duplicate"


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 30))
def test_minhash_decides_as_jaccard_does(seed: int, changes: int) -> None:
    """But for near misses: what shares 8 of 10 trigrams is always found, what shares 5 never let go as a duplicate."""
    rng = random.Random(seed)
    one = [rng.choice(string.ascii_lowercase) for _ in range(200)]
    other = list(one)
    for at in rng.sample(range(200), changes):
        other[at] = rng.choice(string.digits)
    texts = "".join(one), "".join(other)
    alike = jaccard(shingles(texts[0]), shingles(texts[1]))
    seen = Seen(0.7)
    seen.admit(texts[0])
    told = seen.admit(texts[1])
    assert bool(told) == (alike >= 0.7)
