"""What words mean, with and without an offer pending."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots.intent import Choice, Command, Correction, Rating, ends_with_question, parse


@pytest.mark.parametrize(
    "text", ["1", "１", "①", "选1", "第一个", "A", "a", "1.", " 1 ", "1️⃣"[0], "选 1".replace(" ", "")]
)
def test_first(text: str) -> None:
    assert parse(text, offer_pending=True) == Choice("1")


@pytest.mark.parametrize("text", ["2", "２", "②", "选2", "第二个", "B", "b", "2。"])
def test_second(text: str) -> None:
    assert parse(text, offer_pending=True) == Choice("2")


@pytest.mark.parametrize(
    ("text", "value"),
    [("都不好", "both_bad"), ("both bad", "both_bad"), ("0", "both_bad"), ("都行", "tie"), ("tie", "tie"),
     ("不错", "tie"), ("good", "tie"), ("👍", "tie"), ("👍🏽", "tie"), ("不好", "both_bad"), ("👎", "both_bad")],
)  # fmt: skip
def test_neither_and_either(text: str, value: str) -> None:
    assert parse(text, offer_pending=True) == Choice(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "value"), [("不错", "good"), ("Good!", "good"), ("👍", "good"), ("不好。", "bad"), ("👎", "bad")]
)
def test_ratings_without_an_offer(text: str, value: str) -> None:
    assert parse(text, offer_pending=False) == Rating(value)  # type: ignore[arg-type]
    assert parse(text, offer_pending=False, answers_a_question=True) is None


@pytest.mark.parametrize("text", ["1", "2", "0", "A", "都行", "都不好", "第一个", "tie"])
def test_choices_mean_nothing_without_an_offer(text: str) -> None:
    assert parse(text, offer_pending=False) is None


@pytest.mark.parametrize("pending", [True, False])
def test_corrections_and_commands_mean_the_same_always(pending: bool) -> None:
    assert parse("改：应该这样说", offer_pending=pending) == Correction("应该这样说")
    assert parse("edit: like this\nand that", offer_pending=pending) == Correction("like this\nand that")
    assert parse("改：  ", offer_pending=pending) is None
    assert parse("/undo", offer_pending=pending) == Command("undo")
    assert parse("/claim@bot 123456", offer_pending=pending) == Command("claim", "123456")
    assert parse("/unheard of", offer_pending=pending) is None


@pytest.mark.parametrize("text", ["1个苹果", "选择困难", "not good", "这个不错啊你说呢", "goodbye", "12", "A面"])
def test_longer_texts_are_ordinary(text: str) -> None:
    assert parse(text, offer_pending=True) is None
    assert parse(text, offer_pending=False) is None


@given(st.text(max_size=60), st.booleans(), st.booleans())
def test_any_text_is_read(text: str, pending: bool, asked: bool) -> None:
    meant = parse(text, offer_pending=pending, answers_a_question=asked)
    if not pending:
        assert not isinstance(meant, Choice)
    if pending or asked:
        assert not isinstance(meant, Rating)


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("你今天过得怎么样？", True),
        ("How are you? 😊", True),
        ("真的吗？～", True),
        ("好的。", False),
        ("吗？是的。", False),
        ("", False),
    ],
)
def test_a_question_is_what_comes_last(text: str, asks: bool) -> None:
    assert ends_with_question(text) is asks
