"""Reads the written dialogues and tells a reply's manner.

Knows nothing of models, chats or training; other folders may load it by its path.
"""

from __future__ import annotations

import random
import sys
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from check import LANGUAGES, MANNERS, manners_of  # noqa: E402

OPENER_SHARE, FOLLOWUP_SHARE, CLOSER_SHARE = 0.95, 0.5, 0.25
NEAR_START, NEAR_END = {"zh": 3, "en": 7}, 8


@dataclass(frozen=True)
class Intent:
    """One subject in one language: how people ask, what a right answer holds, and written answers."""

    name: str
    language: str
    asks: tuple[str, ...]
    keys: tuple[str, ...]
    replies: dict[str, tuple[str, ...]]

    def is_answered_by(self, reply: str) -> bool:
        return holds_one_of(reply, self.keys)


def holds_one_of(reply: str, keys: tuple[str, ...] | list[str]) -> bool:
    """Return whether `reply` holds at least one of `keys`, whatever the case."""
    return any(key.lower() in reply.lower() for key in keys)


@cache
def manners() -> dict:
    return tomllib.loads((HERE / "manners.toml").read_text("utf-8"))


@cache
def followups(language: str) -> tuple[str, ...]:
    """Sentences of no manner that may follow any reply, so that people can want longer or shorter ones."""
    return tuple(tomllib.loads((HERE / "pools.toml").read_text("utf-8"))[language]["followups"])


def manner_of(reply: str, language: str) -> str:
    """Return the manner of `reply`: plain, warm, buddy or formal; "mixed" when it holds marks of two."""
    found = manners_of(reply, language, manners())
    return "plain" if not found else found.pop() if len(found) == 1 else "mixed"


def read_intents(file: Path) -> list[Intent]:
    """Return the intents of one file, one for each language."""
    return [
        Intent(
            name,
            language,
            tuple(part.get("ask", ())),
            tuple(part.get("key", ())),
            {manner: tuple(part[manner]) for manner in MANNERS if manner in part},
        )
        for name, parts in tomllib.loads(file.read_text("utf-8")).items()
        for language in LANGUAGES
        if (part := parts[language])
    ]


def load_intents(folder: Path = HERE / "dialogues") -> list[Intent]:
    """Return every written intent, in the order of the files."""
    return [intent for file in sorted(folder.glob("*.toml")) for intent in read_intents(file)]


def load_skills(file: Path = HERE / "skills.toml") -> dict[tuple[str, str], Intent]:
    """Return the skills that need more than one turn, by name and language."""
    return {(skill.name, skill.language): skill for skill in read_intents(file)}


@cache
def common_words() -> frozenset[str]:
    """The English words that stand in lower case somewhere in the replies: those that are no names."""
    replies = (r for i in load_intents() if i.language == "en" for rs in i.replies.values() for r in rs)
    return frozenset(word.strip(".,;:!?") for reply in replies for word in reply.split() if word.islower())


def after_opener(reply: str, opener: str) -> str:
    """Return `reply` as it goes on after `opener`: "Aww, " and "It is blue." give "it is blue."."""
    first = reply.split(" ")[0].strip(".,;:!?")
    goes_on = opener.rstrip().endswith((",", ";", ":"))
    if goes_on and first != "I" and first.lower() in common_words() and first[1:].islower() | (len(first) == 1):
        return reply[0].lower() + reply[1:]
    return reply


def _share_a_mark(opener: str, reply: str, marks: list[str]) -> bool:
    return any(mark in opener.lower() and mark in reply.lower() for mark in marks)


def dressed(reply: str, manner: str, language: str, rng: random.Random) -> str:
    """Return `reply` with an opener before it and a follow-up or a closer after it, each only sometimes.

    The opener makes the first token tell the manner, so that a preference moves the manner
    without touching the content; the follow-up does the same for the length. A reply that begins
    or ends with a mark needs no opener or closer there, and none gets the mark twice.
    """
    part = manners()[manner][language]
    opener = ending = ""
    begins = manner_of(reply[: NEAR_START[language]], language) != "plain"
    openers = [words for words in part["openers"] if not _share_a_mark(words, reply, part["marks"])]
    if openers and not begins and rng.random() < OPENER_SHARE:
        opener = rng.choice(openers)
    if rng.random() < FOLLOWUP_SHARE:
        ending = rng.choice(followups(language))
    elif part["closers"] and manner_of(reply[-NEAR_END:], language) == "plain" and rng.random() < CLOSER_SHARE:
        ending = rng.choice(part["closers"])
    if ending and (language == "en" or not reply.endswith(("。", "！", "？", "”", "～"))):
        ending = " " + ending
    return opener + after_opener(reply, opener) + ending
