"""Killed three times at work and started again, a synthesis loses no dialogue and pays for none twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from learner.corpus import dialogues
from learner.corpus.synthesis import journal
from tests.openai_far_end import NUMBER, FarEnd, Fault, far_end

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(__file__).parent / "synthesis_target.py"
WANTED, CONCURRENCY = 30, 4
CHARACTER = ("character", "海绵宝宝")
RESTYLE = ("restyle", "--style", "西式翻译腔")


def command(output: Path, url: str, *what: str) -> list[str]:
    options = ["--dialogues", str(WANTED), "--output", str(output), "--base-url", url]
    return [sys.executable, str(TARGET), *what, *options, "--concurrency", str(CONCURRENCY), "--json"]


def start(output: Path, server: FarEnd, *what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(output, server.url, *what),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def numbers(text: str) -> set[str]:
    return set(NUMBER.findall(text))


def slow_and_sometimes_broken(number: int, body: dict[str, object]) -> Fault | None:
    if number % 17 == 5:
        return Fault(status=500, delay=0.01)
    return Fault(delay=0.01 + number % 3 * 0.02)


def kept_questions(output: Path, server: FarEnd) -> set[str]:
    """The questions whose answers are in the journal; an answer bears the number of its request."""
    kept = journal.read(Path(f"{output}.journal.jsonl")).values()
    texts = [entry.answer.text for entry in kept if entry.answer and entry.kind in ("dialogue", "restyle")]
    return {question(server.seen[int(number)]) for text in texts for number in numbers(text)}


def question(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


@pytest.mark.parametrize(
    "what",
    [pytest.param(CHARACTER, id="character"), pytest.param(RESTYLE, id="restyle", marks=pytest.mark.slow)],
)
def test_no_dialogue_is_lost_or_paid_twice(tmp_path: Path, what: tuple[str, ...]) -> None:
    output = tmp_path / "made.jsonl"
    kept_at_kills = 0
    with far_end(faults=slow_and_sometimes_broken) as server:
        for kill_at in (7, 15, 26):
            reached = threading.Event()
            server.on_answer = lambda count, at=kill_at, event=reached: event.set() if count >= at else None
            known, before = kept_questions(output, server), len(server.seen)
            process = start(output, server, *what)
            assert reached.wait(100), "the run came to nothing"
            process.send_signal(signal.SIGKILL)
            process.communicate()
            assert not output.exists(), "a file that is not whole"
            assert not known & {question(body) for body in server.seen[before:]}, "asked again, though it was kept"
            kept_at_kills = len(known)
        known, before = kept_questions(output, server), len(server.seen)
        process = start(output, server, *what)
        out, err = process.communicate(timeout=150)
        assert process.returncode == 0, err
        assert not known & {question(body) for body in server.seen[before:]}, "asked again, though it was kept"
        kept_in_the_end = kept_questions(output, server)
    report = json.loads(out.splitlines()[-1])
    assert (report["made"], report["wanted"]) == (WANTED, WANTED)
    assert kept_at_kills > 0, "the kills came before anything was made"

    # Paid twice: the same question answered again. Only what was under way at a kill may be.
    again = len(server.answered) - len(set(server.answered))
    assert again <= report["interrupted"] <= 3 * CONCURRENCY
    entries = list(journal.read(Path(f"{output}.journal.jsonl")).values())
    assert len(entries) == len(set(server.answered)), "each question's answer is in the journal, once"
    assert kept_in_the_end

    # Lost: an answer that was kept and is in nothing that was made.
    made = list(dialogues.read(output))
    assert len(made) == WANTED
    said = {one for dialogue in made for message in dialogue.messages for one in numbers(message.content)}
    wanted = ("dialogue",) if what is CHARACTER else ("dialogue", "restyle")
    assert said == {
        one for entry in entries if entry.kind in wanted and entry.answer for one in numbers(entry.answer.text)
    }
