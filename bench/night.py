"""What a night costs: a night of so many records in its own process, while the bot goes on answering.

Half of the records are choices, half ratings, by one person with a hidden taste (see people.py), on the starter's own
replies. The last line is JSON: seconds and peak memory of the night's process, and how long a reply takes meanwhile,
beside how long it takes alone, one after the other and by the median.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from offline import Asked, Offline
from people import Person, drawn
from starter_talk import STARTER, Phrasing, a_bot, phrasings, write_canaries

from bots.app import App
from learner.engine.base import ChatMessage
from learner.frozen import NightRequest, freeze, read_canaries
from learner.records import PreferenceRecords

ALONE = 60  # replies that are timed before the night
CHAT = 12  # records of one chat


def said(options: argparse.Namespace) -> PreferenceRecords:
    """What a person with a hidden taste says: of two replies half of the time, of one the other."""
    offline, rng, person = Offline(max(1, options.threads)), random.Random(options.seed), Person("person")
    rows = [rng.choice(offline.parts["said"]) for _ in range(options.records)]
    asked = [
        Asked((ChatMessage("user", row.text),), row, person, f"c{number // CHAT}") for number, row in enumerate(rows)
    ]
    return offline.records(asked[::2], asked[1::2], options.seed)


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
            records = await asyncio.to_thread(said, options)
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
