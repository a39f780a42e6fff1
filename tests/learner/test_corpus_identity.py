"""A bot that is asked who it is says so, in many words, and is nobody else."""

from __future__ import annotations

import random

import pytest

from learner.corpus.dialogues import Dialogue
from learner.corpus.identity import Self, dialogues, words
from learner.corpus.media import Language

WHO = Self("小夜", "林老师")
both = pytest.mark.parametrize("language", ["zh", "en"])


def made(language: Language, count: int, seed: int = 0, who: Self = WHO) -> list[Dialogue]:
    return list(dialogues(who, language, count, random.Random(seed)))


@both
def test_there_are_many_questions_and_forms_of_answers(language: Language) -> None:
    said = words(language)
    questions = [question for one in said.asking for question in one.questions]
    assert len(set(questions)) == len(questions) >= 60
    assert {one.kind for one in said.asking} == {"name", "about", "maker", "other", "human", "model"}
    assert all(len(set(one.answers)) == len(one.answers) >= 4 for one in said.asking)
    assert len(set(said.others)) == len(said.others) >= 10


@both
def test_no_dialogue_is_made_twice_and_every_question_is_asked(language: Language) -> None:
    some = made(language, 400)
    assert len({one.messages for one in some}) == len(some) == 400
    asked = {message.content for one in some for message in one.messages if message.role == "user"}
    plain = {question for one in words(language).asking for question in one.questions if "{" not in question}
    assert plain <= asked
    assert any(len(one.messages) > 2 for one in some)
    assert any(len(one.messages) == 2 for one in some)


@both
def test_everything_is_filled_in_and_turns_alternate(language: Language) -> None:
    for one in made(language, 400):
        assert [message.role for message in one.messages] == ["user", "assistant"] * (len(one.messages) // 2)
        assert not any(set("{}") & set(message.content) for message in one.messages)
        told = " ".join(message.content for message in one.messages if message.role == "assistant")
        assert "小夜" in told or "林老师" in told


@both
def test_another_bot_is_named_only_to_be_denied(language: Language) -> None:
    (denial,) = (one for one in words(language).asking if one.kind == "other")
    assert all("{name}" in answer for answer in denial.answers)
    others = [answer for one in words(language).asking if one.kind != "other" for answer in one.answers]
    assert not any("{other}" in answer for answer in others)


def test_a_bot_does_not_deny_its_own_name() -> None:
    some = made("zh", 500, who=Self("豆包", "某人"))
    assert not any("你是豆包吗" in message.content for one in some for message in one.messages)


def test_the_seed_decides() -> None:
    assert made("zh", 50) == made("zh", 50)
    assert made("zh", 50) != made("zh", 50, seed=1)


def test_braces_in_a_name_are_no_places() -> None:
    told = [one.messages[1].content for one in made("en", 80, who=Self("{author}", "{name}"))]
    assert any("{author}" in text for text in told)
