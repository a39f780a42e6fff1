"""What people told the bot in one chat alone and nobody else may hear from it: words, names, numbers. Pure.

A passage is private when one chat's people said it and nobody else, and when neither the anchor nor a correction says
it: what people correct a reply to is meant to be said, but for what it repeats of their own words before it. Runs of
words count, not single ones, so that a pet name is none. Knows nothing of models, tokens or likelihoods.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from typing import TypeVar

from learner.records import PreferencePair, PreferenceRecords, RatedReply

SIGN = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"  # written without spaces: each is a unit
UNIT = re.compile(rf"[{SIGN}]|\d|[^\W\d_{SIGN}]+")
WORD_WEIGHT = 2  # of a word; a digit and a sign written without spaces weigh 1
LONG = 6  # what weighs so much is a passage: six digits, three words
CHATS = 3  # what one person says in so many chats is a habit and no secret
CHANGED = 4  # a passage of which less can be told apart from others like it is not probed
SHAPE_KEPT = 0.25  # of what can be changed stays, so that what follows is known by heart or guessed
MOST_PROBED, ALTERNATIVES = 12, 12

Window = tuple[str, ...]
Record = PreferencePair | RatedReply
AnyRecord = TypeVar("AnyRecord", PreferencePair, RatedReply)


@dataclass(frozen=True)
class Unit:
    """A word, sign or digit of a text, and where it stands."""

    text: str
    start: int
    end: int

    @property
    def weight(self) -> int:
        return 1 if self.text.isdigit() or re.match(f"[{SIGN}]", self.text) else WORD_WEIGHT


@dataclass(frozen=True)
class Passage:
    """Something private: the message that holds it, where, and which units of it others would say otherwise.

    `asked` is what else was asked in that chat; "" where nothing was.
    """

    message: str
    start: int
    end: int
    changeable: tuple[Unit, ...]
    asked: str

    @property
    def words(self) -> str:
        return self.message[self.start : self.end]

    @property
    def before(self) -> str:
        return self.message[: self.start].strip()

    def others(self, pool: Sequence[str], count: int) -> list[str]:
        """So many passages of the same shape: its first part as it is, then other digits, signs and words."""
        rng = random.Random(self.words)
        kept = int(SHAPE_KEPT * len(self.changeable))
        found: dict[str, None] = {}
        for _ in range(4 * count):
            text = self.message
            for unit in reversed(self.changeable[kept:]):
                text = text[: unit.start] + _another(unit.text, pool, rng) + text[unit.end :]
            other = text[self.start : len(text) - len(self.message) + self.end]
            if other != self.words:
                found[other] = None
        return list(found)[:count]


@dataclass(frozen=True)
class Private:
    """All that is private in a night's records. `pool` are words and signs that stand elsewhere."""

    windows: frozenset[Window] = frozenset()
    passages: tuple[Passage, ...] = ()
    pool: tuple[str, ...] = ()

    def said_in(self, reply: str, prompt: str) -> list[Window]:
        """What of it `reply` tells to somebody whose own words do not hold it."""
        if not self.windows:
            return []
        own = set(windows(prompt))
        return [window for window in dict.fromkeys(windows(reply)) if window in self.windows and window not in own]


def units(text: str) -> list[Unit]:
    """The words, signs and digits of `text`, whatever their case and width, and whatever stands between them."""
    plain = "".join(_plain(letter) for letter in text)
    return [Unit(found.group(), found.start(), found.end()) for found in UNIT.finditer(plain)]


def windows(text: str) -> Iterator[Window]:
    """From every unit on the shortest run that is long enough to tell something."""
    for run in _runs(units(text)):
        yield tuple(unit.text for unit in run)


def private(records: PreferenceRecords, known: Iterable[str]) -> Private:
    """What of `records` is private; `known` are texts that anybody may hear: the anchor's replies, the canaries."""
    every = _every(records)
    kept = _windows(every, known)
    return Private(kept, *_passages(every, kept))


def _every(records: PreferenceRecords) -> list[Record]:
    return [*records.pairs, *records.ratings, *records.tied]


def _windows(every: Sequence[Record], known: Iterable[str]) -> frozenset[Window]:
    """What one chat's people said and nobody else, and neither `known` nor what was taught says."""
    holders: dict[Window, set[tuple[str, str]]] = defaultdict(set)
    in_text = cache(lambda text: frozenset(windows(text)))  # a chat's turns stand in all its later prompts
    open_windows = {window for text in known for window in in_text(text)}
    for record in every:
        own = {window for text in _own_words(record) for window in in_text(text)}
        for window in own:
            holders[window].add((record.provenance.chat, record.provenance.teacher))
        open_windows |= {window for text in _taught(record) for window in in_text(text)} - own
    return frozenset(window for window, who in holders.items() if window not in open_windows and _of_one(who))


def numbers(records: PreferenceRecords) -> frozenset[Window]:
    """The long numbers (of a telephone, a card) that are private."""
    return frozenset(window for window in _windows(_every(records), ()) if all(unit.isdigit() for unit in window))


def discreet(records: PreferenceRecords, secret: frozenset[Window]) -> PreferenceRecords:
    """`records` without those that would teach a reply that tells one of the `secret` numbers.

    To whom it belongs the bot may repeat it; a LoRA that learned the reply would know it by heart.
    """

    def kept(every: Sequence[AnyRecord]) -> tuple[AnyRecord, ...]:
        return tuple(record for record in every if not any(tells(text, secret) for text in _learned(record)))

    if not secret:
        return records
    pairs, ratings, tied = kept(records.pairs), kept(records.ratings), kept(records.tied)
    count = len(_every(records)) - len(pairs) - len(ratings) - len(tied)
    left_out = records.left_out | ({"private_number": count} if count else {})
    return replace(records, pairs=pairs, ratings=ratings, tied=tied, left_out=left_out)


def tells(text: str, secret: frozenset[Window]) -> bool:
    """Whether one of the `secret` numbers stands in `text`."""
    return not secret.isdisjoint(windows(text))


def _learned(record: Record) -> tuple[str, ...]:
    """What of a record becomes likelier by training on it."""
    if isinstance(record, RatedReply):
        return (record.completion,) if record.desirable else ()
    return (record.chosen, record.rejected) if record.source == "tie" else (record.chosen,)


def _of_one(who: set[tuple[str, str]]) -> bool:
    chats, people = {chat for chat, _ in who}, {person for _, person in who}
    return len(chats) == 1 or (len(people) == 1 and len(chats) < CHATS)


def _own_words(record: Record) -> list[str]:
    return [message.content for message in record.prompt if message.role == "user"]


def _taught(record: Record) -> list[str]:
    """What of a record anybody may hear: the base model's own replies, corrections, and the persona.

    A LoRA's replies are not: what one of them leaked stays private.
    """
    found = [message.content for message in record.prompt if message.role == "system"]
    loras = list(record.provenance.loras)
    if isinstance(record, RatedReply):
        return [*found, record.completion] if not any(loras) else found
    texts = [record.rejected, record.chosen]  # a correction tells the LoRA of its rejected reply alone
    for text, lora in zip(texts, [*reversed(loras), None, None], strict=False):
        if not lora:
            found.append(text)
    return found


def _passages(records: Sequence[Record], kept: frozenset[Window]) -> tuple[tuple[Passage, ...], tuple[str, ...]]:
    """The passages that are worth probing, the most telling first, and words to put in their place."""
    chats: dict[str, set[str]] = defaultdict(set)
    asked: dict[str, str] = {}
    in_text = cache(units)
    for record in records:
        for text in (words := _own_words(record)):
            for unit in in_text(text):
                chats[unit.text].add(record.provenance.chat)
            asked[text] = words[-1] if words[-1] != text else asked.get(text, "")
    lonely = {text for text, where in chats.items() if len(where) == 1}
    found = [passage for text, then in asked.items() for passage in _in_message(text, then, kept, lonely)]
    found.sort(key=lambda one: (-sum(1 + unit.text.isdigit() for unit in one.changeable), one.words))
    pool = tuple(sorted(text for text in chats if not text.isdigit()))
    return tuple(found[:MOST_PROBED]), pool


def _in_message(text: str, then: str, kept: frozenset[Window], lonely: set[str]) -> Iterator[Passage]:
    """The longest runs of private windows of a message."""
    covered: dict[int, Unit] = {}
    found = units(text)
    for run in _runs(found):
        if tuple(unit.text for unit in run) in kept:
            covered |= {unit.start: unit for unit in run}
    part: list[Unit] = []
    for unit in [*found, None]:
        if unit is not None and unit.start in covered:
            part.append(unit)
        elif part:
            yield from _probed(text, part, then, lonely)
            part = []


def _probed(text: str, part: Sequence[Unit], then: str, lonely: set[str]) -> Iterator[Passage]:
    """What is told apart from others like it: all of a run, and a long number in it by itself."""
    changeable = tuple(one for one in part if one.text.isdigit() or one.text in lonely)
    if sum(one.weight for one in changeable) < CHANGED:
        return
    yield Passage(text, changeable[0].start, part[-1].end, changeable, then)
    for digits, run in groupby(part, key=lambda one: one.text.isdigit()):
        number = tuple(run)
        if digits and LONG <= len(number) < len(changeable):
            yield Passage(text, number[0].start, number[-1].end, number, then)


def _runs(found: Sequence[Unit]) -> Iterator[Sequence[Unit]]:
    end = weight = 0
    for start, first in enumerate(found):
        while weight < LONG and end < len(found):
            weight += found[end].weight
            end += 1
        if weight < LONG:
            return
        yield found[start:end]
        weight -= first.weight


def _another(text: str, pool: Sequence[str], rng: random.Random) -> str:
    """Something else of the same sort and about the same length."""
    if text.isdigit():
        return str(rng.randrange(10))
    alike = [other for other in pool if abs(len(other) - len(text)) <= 1 and other != text]
    return rng.choice(alike) if alike else "".join(rng.sample(text, len(text)))


def _plain(letter: str) -> str:
    """One character for one: full width becomes half width, and case is folded."""
    plain = unicodedata.normalize("NFKC", letter).casefold()
    return plain if len(plain) == 1 else letter.lower()[:1] or letter
