"""Killed at 50 random moments, the bot keeps every acknowledged message, reply and choice, once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from learner.store.rows import Place
from learner.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
KILLS = 50
CONFIG = """
data_dir = "{data}"
ask_rate = 0.5
language = "en"
[offers]
max_per_hour = 100000
[learner]
enabled = false
[[bots]]
name = "tester"
adapters = ["web"]
[adapters.web]
port = 0
"""


@dataclass
class Victim:
    """The process, started again each time that it was killed; `kills` counts down."""

    config: Path
    rng: random.Random
    kills: int = KILLS
    killed: int = 0
    process: subprocess.Popen[str] | None = None
    url: str = ""
    timers: list[threading.Timer] = field(default_factory=list)

    def start(self) -> None:
        """Start it, and set the moment of its death."""
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "kill_target.py"), str(self.config), "0.004"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url, "the bot did not start again"
        if self.killed < self.kills:
            timer = threading.Timer(self.rng.uniform(0.0, 0.25), self.process.kill)
            timer.daemon = True
            timer.start()
            self.timers.append(timer)

    def restart(self) -> None:
        """After it died."""
        assert self.process is not None
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.killed += 1
        self.start()

    def stop(self) -> None:
        """For good."""
        for timer in self.timers:
            timer.cancel()
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Talker:
    """Says its lines one after another; a line that was not acknowledged is said again with the same id."""

    def __init__(self, victim: Victim, rng: random.Random) -> None:
        self.victim, self.rng = victim, rng
        self.said: dict[str, dict[str, Any]] = {}  # message id -> the reply that was acknowledged
        self.given: dict[str, tuple[str, Any]] = {}  # feedback id -> exchange, value

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        while True:
            try:
                answer = httpx.post(self.victim.url.rstrip("/") + path, json=body, timeout=30)
            except httpx.TransportError:
                self.victim.restart()
                continue
            if answer.status_code == 503:  # not open yet, or closing
                continue
            assert answer.status_code == 200, answer.text
            result: dict[str, Any] = answer.json()
            return result

    def say(self, number: int) -> None:
        replies = self.post("/api/chat/main/messages", {"text": f"line {number}", "id": f"m{number}"})["replies"]
        assert len(replies) == 1
        self.said[f"m{number}"] = replies[0]

    def judge(self, number: int) -> None:
        reply = self.said[f"m{number}"]
        value: dict[str, Any] = {"choice": self.rng.choice([1, 2])} if reply["candidates"] else {"rating": "good"}
        self.post(f"/api/exchanges/{reply['exchange']}/feedback", {**value, "id": f"f{number}"})
        self.given[f"f{number}"] = (reply["exchange"], next(iter(value.values())))


@pytest.mark.timeout(300)
def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(data=(tmp_path / "data").as_posix()), "utf-8")
    victim = Victim(config, random.Random(7))
    victim.start()
    talker = Talker(victim, random.Random(8))
    number = 0
    try:
        while victim.killed < KILLS:
            talker.say(number)
            talker.judge(number)
            number += 1
        talker.say(number)
    finally:
        victim.stop()
    assert victim.killed == KILLS
    check(Store(f"sqlite:///{tmp_path / 'data' / 'nightschool.db'}"), talker)


def check(store: Store, talker: Talker) -> None:
    """Hold the store against what was acknowledged."""
    place = Place("tester", "web", "main")
    turns = store.history(place, 100_000)
    asked = Counter(turn.text for turn in turns if turn.role == "user")
    assert asked == {f"line {name[1:]}": 1 for name in talker.said}
    assert [turn.role for turn in turns] == ["user", "assistant"] * len(talker.said)
    feedback = {one.exchange: one for one in store.feedback("default")}
    assert len(store.feedback("default")) == len(talker.given)
    for exchange, value in talker.given.values():
        assert feedback[exchange].value == str(value)
    replies = [line for line in store.chat_log(place, 100_000) if line.role == "assistant"]
    assert Counter(line.exchange for line in replies) == {r["exchange"]: 1 for r in talker.said.values()}
    for reply in talker.said.values():
        shown = store.exchange(reply["exchange"])
        assert shown is not None
        assert shown.state == "final"
        texts = [candidate.text for candidate in shown.candidates]
        assert texts == (reply["candidates"] or [reply["text"]])
    assert store.waiting() == []
    store.close()
