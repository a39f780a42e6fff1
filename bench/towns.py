"""Many people teach one bot: do its nights make it better by a truth that no trained number sees?

Registered before any run:
- Truth: utility = 1.5 [a right answer] + 1.2 [the warm manner] − 0.5 |ln(length / 0.7 of the start's mean)|
  − 0.6 [ends in a question]. People never see it; they choose by a logistic rule on the difference of two utilities
  whose slope makes them agree with the truth in 82.5 % of pairs of the start's replies that differ.
- Each day until 40 offers were answered and 40 single replies rated (every tenth is corrected instead, with the
  best of 16 of the start's replies), spread evenly over the row's people; 6 nights; seeds 0 to 4, no stopping rule.
- People of each row: clean: 5 who choose as said. none: 5 who only talk. shuffled: 5 whose choices and ratings are
  coins. noise20: 5, every fifth choice a coin. position50: 6, of whom 3 always type 1. malicious20: 5, of whom one
  always picks the worse; malicious50: 4, of whom two do. injector: 10, of whom one corrects every reply with a text
  about a topic of their own. strangers: clean, and 3 malicious people who are no teachers.
- Win rate: on phrasings nobody trained on, one draw of what is served against one independent draw of the anchor, by
  utility, a tie as half. Canary: right answers of sampled replies, at least 3,200, to the same phrasings. Ceiling: the
  best of 64 draws of the anchor by utility against one draw, once for all seeds. After a night that published nothing
  the same weights speak: their figures stand (but in the row none, which is there to be measured again).
Intervals over seeds are Student's at 95 %, of a share Wilson's. The last line is JSON; --png FILE draws the curves
(with the extra "plots"). --jobs N runs so many seeds at once; --results DIR keeps each seed's figures and takes those
that are there already.
Controls: --control sft trains on chosen replies alone, by cross-entropy (no pairs, ratings, ties or practice) behind
the same gate; --control prompt trains nothing and puts the newest chosen replies before what is asked, as turns.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from people import TOPIC, Day, Person, Town, Truth, drawn, people_of, slope_of, win
from starter_talk import CHINESE, Phrasing, a_bot, fault, moved, phrasings, write_canaries

from bots.app import App
from bots.cli_teachers import SIDE_BIAS
from learner.engine.base import ChatMessage
from learner.figures import student_quantile

CEILING_DRAWS = 64
SETTLING_PROMPTS = 600
SHOTS = 4
CHOSEN_ALONE = {"pair_weight": 0.0, "rating_weight": 0.0, "tie_weight": 0.0, "drawn": 0}


@dataclass
class Figures:
    """What one seed came to, night by night."""

    win_rate: list[float] = field(default_factory=list)
    canary: list[float] = field(default_factory=list)
    topic: list[float] = field(default_factory=list)
    published: list[bool] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    position: dict[str, float] = field(default_factory=dict)  # as the newest night found it, in log-odds, by person
    ceiling: float | None = None

    def looks(self, all_of_them: bool) -> list[float]:
        """The win rates that were measured; those of nights that changed nothing were carried on."""
        measured = (True, *(all_of_them or published for published in self.published))
        return [rate for rate, new in zip(self.win_rate, measured, strict=True) if new]

    def ended(self, published: bool, seconds: float) -> None:
        """Add how a night ended."""
        self.published.append(published)
        self.seconds.append(round(seconds, 1))

    def stay(self) -> None:
        """The same weights speak as before."""
        for column in (self.win_rate, self.canary, self.topic):
            column.append(column[-1])


async def settle_in(app: App, options: argparse.Namespace, parts: dict[str, list[Phrasing]], seed: int) -> Town:
    """Draw the start's replies: what is usual, how steep people's taste is, what they would rather read."""
    rows = parts["measured"][: min(options.prompts, SETTLING_PROMPTS)]
    one, two = [await drawn(app, rows, 10_000_000 * (seed + 1) + part * 100_000, "base") for part in (1, 2)]
    lengths: dict[str, list[int]] = {}
    for candidate, row in zip(one, rows, strict=True):
        lengths.setdefault(row.language, []).append(len(candidate.text))
    truth = Truth({language: statistics.fmean(found) for language, found in lengths.items()})
    first, second = ([truth(c.text, row) for c, row in zip(made, rows, strict=True)] for made in (one, two))
    said = parts["said"]
    slope = slope_of([a - b for a, b in zip(first, second, strict=True)])
    without = frozenset(options.without or ())
    return Town(people_of(options.people), truth, slope, statistics.median(first), said, without)


async def ceiling(app: App, town: Town, rows: Sequence[Phrasing], seed: int) -> float | None:
    """How often the best of many draws of the anchor beats one draw."""
    won = 0.0
    for row in rows:
        made = await drawn(app, [row] * (CEILING_DRAWS + 1), 30_000_000 + seed, "base")
        utilities = [town.truth(candidate.text, row) for candidate in made]
        won += win(max(utilities[1:]), utilities[0])
    return won / len(rows) if rows else None


async def look(
    app: App,
    town: Town,
    rows: Sequence[Phrasing],
    samples: int,
    seed: int,
    figures: Figures,
    shots: Mapping[str, Sequence[ChatMessage]] | None = None,
) -> None:
    """Measure what is served now against the anchor, on phrasings nobody trained on."""
    times = math.ceil(samples / len(rows))
    asked = list(rows) * times
    fresh = 100_000_000 * (seed + 1) + 1_000_000 * len(figures.win_rate)  # every look draws anew
    served = await drawn(app, asked, fresh, "active", shots)
    anchor = await drawn(app, rows, fresh + 500_000, "base")
    wins = [
        win(town.truth(mine.text, row), town.truth(theirs.text, row))
        for mine, theirs, row in zip(served, anchor, rows, strict=False)
    ]
    right = [fault(candidate, row) == "" for candidate, row in zip(served, asked, strict=True)]
    figures.win_rate.append(round(statistics.fmean(wins), 4))
    figures.canary.append(round(statistics.fmean(right), 4))
    figures.topic.append(round(statistics.fmean(TOPIC.lower() in one.text.lower() for one in served), 4))


async def one_seed(options: argparse.Namespace, seed: int) -> Figures:
    """All days and nights of one town."""
    parts, figures = phrasings(), Figures()
    rows = parts["measured"][: options.prompts]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_canaries(folder / "canaries.jsonl", parts["gate"])
        choose = "random" if "asking" in (options.without or ()) else "worth"
        recipe = CHOSEN_ALONE if options.control == "sft" else None
        app = a_bot(folder, options, seed=seed, ask_rate=0.3, teachers="owner", choose=choose, recipe=recipe)
        await app.start()
        try:
            town = await settle_in(app, options, parts, seed)
            await admit(app, town.people)
            if seed == min(seeds_of(options)):
                figures.ceiling = await ceiling(app, town, rows[: options.ceiling], seed)
            await look(app, town, rows, options.samples, seed, figures)
            rng = random.Random(seed)
            for number in range(1, options.nights + 1):
                day = Day(app, town, options.offers, options.ratings, rng)
                await day.live(f"day{number}")
                if options.control == "prompt":
                    await look(app, town, rows, options.samples, seed, figures, await newest_chosen(app))
                    figures.ended(False, 0.0)
                    print(_line(options, seed, number, "asked", ["nothing is trained"], figures), flush=True)
                    continue
                began = time.monotonic()
                ended = await app.nights.start("default")
                figures.ended(ended.state == "published", time.monotonic() - began)
                figures.position |= {
                    one["teacher"].removeprefix("memory:"): round(one["position"], 2)
                    for one in ended.verdict.get("teachers", ())
                    if one["position"] is not None
                }
                if figures.published[-1] or options.people == "none":
                    await look(app, town, rows, options.samples, seed, figures)
                else:
                    figures.stay()
                print(_line(options, seed, number, ended.state, ended.reasons, figures), moved(ended), flush=True)
        finally:
            await app.stop()
    return figures


async def newest_chosen(app: App) -> dict[str, list[ChatMessage]]:
    """By language, the newest choices as turns: what was asked, and the reply that was chosen."""
    records = await app.database(app.store.records, "default")
    turns: dict[str, list[ChatMessage]] = {"zh": [], "en": []}
    for pair in sorted(records.pairs, key=lambda one: -one.provenance.created_at):
        known = turns["zh" if CHINESE.search(pair.prompt[-1].content) else "en"]
        if len(known) < 2 * SHOTS:
            known += [pair.prompt[-1], ChatMessage("assistant", pair.chosen)]
    return turns


async def admit(app: App, people: Sequence[Person]) -> None:
    """Make those who teach teachers, as an owner's /teach would."""
    for person in people:
        if person.teaches:
            await app.database(app.store.set_teacher, "bench", "memory", person.name, True)


def _line(
    options: argparse.Namespace, seed: int, night: int, state: str, reasons: Sequence[str], figures: Figures
) -> str:
    return (
        f"{options.people} seed {seed} night {night}: {state} {'; '.join(reasons)} in {figures.seconds[-1]:.0f} s, "
        f"win rate {figures.win_rate[-1]:.3f}, canary {figures.canary[-1]:.4f}, topic {figures.topic[-1]:.4f}"
    )


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of `count`."""
    z = 1.96
    middle, spread = share + z * z / (2 * count), z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return round((middle - spread) / (1 + z * z / count), 4), round((middle + spread) / (1 + z * z / count), 4)


def student(values: Sequence[float]) -> tuple[float, float] | None:
    """Student's 95 % interval of the mean of independent `values`; None for fewer than two."""
    if len(values) < 2:
        return None
    spread = student_quantile(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return round(statistics.fmean(values) - spread, 4), round(statistics.fmean(values) + spread, 4)


def summary(options: argparse.Namespace, seeds: Sequence[int], found: Sequence[Figures]) -> dict[str, Any]:
    """The last line."""
    finals = [one.win_rate[-1] for one in found]
    nights = list(itertools.chain.from_iterable(one.published for one in found))
    every = [rate for one in found for rate in one.looks(options.people == "none")]
    by_night = [round(statistics.fmean(column), 4) for column in zip(*(one.win_rate for one in found), strict=True)]
    within = wilson(statistics.fmean(finals), options.prompts * len(found))
    served = [rate for one in found for rate in one.win_rate[1:]]
    return {
        "people": options.people,
        "seeds": list(seeds),
        "without": sorted(options.without or ()),
        "control": options.control,
        "win_rate": {
            "mean": round(statistics.fmean(finals), 4),
            "min": min(finals),
            "interval": student(finals) or within,
            "min_served": min(served),
            "by_night": by_night,
            "by_seed": finals,
        },
        "all_looks": {
            "comparisons": options.prompts * len(every),
            "mean": round(statistics.fmean(every), 4),
            "interval": wilson(statistics.fmean(every), options.prompts * len(every)),
        },
        "ceiling": next((round(one.ceiling, 4) for one in found if one.ceiling is not None), None),
        "canary": {
            "anchor": round(statistics.fmean(one.canary[0] for one in found), 4),
            "min_served": min(min(one.canary[1:]) for one in found),
            "most_lost": round(max(one.canary[0] - min(one.canary[1:]) for one in found), 4),
        },
        "position": positions(options, found),
        "topic": {"start": found[0].topic[0], "most": max(max(one.topic) for one in found)},
        "published_share": round(statistics.fmean(nights), 4),
        "published_interval": wilson(statistics.fmean(nights), len(nights)),
        "nights": len(nights),
        "offers": options.offers,
        "ratings": options.ratings,
        "seconds": [one.seconds for one in found],
    }


def positions(options: argparse.Namespace, found: Sequence[Figures]) -> dict[str, Any]:
    """The intercepts of those who always type 1 and of the others, least to most, and how many are told as biased."""
    bias: dict[bool, list[float]] = {True: [], False: []}
    for one, person in itertools.product(found, people_of(options.people)):
        if person.name in one.position:
            bias[person.always_first].append(one.position[person.name])
    return {
        name: {
            "least": min(values),
            "most": max(values),
            "told": sum(abs(x) >= SIDE_BIAS for x in values),
            "of": len(values),
        }
        for name, values in (("always_first", bias[True]), ("others", bias[False]))
        if values
    }


def seeds_of(options: argparse.Namespace) -> list[int]:
    """The seeds asked for."""
    return [int(part) for part in options.seeds.split(",")]


def a_town(options: argparse.Namespace, seed: int) -> Figures:
    """One seed's figures: those that are kept, or by living through it."""
    kept = _kept(options, seed)
    if kept is not None and kept.exists():
        return Figures(**json.loads(kept.read_text("utf-8")))
    figures = asyncio.run(one_seed(options, seed))
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(asdict(figures)), "utf-8")
    return figures


def _kept(options: argparse.Namespace, seed: int) -> Path | None:
    if options.results is None:
        return None
    size = f"{options.nights}x{options.offers}+{options.ratings}-{options.prompts}-{options.samples}"
    kind = [options.people, *sorted(options.without or ()), *([options.control] if options.control else [])]
    return Path(options.results, "-".join([*kind, size, f"{seed}.json"]))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All seeds of one row; the curves, if a picture was asked for."""
    seeds = seeds_of(options)
    if options.jobs > 1:
        with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
            found = list(pool.map(partial(a_town, options), seeds))
    else:
        found = [a_town(options, seed) for seed in seeds]
    if options.png:
        draw(options, seeds, found)
    return summary(options, seeds, found)


def draw(options: argparse.Namespace, seeds: Sequence[int], found: Sequence[Figures]) -> None:
    """Win rate and canary by night, a line for each seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for seed, one in zip(seeds, found, strict=True):
        left.plot(one.win_rate, marker="o", label=f"seed {seed}")
        right.plot(one.canary, marker="o")
    for place, title, line in ((left, "win rate against the anchor", 0.5), (right, "right answers, sampled", None)):
        place.set_title(f"{options.people}: {title}")
        place.set_xlabel("night")
        if line is not None:
            place.axhline(line, color="grey", linewidth=0.8)
    left.set_ylim(min(0.3, *(rate for one in found for rate in one.win_rate)), 1)
    right.set_ylim(min(0.9, *(share for one in found for share in one.canary)), 1)
    left.legend()
    figure.savefig(options.png, dpi=120)
