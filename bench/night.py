"""What a night costs: a night of so many records in its own process, while the bot goes on answering.

Half of the records are choices, half ratings, by one person with a hidden taste (see people.py), on the starter's own
replies. The last line is JSON: seconds and peak memory of the night's process, and how long a reply takes meanwhile,
beside how long it takes alone, one after the other and by the median.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from people import Truth, drawn, slope_of
from starter_talk import STARTER, Phrasing, a_bot, phrasings, write_canaries

from bots.app import App
from learner.engine.base import Candidate, ChatMessage
from learner.frozen import NightRequest, freeze, read_canaries
from learner.records import PreferencePair, PreferenceRecords, Provenance, RatedReply

ALONE = 60  # replies that are timed before the night


def provenance(number: int) -> Provenance:
    """Where record `number` comes from: a dozen make a chat."""
    return Provenance(f"x{number}", f"c{number // 12}", "bench:person", f"s{number // 12}", float(number), (None, None))


async def said(app: App, rows: Sequence[Phrasing], count: int, rng: random.Random) -> PreferenceRecords:
    """What the person says of replies to `rows`."""
    asked = [rng.choice(rows) for _ in range(count)]
    first, second = [await drawn(app, asked, seed, "base") for seed in (1, 2_000_000)]
    lengths: dict[str, list[int]] = {}
    for candidate, row in zip(first, asked, strict=True):
        lengths.setdefault(row.language, []).append(len(candidate.text))
    truth = Truth({language: statistics.fmean(found) for language, found in lengths.items()})
    utilities = [(truth(a.text, row), truth(b.text, row)) for a, b, row in zip(first, second, asked, strict=True)]
    slope, usual = slope_of([a - b for a, b in utilities]), statistics.median(a for a, _ in utilities)
    engine, pairs, ratings = app.engines["default"], [], []
    for number, (a, b, row, (better, worse)) in enumerate(zip(first, second, asked, utilities, strict=True)):
        prompt = (ChatMessage("user", row.text),)
        ids = engine.render(prompt)
        if number % 2:
            good = rng.random() < 1 / (1 + math.exp(-slope * (better - usual)))
            ratings.append(RatedReply(prompt, ids, a.text, a.token_ids, good, "rating", provenance(number)))
        elif a.text != b.text:
            chosen, rejected = (a, b) if rng.random() < 1 / (1 + math.exp(-slope * (better - worse))) else (b, a)
            pairs.append(_pair(prompt, ids, chosen, rejected, number))
    return PreferenceRecords(tuple(pairs), tuple(ratings), ties=0, left_out={})


def _pair(
    prompt: tuple[ChatMessage, ...], ids: tuple[int, ...], chosen: Candidate, rejected: Candidate, number: int
) -> PreferencePair:
    return PreferencePair(
        prompt, ids, chosen.text, rejected.text, chosen.token_ids, rejected.token_ids, "choice", provenance(number)
    )


async def replies_until(app: App, rows: Sequence[Phrasing], ended: Any) -> list[float]:
    """Seconds of each of the replies, one after the other, until `ended(number)`."""
    seconds: list[float] = []
    while not ended(len(seconds)):
        began = time.monotonic()
        await drawn(app, [rows[len(seconds) % len(rows)]], 9_000_000 + len(seconds), "active")
        seconds.append(time.monotonic() - began)
    return seconds


async def bench(options: argparse.Namespace) -> dict[str, Any]:
    """One night, and the replies beside it."""
    parts = phrasings()
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        write_canaries(home / "canaries.jsonl", parts["gate"])
        app = a_bot(home, options, seed=options.seed, ask_rate=0.0, teachers="owner")
        await app.start()
        try:
            records = await said(app, parts["said"], options.records, random.Random(options.seed))
            request = NightRequest(
                1, "default", str(STARTER), str(home / "loras"), threads=options.threads, seed=options.seed
            )
            folder = freeze(home / "runs" / "0001", request, records, read_canaries(home / "canaries.jsonl"))
            alone = await replies_until(app, parts["measured"], lambda count: count >= ALONE)
            command = (sys.executable, "-m", "learner.nightly", str(folder))
            quiet = asyncio.subprocess.DEVNULL
            night = await asyncio.create_subprocess_exec(*command, stdout=quiet, stderr=quiet)
            beside = await replies_until(app, parts["measured"], lambda _: night.returncode is not None)
        finally:
            await app.stop()
        verdict = json.loads((folder / "verdict.json").read_text("utf-8"))
        report = json.loads((folder / "report.json").read_text("utf-8"))
    medians = statistics.median(alone), statistics.median(beside)
    return {
        "records": len(records.pairs) + len(records.ratings),
        "outcome": verdict["outcome"],
        "seconds": verdict["seconds"],
        "phases": {name: round(value, 1) for name, value in report["seconds"].items()},
        "peak_gib": round(report["peak_bytes"] / 2**30, 2),
        "reply_seconds": {"alone": round(medians[0], 3), "beside": round(medians[1], 3)},
        "slowdown": round(medians[1] / medians[0], 2),
    }


def main() -> None:
    """Read the options, run, print; the last line is JSON."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--records", type=int, default=1000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--model", default="starter")
    options.add_argument("--threads", type=int, default=0, help="of torch; 0: its own choice")
    print(json.dumps(asyncio.run(bench(options.parse_args()))))


if __name__ == "__main__":
    main()
