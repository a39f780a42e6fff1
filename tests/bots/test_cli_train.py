"""Training, merging and exporting by the command line, and the LoRA that came of it through bot and night."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bots import lesson
from bots.control import ControlError
from bots.versions import Versions
from learner import lora_folder, loras
from learner.corpus.dialogues import Dialogue, write
from learner.engine.base import ChatMessage
from learner.engine.fingerprint import fingerprint
from tests.bots.test_cli import complaint, nightschool
from tests.conftest import settings_for

ROOT = Path(__file__).resolve().parents[2]
STARTER = ROOT / "data" / "starter"
SCRIPTED = '[model]\nengine = "scripted"\n'


def dialogues(path: Path, count: int = 40) -> Path:
    said = ((f"{n}?", f"<think>x</think>dear {n}") for n in range(count))
    write(path, (Dialogue((ChatMessage("user", q), ChatMessage("assistant", a))) for q, a in said))
    return path


def a_lora(folder: Path, name: str, seed: int, anchor: str = "") -> Path:
    """A LoRA folder whose weights are `seed`'s."""
    import numpy as np
    from safetensors.numpy import save_file

    made = folder / name
    made.mkdir(parents=True)
    numbers = np.random.default_rng(seed).standard_normal((4, 8)).astype("float32")
    save_file({"base_model.model.q_proj.lora_A.weight": numbers}, made / lora_folder.WEIGHTS_FILE)
    (made / lora_folder.CONFIG_FILE).write_text("{}", "utf-8")
    card = {"version": name, "mind": "default", "base": "b", "rank": 4, "alpha": 8, "target_modules": ["q_proj"]}
    card |= {"parent": None, "records": {}, "recipe": {}, "run": 1, "anchor": anchor or None}
    (made / lora_folder.CARD_FILE).write_text(json.dumps(card), "utf-8")
    return made


def test_the_setting_reaches_the_night_and_the_engine(tmp_path: Path) -> None:
    anchor = a_lora(tmp_path, "person", 1)
    settings = settings_for(tmp_path / "data", model={"engine": "scripted", "lora": str(anchor)})
    assert lesson.night_request(settings, "default", 3).anchor == str(anchor)
    assert lesson.anchor(settings) == lora_folder.anchor_id(anchor)
    plain = settings_for(tmp_path / "data")
    assert lesson.night_request(plain, "default", 3).anchor is None
    assert lesson.anchor(plain) == ""


def test_a_version_from_another_anchor_is_no_champion_and_is_not_promoted(tmp_path: Path) -> None:
    anchor, other = a_lora(tmp_path, "person", 1), a_lora(tmp_path, "other", 2)
    settings = settings_for(tmp_path / "data", model={"engine": "scripted", "lora": str(anchor)})
    a_lora(settings.loras_dir, "0001", 3, lora_folder.anchor_id(other))
    own = a_lora(settings.loras_dir, "0002", 4, lora_folder.anchor_id(anchor))
    loras.set_active(settings.loras_dir, "default", "0001")
    assert lesson.night_request(settings, "default", 3).champion is None
    loras.set_active(settings.loras_dir, "default", "0002")
    assert lesson.night_request(settings, "default", 3).champion == str(own)
    calls = Versions(settings, None, None, None)  # type: ignore[arg-type]
    with pytest.raises(ControlError, match=rf"0001 .*trained from the anchor {lora_folder.anchor_id(other)[:12]}"):
        asyncio.run(calls.promote({"version": "0001"}))


def test_dialogues_for_llamafactory(tmp_path: Path) -> None:
    turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")]
    messages = tuple(ChatMessage(role, text) for role, text in turns)  # type: ignore[arg-type]
    some = [Dialogue((ChatMessage("system", "s"), *messages))]
    some += [Dialogue(messages, learned=(1,)), Dialogue(messages, learned=(3,))]
    write(tmp_path / "some.jsonl", some)
    arguments = ("--data", str(tmp_path / "some.jsonl"), "--output", str(tmp_path / "out" / "mine.json"))
    done = nightschool(tmp_path, SCRIPTED, "export", "--to", "llamafactory", *arguments)
    assert done.returncode == 0, done.stderr
    assert "2 dialogues" in done.stdout
    rows = json.loads((tmp_path / "out" / "mine.json").read_text("utf-8"))
    assert [[turn["value"] for turn in row["conversations"]] for row in rows] == [["a", "b", "c", "d"], ["a", "b"]]
    assert [row["system"] for row in rows] == ["s", ""]
    info = json.loads((tmp_path / "out" / "dataset_info.json").read_text("utf-8"))
    assert info["mine"]["file_name"] == "mine.json"
    assert info["mine"]["columns"] == {"messages": "conversations", "system": "system"}
    said = complaint(nightschool(tmp_path, SCRIPTED, "export", "--to", "gguf-lora", "--output", "x.gguf"))
    assert "needs --lora" in said
    said = complaint(nightschool(tmp_path, SCRIPTED, "merge", "--lora", "0007", "--output", "x"))
    assert "LoRA 0007 is not in" in said


def patiently(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command that may take minutes."""
    (tmp_path / "config.toml").write_text(SCRIPTED, "utf-8")
    return subprocess.run(
        [sys.executable, "-m", "bots.cli", *arguments, "--config", str(tmp_path / "config.toml")],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_dry_run_says_what_it_takes_and_a_run_goes_through_bot_and_night(tmp_path: Path) -> None:
    data = dialogues(tmp_path / "some.jsonl")
    shape = ("--max-length", "64", "--batch", "4", "--max-steps", "2", "--eval-every", "2", "--threads", "1", "--json")
    common = ("train", "sft", "--data", str(data), "--output", str(tmp_path / "person"), *shape)
    done = patiently(tmp_path, *common, "--dry-run")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["steps"], told["fits"], told["counts"]["read"]) == (2, True, 40)
    assert not list(tmp_path.glob("person*"))
    done = patiently(tmp_path, *common)
    assert done.returncode == 0, done.stderr
    took = json.loads(done.stdout.splitlines()[-1])
    assert took["phase"] == "done"
    assert took["peak_bytes"] == pytest.approx(took["estimate"]["peak_bytes"], rel=0.15)
    assert lora_folder.read(tmp_path / "person").shape.base == fingerprint(STARTER)
    config = '[model]\nlora = "person"\n[adapters.web]\nport = 0\n[[bots]]\nadapters = ["web"]\n'
    (tmp_path / "config.toml").write_text(config, "utf-8")
    listed = nightschool(tmp_path, config, "lora", "list")
    assert str(tmp_path / "person") in listed.stdout
