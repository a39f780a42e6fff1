"""Makes dialogues in which a bot says who it is and who made it, and that it is none of the others.

Knows nothing of any model. The questions and answers stand in zh.toml and en.toml beside this file.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from learner.corpus.dialogues import Dialogue
from learner.corpus.media import Language
from learner.engine.base import ChatMessage, Role

Turn = tuple[str, str]
SOURCE = "identity"
SEVERAL = 3  # one dialogue in so many has more than one turn
FURTHER = (1, 2)  # turns of such a one
SMALL_TALK = 0.3  # of these
PLACE = re.compile(r"\{(name|author|other)\}")
ROLES: tuple[Role, Role] = ("user", "assistant")
PATIENCE = 200  # draws without anything new before all is believed to be said


@dataclass(frozen=True)
class Asking:
    """Questions of one kind, and the answers that fit each of them."""

    kind: str
    questions: tuple[str, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Self:
    """Who the bot is."""

    name: str
    author: str


@dataclass(frozen=True)
class Words:
    """What is said in one language: what is asked, small talk as pairs, and other bots, for which {other} stands."""

    asking: tuple[Asking, ...]
    small_talk: tuple[Turn, ...]
    others: tuple[str, ...]


def words(language: Language) -> Words:
    """The words of `language`."""
    rows = tomllib.loads(Path(__file__).with_name(f"{language}.toml").read_text("utf-8"))
    others, talk = tuple(rows.pop("others")), tuple((said, answer) for said, answer in rows.pop("small_talk"))
    asked = tuple(Asking(kind, tuple(row["questions"]), tuple(row["answers"])) for kind, row in rows.items())
    return Words(asked, talk, others)


def dialogues(who: Self, language: Language, count: int, source: random.Random) -> Iterator[Dialogue]:
    """At most `count` dialogues, no two alike; fewer where `who` allows no more.

    Every question is asked before any is asked again. The same `source` gives the same dialogues.
    """
    maker = _Maker(who, words(language), source)
    seen, stale = set[tuple[Turn, ...]](), 0
    for turns in maker.endless():
        stale = stale + 1 if turns in seen else 0
        if len(seen) >= count or stale > PATIENCE:
            return
        if not stale:
            seen.add(turns)
            messages = (ChatMessage(role, text) for turn in turns for role, text in zip(ROLES, turn, strict=True))
            yield Dialogue(tuple(messages), f"{SOURCE}:{who.name}", None, {"language": language})


class _Maker:
    """Draws one dialogue after the other."""

    def __init__(self, who: Self, said: Words, source: random.Random) -> None:
        self._who, self._said, self._source = who, said, source
        self._others = [one for one in said.others if one.casefold() != who.name.casefold()]
        self._asked = [(question, one.answers) for one in said.asking for question in one.questions]
        source.shuffle(self._asked)

    def endless(self) -> Iterator[tuple[Turn, ...]]:
        """Dialogues, one in SEVERAL of several turns."""
        for number, (question, answers) in enumerate(cycle(self._asked)):
            turns = [self._turn(question, answers)]
            if number % SEVERAL == SEVERAL - 1:
                self._surround(turns)
            yield tuple(turns)

    def _turn(self, question: str, answers: Sequence[str]) -> Turn:
        values = {"name": self._who.name, "author": self._who.author, "other": self._source.choice(self._others)}
        asked, answered = (
            PLACE.sub(lambda found: values[found[1]], text) for text in (question, self._source.choice(answers))
        )
        return asked, answered

    def _surround(self, turns: list[Turn]) -> None:
        """Put small talk and further questions before and after, no question twice."""
        for _ in range(self._source.choice(FURTHER)):
            if self._source.random() < SMALL_TALK:
                added = self._source.choice(self._said.small_talk)
            else:
                added = self._turn(*self._source.choice(self._asked))
            if added[0] not in {said for said, _ in turns}:
                turns.insert(self._source.randrange(len(turns) + 1), added)
