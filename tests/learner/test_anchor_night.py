"""A night that begins at an anchor: its LoRA has the anchor's shape, names it, and speaks with no other."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_nightly import GATE, RECIPE
from training_samples import some_canaries, some_records, tiny_model
from transformers import AutoModelForCausalLM

from learner import lora_folder, loras
from learner.engine.base import LoraMismatch
from learner.engine.local import LocalEngine
from learner.engine.local_settings import LocalSettings
from learner.engine.random_model import write_lora
from learner.frozen import NightRequest, freeze
from learner.training.model import Weights, linear_names, read_weights

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_a_night_begins_at_the_anchor_and_its_lora_speaks_with_no_other(tmp_path: Path) -> None:

    tiny = tiny_model(tmp_path / "tiny")
    base = AutoModelForCausalLM.from_pretrained(tiny)
    anchor = write_lora(tmp_path / "person", tiny, base, 3, rank=6, targets=linear_names(base), spread=0.01)
    request = NightRequest(
        3, "default", str(tiny), str(tmp_path / "loras"), anchor=str(anchor), recipe=RECIPE, device="cpu", threads=1,
        nice=0, seed=5, gate=replace(GATE, preference_confidence=1e-6),  # whether it pleases is not what is shown here
    )  # fmt: skip
    folder = freeze(tmp_path / "runs" / "0003", request, some_records(), some_canaries())
    command = [sys.executable, "-W", "ignore", "-m", "learner.nightly", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    verdict = json.loads((folder / "verdict.json").read_text("utf-8"))
    assert verdict["outcome"] == "published", verdict["reasons"]
    made = loras.show(tmp_path / "loras", "0003")
    assert made.shape.anchor == lora_folder.anchor_id(anchor)
    assert (made.shape.rank, made.shape.alpha) == (6, 12)  # the anchor's, whatever the recipe says
    first, last = read_weights(anchor), read_weights(made.folder)
    fresh = {name: weights * 0 for name, weights in first.items()}
    assert distance(first, last) < distance(fresh, last)

    async def speak(with_anchor: str) -> str | None:
        engine = LocalEngine(LocalSettings(str(tiny), device="cpu", anchor=with_anchor))
        await engine.start()
        try:
            return await engine.swap_lora(made.folder)
        finally:
            await engine.close()

    assert asyncio.run(speak(str(anchor))) == "0003"
    with pytest.raises(LoraMismatch, match="trained from the anchor"):
        asyncio.run(speak(""))


def distance(one: Weights, other: Weights) -> float:
    return sum(float((one[name] - other[name]).pow(2).sum()) for name in one) ** 0.5
