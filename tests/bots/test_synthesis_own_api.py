"""Synthesis against the bot's own OpenAI-compatible API: killed three times; the words are scripted."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from bots.settings import Settings
from learner.corpus import dialogues
from learner.corpus.synthesis import journal
from learner.engine.base import CandidateSpec, ChatMessage
from learner.engine.scripted import ScriptedEngine
from tests.openai_far_end import NUMBER, content

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(__file__).parent / "synthesis_target.py"
WANTED, CONCURRENCY = 30, 4
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("api" not in Settings.model_fields, reason="this bot serves no API"),
]


class Script:
    """What the engine says, and how often it was asked for what."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.reached = asyncio.Event()
        self.at = 10**9

    def __call__(self, messages: Sequence[ChatMessage], spec: CandidateSpec) -> str:
        self.asked.append(messages[-1].content)
        if len(self.asked) >= self.at:
            self.reached.set()
        return content(messages[-1].content, len(self.asked) - 1)


async def test_killed_three_times_nothing_is_lost_or_paid_twice(
    running: Callable[..., AbstractAsyncContextManager[Any]], tmp_path: Path
) -> None:
    output, script = tmp_path / "made.jsonl", Script()
    kept_file = Path(f"{output}.journal.jsonl")
    engine = ScriptedEngine(script, delay=0.01, piece=16, context_length=100_000)
    async with running(engine, api={"enabled": "on"}, adapters={"web": {"port": 0}}) as app:
        words = ["character", "海绵宝宝", "--dialogues", str(WANTED), "--output", str(output), "--json"]
        words += ["--base-url", f"{app.server.url}v1", "--concurrency", str(CONCURRENCY)]
        for script.at in (8, 16, 27):
            script.reached.clear()
            process = await start(words)
            await asyncio.wait_for(script.reached.wait(), 100)
            process.kill()
            await process.communicate()
            assert not output.exists()
        kept = len(journal.read(kept_file))
        script.at = 10**9
        process = await start(words)
        out, err = await asyncio.wait_for(process.communicate(), 150)
    assert process.returncode == 0, err.decode()
    report = json.loads(out.decode().splitlines()[-1])
    assert (report["made"], report["from_journal"], report["tokens_estimated"]) == (WANTED, kept, False)
    assert kept >= 12, "the kills came before anything was kept"
    again = Counter(Counter(script.asked).values())
    assert sum(times * (number - 1) for number, times in again.items()) <= 3 * CONCURRENCY
    entries = journal.read(kept_file).values()
    assert len(entries) == len(set(script.asked)) == WANTED + 2
    said = {one for row in dialogues.read(output) for part in row.messages for one in NUMBER.findall(part.content)}
    assert said == {one for entry in entries if entry.kind == "dialogue" for one in NUMBER.findall(entry.answer.text)}


async def start(words: list[str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(TARGET),
        *words,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
