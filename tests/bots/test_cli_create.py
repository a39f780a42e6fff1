"""From a name to a bot: each step once, again where its inputs changed, and a config that loads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import tomllib
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bots import cli, cli_create, creating
from bots.creating import Done, Step
from bots.settings import ModelSettings, PersonaSettings, Settings, load, parse
from learner.corpus.synthesis.profile import Profile
from tests.openai_far_end import FarEnd, Fault, far_end

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(__file__).parent / "create_target.py"


def step(folder: Path, name: str, code: str, inputs: tuple[Path, ...] = ()) -> Step:
    return Step(name, name, ("-c", code), (name, code), inputs, folder / name)


def test_a_step_is_run_again_when_its_command_its_input_or_its_output_changed(tmp_path: Path) -> None:
    first = step(tmp_path, "first", f"open({str(tmp_path / 'first')!r}, 'a').write('x')")
    append = f"open({str(tmp_path / 'second')!r}, 'a').write(open({str(tmp_path / 'first')!r}).read() + '.')"
    second = step(tmp_path, "second", append, (tmp_path / "first",))
    done, told = Done(tmp_path / "steps.json"), list[str]()
    bare = (sys.executable, "-S", "-E")

    def went(*steps: Step) -> list[str]:
        told.clear()
        assert creating.go(steps, done, told.append, bare) == 0
        return [line.split(": ")[1] for line in told if "done already" not in line]

    assert went(first, second) == ["first", "second"]
    assert went(first, second) == []
    (tmp_path / "first").write_text("another")
    assert went(first, second) == ["second"]
    assert (tmp_path / "second").read_text() == "x.another."
    (tmp_path / "second").unlink()
    assert went(first, second) == ["second"]
    assert went(first, replace(second, says=("other",))) == ["second"]
    (tmp_path / "steps.json").write_text("torn {")
    assert went(first) == ["first"]


def test_a_step_that_fails_ends_it_and_the_next_is_not_begun(tmp_path: Path) -> None:
    failing = step(tmp_path, "first", "raise SystemExit(3)")
    after = step(tmp_path, "second", f"open({str(tmp_path / 'second')!r}, 'w')")
    done = Done(tmp_path / "steps.json")
    assert creating.go((failing, after), done, lambda line: None, (sys.executable, "-S", "-E")) == 3
    assert not after.output.exists()
    assert done.marks() == {}


@settings(deadline=None, max_examples=50)
@given(st.builds(Profile, *[st.text(st.characters(exclude_categories=["Cs"]))] * 3, st.lists(st.text()).map(tuple)))
def test_any_persona_can_be_written_into_a_config(known: Profile) -> None:
    known = replace(known, first_words=tuple(one.encode("utf-8", "replace").decode() for one in known.first_words))
    arguments = Namespace(name="x", base="", method="lora", language="auto")
    read = parse(tomllib.loads(cli_create.config_text(Settings(), arguments, known)), Path("config.toml"))
    persona = read.bots[0].persona
    assert (persona.name, persona.profile, persona.greeting) == (known.name, known.profile, known.greeting)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.toml"
    path.write_text('[model]\nname = "starter"\n', "utf-8")
    monkeypatch.setattr(creating, "CLI", (sys.executable, str(TARGET)))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    return path


def create(config: Path, server: FarEnd, *more: str) -> int:
    words = ["create", "海绵宝宝", "--dialogues", "6", "--base-url", server.url, "--config", str(config), *more]
    return cli.main(words)


@pytest.mark.slow  # several processes, each of which loads all of the command line
def test_a_bot_comes_of_a_name_and_nothing_is_done_twice(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = config.parent / "海绵宝宝"
    with far_end() as server:
        assert create(config, server) == 0
        said = capfd.readouterr()
        assert "step 1 of 2" in said.out
        assert "step 2 of 2" in said.out
        assert "nightschool run --config" in said.out
        assert len(server.answered) == 8
        made = load(folder / "config.toml")
        persona = made.bots[0].persona
        assert (persona.name, persona.greeting) == ("海绵宝宝", "你好呀！")
        assert made.bots[0].greet
        assert made.language == "zh"
        if "first_words" in PersonaSettings.model_fields:
            assert len(getattr(persona, "first_words")) == 2  # noqa: B009
        if "lora" in ModelSettings.model_fields:
            assert getattr(made.model, "lora") == str(folder / "lora")  # noqa: B009

        assert create(config, server, "--concurrency", "2") == 0
        assert capfd.readouterr().out.count("done already") == 2
        assert (folder / "lora" / "trained.txt").read_text("utf-8").splitlines() == [f"{ROOT / 'data' / 'starter'} 6"]

        assert create(config, server, "--dialogues", "8") == 0
    assert "done already" not in capfd.readouterr().out
    assert len(server.answered) == 10
    assert (folder / "lora" / "trained.txt").read_text("utf-8").splitlines()[1:] == [f"{ROOT / 'data' / 'starter'} 8"]


@pytest.mark.slow  # several processes, each of which loads all of the command line
def test_a_config_that_was_changed_by_hand_stays(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = config.parent / "海绵宝宝" / "config.toml"
    with far_end() as server:
        assert create(config, server) == 0
        path.write_text(path.read_text("utf-8") + "# mine\n", "utf-8")
        assert create(config, server, "--dialogues", "7") == 0
    assert path.read_text("utf-8").endswith("# mine\n")
    assert "changed by hand" in capfd.readouterr().out


@pytest.mark.slow  # several processes, each of which loads all of the command line
def test_a_training_that_fails_is_gone_on_with(
    config: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with far_end() as server:
        monkeypatch.setenv("TRAINING_FAILS", "1")
        assert create(config, server) == 1
        assert "stopped at training" in capfd.readouterr().out
        assert not (config.parent / "海绵宝宝" / "config.toml").exists()
        monkeypatch.delenv("TRAINING_FAILS")
        assert create(config, server) == 0
    assert capfd.readouterr().out.count("done already") == 1
    assert len(server.answered) == 8


def test_a_dry_run_asks_and_writes_nothing(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with far_end() as server:
        assert create(config, server, "--dry-run") == 0
    assert server.seen == []
    assert "to do: 8 calls" in capfd.readouterr().out
    assert not (config.parent / "海绵宝宝").exists()


@pytest.mark.slow
def test_ctrl_c_reaches_the_step_once_and_it_goes_on_later(config: Path) -> None:
    words = ["create", "Sponge Bob", "--dialogues", "30", "--concurrency", "2", "--config", str(config)]
    with far_end(faults=lambda number, body: Fault(delay=0.1)) as server:
        reached = threading.Event()
        server.on_answer = lambda count: reached.set() if count >= 8 else None
        command = [
            sys.executable,
            "-c",
            f"from bots import cli, creating; creating.CLI = {creating.CLI!r}; import sys;",
        ]
        command[-1] += "sys.exit(cli.main(sys.argv[1:]))"
        command += [*words, "--base-url", server.url]
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=config.parent)
        assert reached.wait(100)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        answered = len(server.answered)
        assert answered < 32
        assert subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=config.parent).returncode == 0
    assert len(server.answered) == len(set(server.answered)) == 32
    assert load(config.parent / "Sponge Bob" / "config.toml").bots[0].name == "Sponge-Bob"
