"""Says what a person's words mean: a choice, a rating, a correction, a command, or none of these.

Pure. Knows nothing of platforms, of the store, or of which reply is meant.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Choice:
    """Which of two candidates: the first, the second, neither, or either."""

    value: Literal["1", "2", "both_bad", "tie"]


@dataclass(frozen=True)
class Rating:
    """What the person thought of one reply."""

    value: Literal["good", "bad"]


@dataclass(frozen=True)
class Correction:
    """What the person would have wanted to read instead."""

    text: str


@dataclass(frozen=True)
class Command:
    """A word with a slash; `argument` is what follows it."""

    name: str
    argument: str = ""


Intent = Choice | Rating | Correction | Command | None

COMMANDS = (
    "help",
    "undo",
    "reset",
    "retry",
    "status",
    "forget",
    "persona",
    "start",
    "pause",
    "lang",
    "claim",
    "learn",
    "lora",
    "approve",
    "teach",
    "unteach",
    "allow",
    "code",
)
ALIASES = {
    "帮助": "help",
    "撤销": "undo",
    "撤回": "undo",
    "重来": "reset",
    "清空": "reset",
    "换一个": "retry",
    "再来": "retry",
    "状态": "status",
    "近况": "status",
    "忘记": "forget",
    "人设": "persona",
    "开始": "start",
    "暂停": "pause",
    "语言": "lang",
    "认领": "claim",
    "上课": "learn",
    "学习": "learn",
    "版本": "lora",
    "批准": "approve",
    "老师": "teach",
    "不当老师": "unteach",
    "允许": "allow",
    "验证码": "code",
}

FIRST = {
    "1",
    "a",
    "选1",
    "选a",
    "选一",
    "第一个",
    "第1个",
    "选第一个",
    "one",
    "first",
    "the first",
    "option 1",
}
SECOND = {
    "2",
    "b",
    "选2",
    "选b",
    "选二",
    "第二个",
    "第2个",
    "选第二个",
    "two",
    "second",
    "the second",
    "option 2",
}
NEITHER = {"0", "都不好", "都不行", "两个都不好", "都不喜欢", "both bad", "neither"}
EITHER = {"都行", "都好", "都可以", "两个都行", "一样", "tie", "either", "both good", "both"}
GOOD = {"不错", "很好", "good", "nice", "👍"}
BAD = {"不好", "很差", "bad", "👎"}
EDIT = re.compile(r"^\s*(?:改\s*[:：]|edit\s*[:：])\s*(.*)$", re.IGNORECASE | re.DOTALL)
SLASH = re.compile(r"^/([a-z]+|[\u4e00-\u9fff]+)(?:@\w+)?(?:\s+(.*))?$", re.IGNORECASE | re.DOTALL)
SKIN_TONES_AND_VARIANTS = re.compile("[\U0001f3fb-\U0001f3ff\ufe0f]")
TRAILING = " \t\r\n.!。！~～,，"


def parse(text: str, *, offer_pending: bool, answers_a_question: bool = False) -> Intent:
    """Read `text`. With an offer pending, ratings speak of both candidates at once.

    `answers_a_question`: the bot's last reply ended with a question, so that "不错" answers it.
    """
    command = _command(text)
    if command is not None:
        return command
    edit = EDIT.match(text)
    if edit is not None:
        return Correction(edit.group(1).strip()) if edit.group(1).strip() else None
    word = normalise(text)
    if offer_pending:
        return _answer_to_offer(word)
    if answers_a_question:
        return None
    return _rating(word)


def normalise(text: str) -> str:
    """Full-width and circled forms to plain ones, lower case, no trailing punctuation or skin tone."""
    plain = unicodedata.normalize("NFKC", SKIN_TONES_AND_VARIANTS.sub("", text)).strip().strip(TRAILING)
    return re.sub(r"\s+", " ", plain).lower()


def ends_with_question(text: str) -> bool:
    """Whether `text` ends by asking something; emoji and closing marks after it do not count."""
    for character in reversed(text):
        if character in "?？":
            return True
        if character.isalnum() or character in "。.!！…":
            return False
    return False


def _command(text: str) -> Command | None:
    match = SLASH.match(text.strip())
    if match is None:
        return None
    word = match.group(1).lower()
    name = ALIASES.get(word, word)
    return Command(name, (match.group(2) or "").strip()) if name in COMMANDS else None


def _answer_to_offer(word: str) -> Choice | None:
    if word in FIRST:
        return Choice("1")
    if word in SECOND:
        return Choice("2")
    if word in NEITHER or word in BAD:
        return Choice("both_bad")
    if word in EITHER or word in GOOD:
        return Choice("tie")
    return None


def _rating(word: str) -> Rating | None:
    if word in GOOD:
        return Rating("good")
    if word in BAD:
        return Rating("bad")
    return None
