"""From a person's exported chats to a bot that speaks as that person does, and goes on doing so after a night on top.

Perplexity on what was held out, and whose a sampled reply is taken for.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from person_samples import MANNER, STARTER, chats_file
from test_tune import command, run

from bench.starter_talk import Phrasing, phrasings, starter_manners, write_canaries
from learner.engine.base import Candidate, CandidateSpec, ChatMessage, GenerateRequest, Sampling
from learner.engine.local import LocalEngine
from learner.engine.local_settings import LocalSettings
from learner.frozen import NightRequest, freeze, read_canaries
from learner.records import PreferencePair, PreferenceRecords, Provenance

ASKED, CHOICES = 60, 160
SAMPLING = Sampling(temperature=0.9, top_p=0.95, max_tokens=64)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """The person's LoRA, and how its training ended."""
    folder = tmp_path_factory.mktemp("person")
    chats, rows = chats_file(folder, 400)
    data = folder / "person.jsonl"
    counts = run(["corpus", "import", str(chats), "--me", "我", "--output", str(data), "--json"])
    assert rows == counts["read"] == counts["kept"] + counts["dropped"]
    found = run(command(data, folder / "lora", "--max-steps", "160", "--eval-every", "40"))
    return folder / "lora", found


class Speaker:
    """The starter with an anchor, asked one thing after the other."""

    def __init__(self, anchor: str) -> None:
        self.engine = LocalEngine(LocalSettings(str(STARTER), device="cpu", anchor=anchor, threads=1, max_queue=512))

    async def __aenter__(self) -> Speaker:
        await self.engine.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.engine.close()

    async def replies(self, rows: Sequence[Phrasing], seed: int) -> list[Candidate]:
        async def one(number: int, row: Phrasing) -> Candidate:
            prompt = self.engine.render([ChatMessage("user", row.text)])
            request = GenerateRequest(prompt, (CandidateSpec(SAMPLING, seed + number),), timeout=600)
            return (await self.engine.generate(request)).candidates[0]

        return await asyncio.gather(*(one(number, row) for number, row in enumerate(rows)))

    async def told(self, seed: int) -> tuple[float, float]:
        """Of sampled replies to what nobody trained on: the share taken for the person's, and the mean length."""
        rows, manner_of = phrasings()["measured"][:ASKED], starter_manners()
        made = await self.replies(rows, seed)
        taken = [manner_of(one.text, row.language) == MANNER for one, row in zip(made, rows, strict=True)]
        return statistics.fmean(taken), statistics.fmean(len(one.text) for one in made)


async def told_by(anchor: str) -> tuple[float, float]:
    async with Speaker(anchor) as speaker:
        return await speaker.told(seed=0)


def test_the_bot_comes_to_speak_as_the_person(trained: tuple[Path, dict[str, float]]) -> None:
    lora, found = trained
    assert found["perplexity"] <= 0.7 * found["perplexity_before"], found
    before, after = (asyncio.run(told_by(one))[0] for one in ("", str(lora)))
    print(
        f"perplexity {found['perplexity_before']:.2f} -> {found['perplexity']:.2f}, share {before:.2f} -> {after:.2f}"
    )
    assert before <= 0.4
    assert after >= 0.8


async def test_a_night_on_top_teaches_and_does_not_lose_the_person(
    trained: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    anchor = str(trained[0])
    write_canaries(tmp_path / "canaries.jsonl", phrasings()["gate"])
    async with Speaker(anchor) as speaker:
        share, length = await speaker.told(seed=1)
        records = await likes_short_ones(speaker, random.Random(0))
        request = NightRequest(1, "default", str(STARTER), str(tmp_path / "loras"), anchor=anchor, threads=1, nice=0)
        folder = freeze(tmp_path / "runs" / "0001", request, records, read_canaries(tmp_path / "canaries.jsonl"))
        night = [sys.executable, "-W", "ignore", "-m", "learner.nightly", str(folder)]
        await asyncio.to_thread(subprocess.run, night, check=True, capture_output=True, timeout=1200)
        verdict = json.loads((folder / "verdict.json").read_text("utf-8"))
        assert verdict["outcome"] == "published", verdict["reasons"]
        await speaker.engine.swap_lora(tmp_path / "loras" / "0001")
        kept, shorter = await speaker.told(seed=2)
    print(f"share {share:.2f} -> {kept:.2f}, length {length:.1f} -> {shorter:.1f}")
    assert kept >= 0.8
    assert shorter < 0.95 * length


async def likes_short_ones(speaker: Speaker, rng: random.Random) -> PreferenceRecords:
    """Choices of somebody who takes the shorter reply nine times in ten."""
    said = phrasings()["said"]
    rows = [rng.choice(said) for _ in range(CHOICES)]
    first, second = [await speaker.replies(rows, seed) for seed in (10_000, 20_000)]
    pairs = []
    for number, (one, two, row) in enumerate(zip(first, second, rows, strict=True)):
        if one.text == two.text:
            continue
        chosen, rejected = (one, two) if (len(one.text) < len(two.text)) ^ (rng.random() < 0.1) else (two, one)
        prompt = (ChatMessage("user", row.text),)
        chat = f"c{number // 12}"
        told = Provenance(f"x{number}", chat, "web:local", chat, float(number), (None, None))
        texts, ids = (chosen.text, rejected.text), (chosen.token_ids, rejected.token_ids)
        pairs.append(PreferencePair(prompt, speaker.engine.render(prompt), *texts, *ids, "choice", told))
    return PreferenceRecords(tuple(pairs), (), ties=0, left_out={})
