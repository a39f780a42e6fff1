"""Two small towns, through the real router, store, night and gate: honest people are learned from, chance is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
TWO_TOWNS = "--seeds 0,1 --prompts 150 --samples 150 --ceiling 4 --threads 1"


def lived(people: str, nights: int) -> dict[str, Any]:
    """What the bench found of two towns."""
    options = f"--people {people} --nights {nights} {TWO_TOWNS}"
    command = [sys.executable, str(ROOT / "bench" / "learning.py"), *options.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=880, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    print(done.stdout)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert (found["people"], found["seeds"], found["nights"]) == (people, [0, 1], 2 * nights)
    assert found["ceiling"] > 0.7
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_town_that_answers_at_random_teaches_nothing() -> None:
    found = lived("shuffled", 1)
    assert found["published_share"] == 0
    assert found["canary"]["min_served"] >= found["canary"]["anchor"] - 0.05
    for night in (0, 1):
        assert abs(found["win_rate"]["by_night"][night] - 0.5) < 0.15


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_town_that_says_what_it_likes_gets_it_in_two_nights() -> None:
    found = lived("clean", 2)
    assert found["published_share"] >= 0.5
    assert found["win_rate"]["min"] > 0.6
    assert found["canary"]["min_served"] >= found["canary"]["anchor"] - 0.05
