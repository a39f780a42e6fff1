"""Training on one's own data: what is learned, killed and resumed, by every method and in several processes."""

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
from typing import Any

import pytest
import torch
from person_samples import corpus_file
from training_samples import tiny_model

from learner import lora_folder
from learner.corpus.dialogues import Dialogue, write
from learner.engine.base import ChatMessage
from learner.engine.fingerprint import fingerprint
from learner.training import estimate, presets, supervised
from learner.training.corpus import Row
from learner.training.model import ModelSource, load_base
from learner.training.runs import Run
from learner.training.tune import Told, Tuned, Tuning
from learner.training.tuning import TrainingRefused, TuningSettings

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("talk") / "talk.jsonl"
    said = [(f"q {n % 7}{n}", "yes, dear" if n % 2 else "of course, dear") for n in range(60)]
    write(path, [Dialogue((ChatMessage("user", q), ChatMessage("assistant", a))) for q, a in said])
    return path


def settings(base: Path, data: Path, output: Path, **changes: Any) -> TuningSettings:
    made = TuningSettings(
        "sft", (str(data),), str(base), str(output), device="cpu", max_length=128, batch=4, micro_batch=2,
        max_steps=16, evaluations=4, learning_rate=1e-2, threads=1,
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def tuned(one: TuningSettings, told: list[Told] | None = None, estimated: bool = False) -> Tuned:
    tuning = Tuning(one, (told if told is not None else []).append)
    if estimated:
        tuning.estimated()
    return tuning.run()


def test_a_lora_learns_and_tells(tiny: Path, talk: Path, tmp_path: Path) -> None:
    told: list[Told] = []
    found = tuned(settings(tiny, talk, tmp_path / "person"), told, estimated=True)
    assert found.before is not None
    assert found.after is not None
    assert found.after.loss < 0.85 * found.before.loss
    assert found.after.tokens == found.before.tokens > 0
    version = lora_folder.read(found.output)
    assert (version.version, version.shape.base, version.shape.rank) == ("person", fingerprint(tiny), 16)
    lora_folder.check(found.output, version.shape)
    report = json.loads((found.output / "training.json").read_text("utf-8"))
    assert report["after"]["loss"] == pytest.approx(
        min(row["held_out"] for row in report["curve"] if "held_out" in row)
    )
    assert {row["step"] for row in report["samples"]} == {0, 4, 8, 12, 16}
    assert report["estimate"]["steps"] == found.steps == 16
    assert not Path(f"{found.output}.run").exists()
    assert {one.phase for one in told} == {"read", "estimate", "load", "train", "held-out", "write"}
    assert all(one.seconds_left is not None for one in told if one.phase == "train")
    with pytest.raises(TrainingRefused, match="person exists already"):
        tuned(settings(tiny, talk, tmp_path / "person"))


def test_packed_rows_do_not_see_each_other(tiny: Path) -> None:
    model = load_base(ModelSource(str(tiny), device="cpu"))
    assert supervised.keeps_rows_apart(model, 0, 256)
    generator = torch.Generator().manual_seed(3)
    ids = [torch.randint(3, 250, (n,), generator=generator).int().numpy() for n in (9, 14, 5, 20)]
    rows = [Row.of(one.tolist(), [True] * len(one)) for one in ids]

    def loss(bins: list[list[int]]) -> float:
        total = 0.0
        for one in (bins, *()) if len(bins) == 1 else [bins]:
            batch = supervised.Collator(rows, 0)([{"rows": rows_} for rows_ in one])
            logits = model(batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
            losses = torch.nn.functional.cross_entropy(
                logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), reduction="sum"
            )
            total += float(losses)
        return total

    assert loss([[0, 1, 2, 3]]) == pytest.approx(loss([[0], [1], [2], [3]]), rel=1e-5)
    assert loss([[3, 0], [2, 1]]) == pytest.approx(loss([[0], [1], [2], [3]]), rel=1e-5)


def test_an_unfinished_run_goes_on_with_its_own_settings_only(tmp_path: Path) -> None:
    run = Run(tmp_path / "out")
    assert run.open({"rank": 16, "data": "a"}, restart=False) is None
    for step, whole in ((2, True), (4, True), (6, False)):
        (run.checkpoints / f"checkpoint-{step}").mkdir()
        if whole:
            (run.checkpoints / f"checkpoint-{step}" / "complete").touch()
    assert run.open({"rank": 16, "data": "a"}, restart=False) == run.checkpoints / "checkpoint-4"
    with pytest.raises(TrainingRefused, match="other settings \\(rank: 16 then, 8 now\\)"):
        run.open({"rank": 8, "data": "a"}, restart=False)
    assert run.open({"rank": 8, "data": "a"}, restart=True) is None


def test_what_does_not_go_together_is_refused(tiny: Path, talk: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingRefused, match="--quantisation nf4 goes with --method qlora"):
        Tuning(settings(tiny, talk, tmp_path / "x", quantisation="nf4"), print)
    with pytest.raises(TrainingRefused, match="there is no file"):
        Tuning(settings(tiny, tmp_path / "gone.jsonl", tmp_path / "x"), print)


def test_what_does_not_fit_says_what_would(tiny: Path, talk: Path, tmp_path: Path) -> None:
    tuning = Tuning(settings(tiny, talk, tmp_path / "x", memory_gb=0.001), lambda _: None)
    assert not tuning.estimated().fits
    roomy = dataclasses.replace(tuning.settings, memory_gb=64.0)
    found = estimate.what_fits(roomy, tuning.source, tuning.corpus.rows, 1, tuning.base_folder)
    assert found is not None
    assert found[0] == ["--micro-batch 1"]


@pytest.mark.parametrize(
    ("gigabytes", "name"),
    [(0, "cpu"), (6, "8gb"), (7.6, "8gb"), (15.8, "16gb"), (23.6, "24gb"), (80, "80gb"), (139, "80gb")],
)
def test_the_preset_is_what_the_card_holds(gigabytes: float, name: str) -> None:
    assert presets.fitting(round(gigabytes * 2**30)) == name
    assert presets.preset("auto", round(gigabytes * 2**30)) == presets.PRESETS[name]


def test_a_lora_goes_on_from_another_with_its_shape(tiny: Path, talk: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": f"yes, dear {n}, of course"}) + "\n" for n in range(40)), "utf-8")
    one = settings(tiny, texts, tmp_path / "read", kind="pretrain", rank=4, alpha=8, max_steps=8)
    read = tuned(one)
    assert read.before is not None
    assert read.after is not None
    assert read.after.loss < read.before.loss
    then = tuned(settings(tiny, talk, tmp_path / "talked", start=str(read.output), max_steps=4))
    assert lora_folder.read(then.output).shape.rank == 4
    assert lora_folder.read(then.output).parent == "read"
    fresh = tuned(settings(tiny, talk, tmp_path / "fresh", max_steps=4, rank=4, alpha=8))
    assert then.before is not None
    assert fresh.before is not None
    assert then.before.loss != fresh.before.loss


# On the starter, in processes of their own ---------------------------------------------------


def command(data: Path, output: Path, *more: str) -> list[str]:
    options = [
        "--device",
        "cpu",
        "--threads",
        "1",
        "--max-length",
        "128",
        "--batch",
        "8",
        "--micro-batch",
        "4",
        "--json",
    ]
    return ["train", "sft", "--data", str(data), "--output", str(output), *options, *more]


def run(arguments: list[str], launcher: tuple[str, ...] = ()) -> dict[str, Any]:
    """Run the command line; what it said last."""
    made = subprocess.run(
        [sys.executable, *launcher, "-m", "bots.cli", *arguments],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=1500, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr[-3000:]
    found: dict[str, Any] = json.loads(made.stdout.strip().splitlines()[-1])
    return found


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_run_killed_at_a_random_step_ends_where_the_undisturbed_one_does(tmp_path: Path) -> None:
    data = corpus_file(tmp_path, 150)
    options = ("--max-steps", "12", "--eval-every", "2", "--patience", "0")
    undisturbed = run(command(data, tmp_path / "whole", *options))
    killed_at, source = tmp_path / "killed", random.Random()
    deaths = 0
    for after in (source.randint(2, 5), source.randint(6, 9)):
        with subprocess.Popen(
            [sys.executable, "-m", "bots.cli", *command(data, killed_at, *options)],
            cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True,
        ) as child:  # fmt: skip
            assert child.stdout is not None
            for line in child.stdout:
                if json.loads(line).get("phase") == "train" and json.loads(line)["step"] >= after:
                    time.sleep(source.random())
                    child.send_signal(signal.SIGKILL)
                    deaths += 1
                    break
    assert deaths == 2
    assert not killed_at.exists()
    resumed = run(command(data, killed_at, *options))
    assert resumed["steps"] == undisturbed["steps"] == 12
    assert resumed["before"] == undisturbed["before"]
    assert resumed["after"]["loss"] == pytest.approx(undisturbed["after"]["loss"], rel=0.01)
    assert resumed["after"]["loss"] < 0.8 * resumed["before"]["loss"]


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_every_method_and_two_processes_come_to_the_same(tmp_path: Path) -> None:
    data = corpus_file(tmp_path, 150)
    options = ("--max-steps", "100", "--eval-every", "20", "--patience", "0")  # till none gains any more
    lora = run(command(data, tmp_path / "lora", *options))
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29517")
    two = run(command(data, tmp_path / "two", *options), launcher)
    assert two["before"]["loss"] == pytest.approx(lora["before"]["loss"], rel=1e-4)
    assert two["after"]["loss"] == pytest.approx(lora["after"]["loss"], rel=0.03)
    full = run(command(data, tmp_path / "full", *options, "--method", "full", "--learning-rate", "1e-3"))
    assert full["after"]["loss"] == pytest.approx(lora["after"]["loss"], rel=0.1)
    assert (tmp_path / "full" / "model.safetensors").is_file()
    pytest.importorskip("bitsandbytes")
    qlora = run(command(data, tmp_path / "qlora", *options, "--method", "qlora"))
    assert qlora["after"]["loss"] == pytest.approx(lora["after"]["loss"], rel=0.1)
