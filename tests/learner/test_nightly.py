"""A whole night in its own process: its files, its progress, its verdicts, and SIGKILL at any moment."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from training_samples import some_canaries, some_records, tiny_model

from learner import frozen, lora_folder, loras
from learner.engine.fingerprint import fingerprint
from learner.frozen import FrozenRunBroken, NightRequest, freeze, thaw
from learner.gate import GateSettings
from learner.records import PreferenceRecords
from learner.training.recipe import Recipe

SECRET = "yes, dear"  # stands in every chosen reply
RECIPE = Recipe(learning_rates=(1e-2,), min_steps=18, epochs=1, rank=4, alpha=8, drawn=16, replay=32, replay_batch=8)
GATE = GateSettings(
    canaries=6,
    sampled_canaries=64,
    samples=64,
    max_tokens=8,
    min_judged=2,
    preference_confidence=1e-3,  # what a random model draws shows little of what it learned
    kl_per_token=10,
    length=(0.1, 10),
    sampled_drop=0.5,  # a random model ends when it likes
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


def frozen_run(tiny: Path, home: Path, records: PreferenceRecords | None = None, **changes: object) -> Path:
    """Freeze a run of the tiny model under `home`."""
    request = NightRequest(
        3, "default", str(tiny), str(home / "loras"), recipe=RECIPE, gate=GATE, device="cpu", threads=1, nice=0, seed=5
    )
    return freeze(
        home / "runs" / "0003", dataclasses.replace(request, **changes), records or some_records(), some_canaries()
    )


def command(folder: Path) -> list[str]:
    return [sys.executable, "-W", "ignore", "-m", "learner.nightly", str(folder)]


def test_what_is_frozen_is_thawed(tmp_path: Path) -> None:
    folder = frozen_run(tmp_path / "model", tmp_path, champion="loras/0002")
    again = thaw(folder)
    assert again.records == some_records()
    assert again.canaries == some_canaries()
    assert (again.request.version, again.request.recipe, again.request.gate) == ("0003", RECIPE, GATE)
    assert again.request.champion == "loras/0002"
    with pytest.raises(FileExistsError, match="number of its own"):
        frozen_run(tmp_path / "model", tmp_path)


def test_text_that_is_no_valid_unicode_survives_freezing(tmp_path: Path) -> None:
    records = some_records(1, 0)
    strange = dataclasses.replace(records.pairs[0], chosen="a\ud800b\u2028c")
    records = dataclasses.replace(records, pairs=(strange,))
    assert thaw(frozen_run(tmp_path / "model", tmp_path, records)).records == records


@pytest.mark.parametrize("name", [frozen.REQUEST, frozen.PAIRS, frozen.RATINGS, frozen.CANARIES])
def test_a_broken_run_folder_says_which_file(tmp_path: Path, name: str) -> None:
    folder = frozen_run(tmp_path / "model", tmp_path)
    (folder / name).write_text('{"half": ', "utf-8")
    with pytest.raises(FrozenRunBroken, match=name):
        thaw(folder)
    (folder / name).write_text('{"half": 1}', "utf-8")
    with pytest.raises(FrozenRunBroken, match=name):
        thaw(folder)
    (folder / name).unlink()
    with pytest.raises(FrozenRunBroken, match=name):
        thaw(folder)


def test_a_night_publishes_and_tells_how_far_it_is(tiny: Path, tmp_path: Path) -> None:
    folder = frozen_run(tiny, tmp_path)
    done = subprocess.run(command(folder), capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["done"] for row in rows] == sorted(row["done"] for row in rows)
    assert {row["phase"] for row in rows} == {"load", "train", "gate", "publish"}
    assert rows[-1]["done"] == 1.0
    verdict = json.loads((folder / "verdict.json").read_text("utf-8"))
    assert verdict["outcome"] == "published", verdict["reasons"]
    assert verdict["gate"]["preference"]["accuracy"] > 0.9
    given = thaw(folder).records
    assert verdict["records"]["pairs"] == len(given.pairs) > 0  # what the owner is told of a night
    assert verdict["records"]["ratings"] == len(given.ratings) > 0
    [version] = loras.listing(tmp_path / "loras", "default")
    assert version.version == "0003"
    assert version.shape.base == fingerprint(tiny)
    assert len(version.records["exchanges"]) == 40
    assert sorted(file.name for file in version.folder.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "asking.safetensors", "nightschool.json", "verdict.json",
    ]  # fmt: skip
    written = (folder / "log.txt").read_text("utf-8") + done.stderr + done.stdout
    assert SECRET not in written
    recorded = json.loads((folder / "report.json").read_text("utf-8"))
    assert set(recorded["seconds"]) == {"load", "evidence", "baselines", "training", "judging"}
    assert recorded["rounds"]
    assert len(recorded["samples"]["rows"]) == 10
    assert [check for check in verdict["checks"] if not check["held"]] == []
    assert not (folder / "scratch").exists()


def test_a_night_that_learned_nothing_is_refused_and_exits_with_0(tiny: Path, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, learning_rates=(1e-9,))
    folder = frozen_run(tiny, tmp_path, recipe=recipe)
    done = subprocess.run(command(folder), capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    verdict = json.loads((folder / "verdict.json").read_text("utf-8"))
    assert verdict["outcome"] == "refused"
    assert any("surely please more than the anchor" in reason for reason in verdict["reasons"])
    assert loras.listing(tmp_path / "loras", "default") == []


def test_a_model_that_is_not_there_fails_with_a_reason(tmp_path: Path) -> None:
    folder = frozen_run(tmp_path / "nowhere", tmp_path)
    done = subprocess.run(command(folder), capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 1
    assert "nowhere" in done.stderr.strip().splitlines()[-1]
    assert not (folder / "verdict.json").exists()
    recorded = json.loads((folder / "report.json").read_text("utf-8"))
    assert list(recorded["seconds"]) == ["load"]
    assert recorded["learned"]["pairs"] == 30


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
@pytest.mark.parametrize("attempt", [pytest.param(n, marks=[pytest.mark.slow] if n > 1 else []) for n in range(12)])
def test_killed_at_any_moment_nothing_is_half_published(tiny: Path, tmp_path: Path, attempt: int) -> None:
    folder, source = frozen_run(tiny, tmp_path), random.Random(attempt)
    with subprocess.Popen(command(folder), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdout
        wanted = source.random()
        for line in child.stdout:
            if json.loads(line)["done"] >= wanted:
                break
        time.sleep(source.random() * 0.02)
        child.send_signal(signal.SIGKILL)
    place = tmp_path / "loras"
    found = list(place.glob("[0-9]*"))
    for version in found:
        shape = lora_folder.read(version).shape
        lora_folder.check(version, shape)
        assert json.loads((version / "verdict.json").read_text("utf-8"))["outcome"] == "published"
    assert loras.active(place, "default") == "base"
    if (folder / "verdict.json").exists():
        json.loads((folder / "verdict.json").read_text("utf-8"))
