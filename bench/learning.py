"""Does a night teach? A simulated person talks to the real bot, picks, and the bot learns from it.

Drives the real router, store, engine, trainer and gate; only the person is made up. The person prefers one
manner, or short replies (at most two thirds of the start's mean in that language), and answers every offer: the
candidate that has it, "either" when both have it, "neither" when none has. `--choices` counts the offers in
which exactly one candidate has it; a day ends without them after `--offers`, because a bot that has learned
what is preferred hardly ever offers both kinds.

The written phrasings of the starter fall into three parts by a hash of their text: those the person says,
those the nightly gate sees as canaries, and those that this bench measures on and that nobody trains on.
Measured after each night, on whatever version then speaks: the share of sampled replies in the manner, their
mean length in characters, and the content canary: of greedy replies, how many hold a right answer, in the
right language, and end themselves. The last line is JSON.

With `--people` many people of several kinds teach instead, and a hidden truth judges: see towns.py.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent)]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import towns  # noqa: E402
from people import ROWS  # noqa: E402
from starter_talk import SAMPLING, Phrasing, a_bot, ask, fault, moved, phrasings, starter_manners, write_canaries  # noqa: E402

from adapters.base import Reply  # noqa: E402
from bots.app import App  # noqa: E402
from bots.nights import NightResult  # noqa: E402
from learner.engine.base import Candidate, Sampling  # noqa: E402

CHATS_AT_ONCE = 8
TURNS_PER_CHAT = 3
SHORT = 2 / 3  # of the mean length at the start, in the same language

Likes = Callable[[str, str], bool]  # a reply and its language -> whether the person likes it so


def teacher(name: str, manner_of: Callable[[str, str], str], mean_length: dict[str, float]) -> Likes:
    """What the person called `name` likes; `mean_length` is the start's, per language."""
    if name == "short":
        return lambda reply, language: len(reply) <= SHORT * mean_length[language]
    return lambda reply, language: manner_of(reply, language) == name


class Day:
    """One day's conversations: until `wanted` offers had exactly one candidate with what is preferred, or `most` offers
    were answered."""

    def __init__(
        self, app: App, likes: Likes, said: Sequence[Phrasing], wanted: int, most: int, rng: random.Random
    ) -> None:
        self._platform: Any = app.adapters["bench", "memory"]
        self._likes, self._said, self._wanted, self._most, self._rng = likes, said, wanted, most, rng
        self._numbers = itertools.count()
        self.choices = self.ties = self.both_bad = 0

    async def live(self, name: str) -> None:
        """Talk in several chats at once."""
        await asyncio.gather(*(self._chat(f"{name}-{lane}") for lane in range(CHATS_AT_ONCE)))

    @property
    def over(self) -> bool:
        """Whether the person has said enough."""
        return self.choices >= self._wanted or self.choices + self.ties + self.both_bad >= self._most

    async def _chat(self, lane: str) -> None:
        while not self.over:
            chat = f"{lane}-{next(self._numbers)}"
            for _ in range(self._rng.randint(1, TURNS_PER_CHAT)):
                if not self.over:
                    await self._turn(chat, self._rng.choice(self._said))

    async def _turn(self, chat: str, phrasing: Phrasing) -> None:
        replies: tuple[Reply, ...] = await self._platform.say(chat, "person", phrasing.text)
        if replies[0].candidates is None or self.over:
            return
        first, second = (self._likes(text, phrasing.language) for text in replies[0].candidates)
        if first != second:
            self.choices += 1
            await self._platform.say(chat, "person", "1" if first else "2")
        elif first:
            self.ties += 1
            await self._platform.say(chat, "person", "tie")
        else:
            self.both_bad += 1
            await self._platform.say(chat, "person", "0")


async def measure(app: App, rows: Sequence[Phrasing], seed: int) -> tuple[list[Candidate], list[Candidate]]:
    """Each phrasing's sampled reply (for manner and length) and greedy reply (for the canary)."""
    limit = asyncio.Semaphore(64)

    async def one(row: Phrasing, sampling: Sampling, number: int) -> Candidate:
        async with limit:
            return await ask(app, row.text, sampling, number)

    drawn = Sampling(**SAMPLING)
    sampled = await asyncio.gather(*(one(row, drawn, seed + i) for i, row in enumerate(rows)))
    greedy = await asyncio.gather(*(one(row, Sampling(0.0, max_tokens=64), 0) for row in rows))
    return sampled, greedy


class Report:
    """The figures so far; `look` adds those of the version that speaks now."""

    def __init__(self, options: argparse.Namespace, rows: Sequence[Phrasing], manner_of: Callable[[str, str], str]):
        self._options, self._rows, self._manner_of = options, rows, manner_of
        self.likes: Likes | None = None
        self.figures: dict[str, Any] = {"teacher": options.teacher, "seed": options.seed, "prompts": len(rows)}
        self.figures |= {name: [] for name in ("share", "length", "canary", "published", "seconds", "offers")}

    async def look(self, app: App, label: str) -> None:
        """Measure what speaks now; the seeds are the same each time, so that versions differ and draws do not."""
        sampled, greedy = await measure(app, self._rows, 1_000_000 * (self._options.seed + 1))
        faults = [fault(candidate, row) for candidate, row in zip(greedy, self._rows, strict=True)]
        length = statistics.fmean(len(candidate.text) for candidate in sampled)
        if self.likes is None:
            self.likes = teacher(self._options.teacher, self._manner_of, self._mean_lengths(sampled))
        liked = [self.likes(one.text, row.language) for one, row in zip(sampled, self._rows, strict=True)]
        self.figures["length"].append(round(length, 2))
        self.figures["share"].append(round(statistics.fmean(liked), 4))
        self.figures["canary"].append(round(faults.count("") / len(faults), 4))
        counted = {name: faults.count(name) for name in ("content", "language", "ending")}
        print(
            f"{label}: share {self.figures['share'][-1]}, length {length:.1f}, "
            f"canary {self.figures['canary'][-1]} {counted}",
            flush=True,
        )

    def _mean_lengths(self, sampled: Sequence[Candidate]) -> dict[str, float]:
        lengths: dict[str, list[int]] = {}
        for one, row in zip(sampled, self._rows, strict=True):
            lengths.setdefault(row.language, []).append(len(one.text))
        return {language: statistics.fmean(found) for language, found in lengths.items()}

    def night(self, ended: NightResult, seconds: float, day: Day) -> None:
        """Add how a night ended."""
        self.figures["published"].append(ended.state == "published")
        self.figures["seconds"].append(round(seconds, 1))
        self.figures["offers"].append({"choices": day.choices, "ties": day.ties, "both_bad": day.both_bad})
        tried = [(one["share"], round(one["canary"]["right"], 4)) for one in ended.verdict.get("tried", ())]
        print(f"night: {ended.state} {'; '.join(ended.reasons)} in {seconds:.0f} s, {self.figures['offers'][-1]}")
        print(f"  rate {ended.verdict.get('learning_rate')}, share and canaries tried {tried}")
        print(f"  preferences {(ended.verdict.get('gate') or {}).get('preference')}; {moved(ended)}", flush=True)


async def bench(options: argparse.Namespace) -> dict[str, Any]:
    """All days and nights of one person."""
    parts, manner_of = phrasings(), starter_manners()
    report = Report(options, parts["measured"][: options.prompts], manner_of)
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_canaries(folder / "canaries.jsonl", parts["gate"])
        app = a_bot(folder, options, seed=options.seed, ask_rate=1.0, teachers="everyone")
        await app.start()
        try:
            await report.look(app, "start")
            for number in range(1, options.nights + 1):
                assert report.likes is not None
                day = Day(app, report.likes, parts["said"], options.choices, options.offers, rng)
                await day.live(f"day{number}")
                began = time.monotonic()
                ended = await app.nights.start("default")
                report.night(ended, time.monotonic() - began, day)
                await report.look(app, f"after night {number}")
        finally:
            await app.stop()
    return report.figures


def main() -> None:
    """Read the options, run, print; the last line is JSON."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--teacher", default="warm", help="a manner of the starter, or short")
    options.add_argument("--choices", type=int, default=40)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--people", choices=ROWS, help="many people with a hidden truth instead: see towns.py")
    options.add_argument("--seeds", default="0,1,2,3,4", help="of --people")
    options.add_argument("--ratings", type=int, default=40, help="of a day with --people")
    options.add_argument("--without", action="append", choices=("ratings", "corrections", "asking"), help="of --people")
    options.add_argument("--control", choices=("prompt", "sft"), help="of --people: learn in another way instead")
    options.add_argument("--samples", type=int, default=3_200, help="of --people: replies that the canary is scored on")
    options.add_argument("--ceiling", type=int, default=60, help="of --people: phrasings that the ceiling is told by")
    options.add_argument("--jobs", type=int, default=1, help="of --people: seeds run at once")
    options.add_argument("--results", type=Path, help="of --people: a folder that keeps each seed's figures")
    options.add_argument("--png", help="where to draw the curves of --people")
    options.add_argument("--nights", type=int, help="3, with --people 6")
    options.add_argument("--offers", type=int, help="of a day at most: 600, with --people 40")
    options.add_argument("--prompts", type=int, default=1_200, help="phrasings to measure on")
    options.add_argument("--model", default="starter")
    options.add_argument("--threads", type=int, default=0, help="of torch; 0: its own choice")
    logging.basicConfig(level=logging.WARNING)
    given = options.parse_args()
    given.nights = given.nights or (6 if given.people else 3)
    given.offers = given.offers or (40 if given.people else 600)
    print(json.dumps(towns.run(given) if given.people else asyncio.run(bench(given))))


if __name__ == "__main__":
    main()
