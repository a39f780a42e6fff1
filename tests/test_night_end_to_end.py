"""A whole day and night of the real bot: the starter talks, is taught, trains, is judged and speaks on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parent.parent / "bench" / "learning.py"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_night_moves_the_bot_towards_what_was_picked() -> None:
    options = ("--teacher", "warm", "--nights", "1", "--choices", "40", "--prompts", "300")
    done = subprocess.run([sys.executable, str(BENCH), *options], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["published"] == [True], done.stdout
    before, after = figures["share"]
    assert after > before + 0.15
    assert figures["canary"][1] > figures["canary"][0] - 0.03
