"""The owner's own canaries: kept by the command, asked every night, and none may be lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bots import cli, lesson, own_canaries
from bots.settings import load
from learner import gate
from learner.engine.base import ChatMessage
from learner.frozen import NightRequest, freeze, thaw
from learner.records import PreferenceRecords
from learner.training import canaries as checks
from learner.training.canaries import Canary, CanaryFigures, Reply


@pytest.fixture
def config(tmp_path: Path) -> Path:
    shipped = {"prompt": [{"role": "user", "content": "hi"}], "any_of": [], "language": "en"}
    (tmp_path / "shipped.jsonl").write_text(json.dumps(shipped), "utf-8")
    path = tmp_path / "config.toml"
    path.write_text(
        'data_dir = "data"\n[model]\nengine = "scripted"\n[learner]\ncanaries = "shipped.jsonl"\n'
        '[[bots]]\nname = "one"\nadapters = ["console"]\n',
        "utf-8",
    )
    return path


def run(config: Path, *words: str) -> int:
    return cli.main(["canary", *words, "--config", str(config)])


def test_what_is_added_is_listed_asked_at_night_and_removed(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config, "add", "我的猫叫什么", "--any-of", "年糕", "糯米") == 0
    assert run(config, "add", "what is my cat called", "--any-of", "Momo") == 0
    capsys.readouterr()
    assert run(config, "list") == 0
    assert [line[0] for line in capsys.readouterr().out.splitlines()] == ["1", "2"]
    chinese, english, shipped = lesson.canaries(load(config))
    assert chinese == Canary((ChatMessage("user", "我的猫叫什么"),), ("年糕", "糯米"), "zh", own=True)
    assert (english.any_of, english.language, english.own, shipped.own) == (("Momo",), "en", True, False)
    assert run(config, "remove", "1") == 0
    assert [one.own for one in lesson.canaries(load(config))] == [True, False]


@pytest.mark.parametrize("words", [("add", " "), ("add", "hi", "--any-of", ""), ("remove", "1")])
def test_what_makes_no_sense_is_refused_with_a_sentence(
    config: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, *words) == 1
    assert capsys.readouterr().err.startswith("nightschool: ")
    assert own_canaries.own(config.parent / "data") == ()


def test_the_same_prompt_is_not_kept_twice(config: Path) -> None:
    assert run(config, "add", "hi there") == 0
    assert run(config, "add", "hi there", "--any-of", "hello") == 1
    [kept] = own_canaries.own(config.parent / "data")
    assert kept.any_of == ()


def test_a_frozen_night_still_knows_whose_they_are(tmp_path: Path) -> None:
    own = Canary((ChatMessage("user", "hi"),), ("ho",), "en", own=True)
    request = NightRequest(1, "default", "m", "l")
    folder = freeze(tmp_path / "0001", request, PreferenceRecords((), (), 0, {}), [own])
    assert thaw(folder).canaries == (own,)


def test_own_canaries_are_always_asked_however_many_there_are() -> None:
    shipped = [Canary((ChatMessage("user", f"q{n}"),), (), None) for n in range(50)]
    own = [Canary((ChatMessage("user", f"mine {n}"),), (), None, own=True) for n in range(3)]
    asked = checks.sample([*shipped, *own], 5)
    assert sum(one.own for one in asked) == 3
    assert asked == checks.sample([*own, *reversed(shipped)], 5)


def test_no_own_canary_may_be_lost_even_for_another_that_is_won() -> None:
    own = [Canary((ChatMessage("user", name),), (name,), None, own=True) for name in "ab"]

    def answered(*texts: str) -> CanaryFigures:
        return checks.figures(own, [Reply(text, (1,), ended=True) for text in texts])

    anchor = answered("a", "wrong")
    assert gate.canaries_hold(answered("a", "b"), anchor, None, 0.02)
    assert gate.canaries_hold(anchor, anchor, None, 0.02)
    assert not gate.canaries_hold(answered("wrong", "b"), anchor, None, 0.02)
    assert not gate.canaries_hold(answered("a", "wrong"), anchor, answered("wrong", "b"), 0.02)
