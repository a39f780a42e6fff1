"""Two small towns whose people answer at random, through the real router, store, night and gate: nobody is believed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_town_that_answers_at_random_teaches_nothing() -> None:
    options = "--people shuffled --seeds 0,1 --nights 1 --prompts 150 --samples 150 --ceiling 4 --threads 1"
    command = [sys.executable, str(ROOT / "bench" / "learning.py"), *options.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=880, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    print(done.stdout)
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["people"], found["seeds"], found["nights"]) == ("shuffled", [0, 1], 2)
    assert found["published_share"] == 0
    assert found["canary"]["min_served"] >= found["canary"]["anchor"] - 0.05
    assert found["ceiling"] > 0.7
    for night in (0, 1):
        assert abs(found["win_rate"]["by_night"][night] - 0.5) < 0.15
