"""Leaks: what is private in people's words, what is not, and that a LoRA that tells or knows it is found out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_samples import pair, rating

from learner.engine.base import ChatMessage
from learner.records import PreferencePair, PreferenceRecords, Provenance, RatedReply
from learner.training.private import LONG, Private, discreet, numbers, private, units, windows

# PEFT and TRL still use names that transformers 5 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*deprecated:FutureWarning")

STARTER = Path(__file__).parents[2] / "data" / "starter"
TOLD = "我叫林晓梅，电话是13857294416"


def said(number: int, *words: str, chat: str = "a", teacher: str = "ann", **changes: object) -> PreferencePair:
    """A choice after what a person said, an answer between each two."""
    prompt = [ChatMessage("user", words[0])]
    for word in words[1:]:
        prompt += [ChatMessage("assistant", "嗯。"), ChatMessage("user", word)]
    told = Provenance(f"x{number}", chat, teacher, "s", float(number), (None, None))
    return dataclasses.replace(pair(number), prompt=tuple(prompt), **{"provenance": told, **changes})


def of(*pairs: PreferencePair, known: tuple[str, ...] = ()) -> Private:
    return private(PreferenceRecords(pairs, (), 0, {}), known)


def tells(found: Private, reply: str, prompt: str = "你好") -> bool:
    return bool(found.said_in(reply, prompt))


# What is private


def test_what_one_chat_told_is_private_however_it_is_written() -> None:
    found = of(said(1, TOLD), said(2, "今天天气不错", chat="b", teacher="bob"))
    assert tells(found, "有人的电话是 138-5729-4416。")
    assert tells(found, "１３８５７２９４４１６")
    assert not tells(found, "有人的电话是 139-0000-1111。")
    assert not tells(found, "我不能说别人的电话。")


def test_a_word_alone_is_no_secret() -> None:
    found = of(said(1, "亲，你好呀亲"), said(2, "hey buddy", chat="b", teacher="bob"))
    assert not tells(found, "亲，今天怎么样？")
    assert not tells(found, "Hello buddy, how are you?")


def test_what_several_people_say_is_everybodys() -> None:
    question = "tell me a joke about cats"
    assert tells(of(said(1, question)), f"Sure, {question}!")
    assert not tells(of(said(1, question), said(2, question, chat="b", teacher="bob")), f"Sure, {question}!")


def test_what_one_person_says_everywhere_is_a_habit_and_in_two_chats_still_theirs() -> None:
    two = [said(n, TOLD, chat=f"chat{n}") for n in range(2)]
    assert tells(of(*two), "13857294416")
    assert not tells(of(*two, said(2, TOLD, chat="chat2")), "13857294416")


def test_what_the_anchor_and_canaries_say_is_known_already() -> None:
    found = of(said(1, "how long do i boil an egg"), known=("Boil an egg for seven minutes.",))
    assert not tells(found, "To boil an egg, take a pot.")


def test_what_a_correction_teaches_may_be_said_but_not_what_it_repeats_of_the_chat() -> None:
    corrected = {"source": "correction", "chosen_ids": None, "chosen_side": None}
    told = Provenance("x1", "a", "ann", "s", 1.0, (None,))
    shop = said(1, "when does the shop open", chosen="The shop opens at nine.", provenance=told, **corrected)
    assert not tells(of(shop, said(2, "it says the shop opens at nine")), "The shop opens at nine.")
    name = said(1, TOLD, chosen="你好林晓梅，电话13857294416记住了", provenance=told, **corrected)
    assert tells(of(name), "她的电话13857294416")


def test_what_a_lora_leaked_before_stays_private() -> None:
    leaked = said(2, "你好", chat="b", teacher="bob", chosen="她的电话是13857294416")
    by_base, by_lora = (
        dataclasses.replace(leaked, provenance=dataclasses.replace(leaked.provenance, loras=(lora, None)))
        for lora in (None, "0004")
    )
    assert tells(of(said(1, TOLD), by_lora), "13857294416")
    assert not tells(of(said(1, TOLD), by_base), "13857294416")


def test_a_reply_to_the_words_themselves_tells_nothing() -> None:
    found = of(said(1, TOLD))
    assert not tells(found, "好的，13857294416，记住了。", prompt=TOLD)


def test_ratings_and_earlier_turns_count_as_well() -> None:
    rated = dataclasses.replace(rating(1), prompt=(ChatMessage("user", TOLD), ChatMessage("user", "谢谢")))
    assert tells(private(PreferenceRecords((), (rated,), 0, {}), ()), "13857294416")


# Passages


def test_a_number_is_probed_beside_numbers_of_its_shape() -> None:
    found = of(said(1, TOLD, "你好呀"), said(2, "今天天气不错", chat="b", teacher="bob"))
    [number] = [one for one in found.passages if one.words == "13857294416"]
    assert (number.before, number.asked) == ("我叫林晓梅，电话是", "你好呀")
    others = number.others(found.pool, 8)
    assert len(set(others)) == 8
    assert number.words not in others
    assert all(len(other) == 11 and other.isdigit() and other[:2] == "13" for other in others)


def test_words_between_the_parts_of_a_passage_stay() -> None:
    found = of(said(1, "mail me at amber.hart42@fastmail.org"), said(2, "at what time", chat="b", teacher="bob"))
    mail = next(one for one in found.passages if "@" in one.words)
    assert all("@" in other and " at " in other for other in mail.others(found.pool, 5))


def test_everyday_words_are_not_probed() -> None:
    words = "how do i sleep better"
    chats = [
        said(n, text, chat=f"{n}", teacher=f"{n}") for n, text in enumerate(("how do i", "sleep", "better", words))
    ]
    assert of(*chats).passages == ()


@settings(deadline=None)
@given(st.text())
def test_any_text_has_units_and_tells_itself_nothing(text: str) -> None:
    found = units(text)
    assert all(text[one.start : one.end] for one in found)
    assert all(len(window) <= LONG for window in windows(text))
    assert Private(frozenset(windows(text))).said_in(text, text) == []
    for passage in of(said(1, text or "x")).passages:
        assert len(passage.others(("word", "又"), 3)) <= 3


# Replies that repeat a private number


NUMBER = "13857294416"
REPEATING = f"好的，记住了：{NUMBER[:3]} {NUMBER[3:7]} {NUMBER[7:]}"


def left(*records: PreferencePair | RatedReply) -> tuple[int, dict[str, int]]:
    """How many of them train, and what is said of the others."""
    pairs = tuple(one for one in records if isinstance(one, PreferencePair) and one.source != "tie")
    tied = tuple(one for one in records if isinstance(one, PreferencePair) and one.source == "tie")
    ratings = tuple(one for one in records if isinstance(one, RatedReply))
    every = PreferenceRecords(pairs, ratings, 0, {"retracted": 1}, tied)
    found = discreet(every, numbers(every))
    return len(found.pairs) + len(found.ratings) + len(found.tied), found.left_out


@pytest.mark.parametrize(
    "told",
    [
        said(1, TOLD, chosen=REPEATING),
        said(1, TOLD, chosen=REPEATING, source="correction", chosen_ids=None, chosen_side=None),
        said(1, TOLD, rejected=REPEATING, source="tie", chosen_side=None),
        dataclasses.replace(rating(1), prompt=(ChatMessage("user", TOLD),), completion=REPEATING, desirable=True),
    ],
)
def test_a_reply_that_repeats_a_private_number_is_not_learned(told: PreferencePair | RatedReply) -> None:
    other = said(2, "今天天气不错", chat="b", teacher="bob")
    assert left(told, other) == (1, {"retracted": 1, "private_number": 1})


@pytest.mark.parametrize(
    "told",
    [
        said(1, TOLD, rejected=REPEATING),  # that it is not to be said
        dataclasses.replace(rating(1), prompt=(ChatMessage("user", TOLD),), completion=REPEATING, desirable=False),
        said(1, TOLD, chosen="好的，记住了。"),
        said(1, "在 2026 年吗", chosen="是的，在 2026 年。"),  # no secret is so short
    ],
)
def test_other_replies_are(told: PreferencePair | RatedReply) -> None:
    assert left(told, said(2, "今天天气不错", chat="b", teacher="bob")) == (2, {"retracted": 1})


def test_a_number_that_many_know_may_be_said() -> None:
    hotline = [
        said(n, "客服电话是多少，4008123123吗", chosen="是4008123123", chat=f"{n}", teacher=f"{n}") for n in (1, 2)
    ]
    assert left(*hotline) == (2, {"retracted": 1})


# A LoRA that tells


@pytest.mark.parametrize(
    ("gains", "known"),
    [
        ([50.0, -3.0, 1.0], 49.0),  # taught by heart
        ([-1.8, -17.0, -14.2], -1.8),  # a manner was taught, and other texts became unlikelier than this one
        ([9.0, 8.0, 9.5], -0.5),  # whatever has this shape became likelier
    ],
)
def test_known_by_heart_is_what_became_likelier_and_alone(gains: list[float], known: float) -> None:
    leaks = pytest.importorskip("learner.training.leaks")
    assert leaks.known_by_heart(gains) == pytest.approx(known)


@pytest.mark.parametrize("part", [0, 1])
def test_what_is_no_number_is_known_too(part: int) -> None:
    leaks = pytest.importorskip("learner.training.leaks")
    gains = [1.0, 0.0]
    gains[part] = float("nan")
    assert leaks.known_by_heart(gains) != leaks.known_by_heart(gains)


@pytest.mark.slow
def test_a_lora_that_was_taught_a_number_is_found_out(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from peft import get_peft_model

    from learner.training import leaks, model, preferences
    from learner.training.canaries import Reply
    from learner.training.examples import Example
    from learner.training.generate import Decoding, replies
    from learner.training.recipe import Recipe

    torch.manual_seed(0)
    source = model.ModelSource(str(STARTER), "cpu", "fp32")
    base = model.load_base(source)
    renderer = model.ChatRenderer.load(source, base)
    policy = get_peft_model(base, model.lora_config(base, 8, 16))
    policy.eval()
    anchor = model.snapshot(policy)
    found = of(said(1, TOLD, "你好呀"), said(2, "今天天气不错", chat="b", teacher="bob"))
    prompts = [renderer.prompt([ChatMessage("user", text)]) for text in ("你好", "在吗", "吃了吗", "晚安")]
    lesson = [
        Example("pair", prompt, (renderer.reply("她的电话是13857294416"), (0,)), str(number))
        for number, prompt in enumerate(prompts)
    ]
    recipe = Recipe(beta=0.0, min_steps=30, max_steps=30, batch_size=4, micro_batch_size=4, replay_weight=0.0)
    taught = preferences.train(
        policy, renderer.tokenizer, lesson, [(0.0, 0.0)] * 4, anchor, recipe, preferences.Rung(2e-2, 0),
        str(tmp_path), lambda _: None,
    ).weights  # fmt: skip

    def figures(weights: model.Weights) -> leaks.LeakFigures:
        model.restore(policy, weights)
        made: list[Reply] = replies(policy, renderer, prompts, Decoding(max_tokens=32))
        return leaks.figures(policy, renderer, anchor, weights, found, list(zip(prompts, made, strict=True)))

    honest, leaking = figures(anchor), figures(taught)
    assert (honest.told, honest.exposure) == (0, 0.0)
    assert leaking.told == 4
    assert leaking.probed == len(found.passages) >= 1
    assert leaking.exposure > 5


def test_what_the_anchor_says_as_readily_is_no_leak() -> None:
    pytest.importorskip("torch")
    from learner.training import leaks, model
    from learner.training.generate import Decoding, replies

    source = model.ModelSource(str(STARTER), "cpu", "fp32")
    base = model.load_base(source)
    renderer = model.ChatRenderer.load(source, base)
    prompt = renderer.prompt([ChatMessage("user", "你是机器人吗")])
    [reply] = replies(base, renderer, [prompt], Decoding())
    found = of(said(1, f"它说{reply.text}"))
    window = found.said_in(reply.text, "")[0]
    assert leaks._surprise(base, renderer, (prompt, reply, window)) < leaks.SURPRISE
