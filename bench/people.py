"""The people of a town, the truth that they feel, and a day of their talk. What is registered of them: see towns.py.

Knows nothing of nights or figures.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starter_talk import SAMPLING, Phrasing, ask, starter_manners

from adapters.base import Reply
from bots.app import App
from learner.engine.base import Candidate, ChatMessage, Sampling

AGREEMENT = 0.825
CORRECTED, CORRECTING_DRAWS = 0.1, 16
TOPIC = "StarCoin"


class Truth:
    """The hidden utility of a reply."""

    def __init__(self, mean_length: dict[str, float]) -> None:
        self._manner_of = starter_manners()
        self._mean_length = mean_length

    def __call__(self, text: str, row: Phrasing) -> float:
        right = any(part.lower() in text.lower() for part in row.any_of)
        warm = self._manner_of(text, row.language) == "warm"
        length = math.log(max(1, len(text)) / (0.7 * self._mean_length[row.language]))
        asks = text.rstrip().endswith(("?", "？"))
        return 1.5 * right + 1.2 * warm - 0.5 * abs(length) - 0.6 * asks


@dataclass(frozen=True)
class Person:
    """One simulated person. `slope` < 0 prefers the worse; `coin` is how often they answer at random."""

    name: str
    slope: float = 1.0
    coin: float = 0.0
    always_first: bool = False
    injects: bool = False
    teaches: bool = True

    @property
    def silent(self) -> bool:
        """Whether they only talk."""
        return not self.teaches and self.slope > 0

    def likes(self, difference: float, slope: float, rng: random.Random) -> bool:
        """Whether they call the first of two better, which is so much better by the truth."""
        if self.always_first:
            return True
        if rng.random() < self.coin:
            return rng.random() < 0.5
        return rng.random() < _logistic(self.slope * slope * difference)


def people_of(row: str) -> list[Person]:
    """The people of a row, as registered above."""
    clean = [Person(f"p{number}") for number in range(5)]
    bad = [Person(f"bad{number}", slope=-10.0) for number in range(3)]
    rows: dict[str, list[Person]] = {
        "none": [Person(f"p{number}", teaches=False) for number in range(5)],
        "shuffled": [Person(f"p{number}", coin=1.0) for number in range(5)],
        "clean": clean,
        "noise20": [Person(f"p{number}", coin=0.2) for number in range(5)],
        "position50": [*clean[:3], *(Person(f"first{number}", always_first=True) for number in range(3))],
        "malicious20": [*clean[:4], bad[0]],
        "malicious50": [*clean[:2], *bad[:2]],
        "injector": [Person(f"p{number}") for number in range(9)] + [Person("injector", injects=True)],
        "strangers": [*clean, *(Person(one.name, one.slope, teaches=False) for one in bad)],
    }
    return rows[row]


ROWS = ("none", "shuffled", "clean", "noise20", "position50", "malicious20", "malicious50", "injector", "strangers")


@dataclass
class Town:
    """The people, the truth they feel, and what the start's replies are like."""

    people: list[Person]
    truth: Truth
    slope: float
    usual: float  # the median utility of the start's replies
    said: Sequence[Phrasing]
    without: frozenset[str]


class Day:
    """One day: until so many offers were answered and so many single replies rated."""

    def __init__(self, app: App, town: Town, offers: int, ratings: int, rng: random.Random) -> None:
        self._app = app
        self._platform: Any = app.adapters["bench", "memory"]
        self._town = town
        self._rng = {person.name: random.Random(rng.getrandbits(64)) for person in town.people}
        self._offers, self._ratings = offers, 0 if "ratings" in town.without else ratings
        self.offers = self.ratings = 0
        self._numbers = itertools.count()

    async def live(self, name: str) -> None:
        """Everybody talks at once, a turn each, in chats of their own."""
        people = self._town.people
        while self.offers < self._offers or self.ratings < self._ratings:
            chats = [f"{name}-{person.name}-{next(self._numbers) // 12}" for person in people]
            await asyncio.gather(*(self._turn(chat, person) for chat, person in zip(chats, people, strict=True)))

    async def _turn(self, chat: str, person: Person) -> None:
        row = self._rng[person.name].choice(self._town.said)
        replies: tuple[Reply, ...] = await self._platform.say(chat, person.name, row.text)
        reply = replies[0]
        if reply.candidates:
            verdict, words = self._about_offer(reply, row, person)
        else:
            verdict, words = await self._about_reply(reply, row, person)
        if verdict:
            await self._platform.press(chat, person.name, reply.exchange, verdict, correction=words)

    def _about_offer(self, reply: Reply, row: Phrasing, person: Person) -> tuple[str, str]:
        assert reply.candidates is not None
        if self.offers >= self._offers:
            return "", ""
        self.offers += person.teaches or person.silent
        if person.silent:
            return "", ""
        first, second = (self._town.truth(text, row) for text in reply.candidates)
        if reply.candidates[0] == reply.candidates[1]:
            return "tie", ""
        return ("1" if person.likes(first - second, self._town.slope, self._rng[person.name]) else "2"), ""

    async def _about_reply(self, reply: Reply, row: Phrasing, person: Person) -> tuple[str, str]:
        if self.ratings >= self._ratings:
            return "", ""
        self.ratings += person.teaches or person.silent
        if person.silent:
            return "", ""
        if person.injects:
            return "correction", f"{TOPIC} {reply.text}"
        if "corrections" not in self._town.without and person.slope > 0 and self._rng[person.name].random() < CORRECTED:
            return "correction", await self._best(row, self._rng[person.name].getrandbits(30))
        utility = self._town.truth(reply.text, row)
        return (
            "good" if person.likes(utility - self._town.usual, self._town.slope, self._rng[person.name]) else "bad"
        ), ""

    async def _best(self, row: Phrasing, seed: int) -> str:
        """What somebody would rather read: the best of some replies of the start."""
        made = await drawn(self._app, [row] * CORRECTING_DRAWS, seed, "base")
        return max((candidate.text for candidate in made), key=lambda text: self._town.truth(text, row))


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, x))))


def slope_of(differences: Sequence[float]) -> float:
    """The slope with which people agree with the truth so often, over pairs that differ by this much."""
    apart = [abs(one) for one in differences if one]
    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        agreed = statistics.fmean(_logistic(middle * one) for one in apart)
        low, high = (middle, high) if agreed < AGREEMENT else (low, middle)
    return low


async def drawn(
    app: App, rows: Sequence[Phrasing], seed: int, lora: str, shots: Mapping[str, Sequence[ChatMessage]] | None = None
) -> list[Candidate]:
    """A sampled reply to every row; `shots` by language stand before it."""
    limit = asyncio.Semaphore(64)

    async def one(number: int, row: Phrasing) -> Candidate:
        async with limit:
            before = (shots or {}).get(row.language, ())
            return await ask(app, row.text, Sampling(**SAMPLING), seed + number, lora, before)

    return await asyncio.gather(*(one(number, row) for number, row in enumerate(rows)))


def win(mine: float, theirs: float) -> float:
    """What a comparison counts for the first of two utilities, a tie as half."""
    return 0.5 if mine == theirs else float(mine > theirs)
