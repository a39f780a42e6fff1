"""The canaries that ship, for models that bring none: well-formed, fair, and asked by a night."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bots import lesson
from bots.settings import load
from learner.frozen import FrozenRunBroken, read_canaries
from learner.training import canaries as checks
from learner.training.canaries import Canary, Reply

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "data" / "canaries"
CONFIG = 'data_dir = "data"\n[model]\nname = {name}\n{more}[[bots]]\nname = "one"\nadapters = ["console"]\n'


@pytest.fixture(scope="module")
def shipped() -> tuple[Canary, ...]:
    return read_canaries(FOLDER / "canaries.jsonl")


def asked(home: Path, model: str, more: str = "") -> tuple[Canary, ...]:
    """What a night of such a bot asks."""
    path = home / "config.toml"
    path.write_text(CONFIG.format(name=json.dumps(model), more=more), "utf-8")
    return lesson.canaries(load(path))


def test_the_file_is_what_the_facts_make(tmp_path: Path) -> None:
    for name in ("make.py", "facts.toml"):
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    subprocess.run([sys.executable, str(tmp_path / "make.py")], check=True, capture_output=True, timeout=60)
    assert (tmp_path / "canaries.jsonl").read_bytes() == (FOLDER / "canaries.jsonl").read_bytes()


def test_both_languages_are_asked_often_enough(shipped: tuple[Canary, ...]) -> None:
    chinese = sum(bool(checks.HAN.search(one.prompt[0].content)) for one in shipped)
    assert min(chinese, len(shipped) - chinese) >= 300
    assert Counter(one.prompt for one in shipped).most_common(1)[0][1] == 1


def test_a_bare_answer_is_right_and_an_echo_is_wrong(shipped: tuple[Canary, ...]) -> None:
    for canary in shipped:
        question = canary.prompt[0].content
        if canary.any_of:
            assert not checks.right(canary, Reply(question, (1,), ended=True)), question
        for answer in canary.any_of:
            assert checks.right(canary, Reply(answer, (1,), ended=True)), (question, answer)


def test_a_model_without_canaries_is_asked_the_ones_that_ship(tmp_path: Path, shipped: tuple[Canary, ...]) -> None:
    assert asked(tmp_path, "Qwen/Qwen3-0.6B") == shipped


def test_a_models_own_canaries_come_first_and_named_ones_before_them(tmp_path: Path) -> None:
    for name in ("model", "mine"):
        row = {"prompt": [{"role": "user", "content": name}], "any_of": [], "language": "en"}
        (tmp_path / name).mkdir()
        (tmp_path / name / "canaries.jsonl").write_text(json.dumps(row), "utf-8")
    assert [one.prompt[0].content for one in asked(tmp_path, "./model")] == ["model"]
    named = '[learner]\ncanaries = "mine/canaries.jsonl"\n'
    assert [one.prompt[0].content for one in asked(tmp_path, "./model", named)] == ["mine"]
    with pytest.raises(FrozenRunBroken, match=r"gone\.jsonl cannot be read"):
        asked(tmp_path, "./model", '[learner]\ncanaries = "gone.jsonl"\n')
