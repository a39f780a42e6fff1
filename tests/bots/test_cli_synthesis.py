"""`nightschool corpus character` and `… restyle` against a real server: what is made, what is not, and what is said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from bots import cli
from bots.persona import Persona
from learner.corpus import dialogues
from learner.corpus.dialogues import Dialogue
from learner.corpus.synthesis import journal
from learner.corpus.synthesis.prompts import PROMPTS, load
from learner.engine.base import ChatMessage
from tests.openai_far_end import FarEnd, Fault, far_end, kind_of, said

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text("", "utf-8")
    return path


class Ran:
    """One command: its exit code, what it printed, its last line as JSON, and the files."""

    def __init__(self, config: Path, capfd: pytest.CaptureFixture[str], server: FarEnd | None, *words: str) -> None:
        self.output = config.parent / "made.jsonl"
        where = ["--base-url", server.url] if server else []
        self.code = cli.main(
            ["corpus", *words, *where, "--output", str(self.output), "--config", str(config), "--json"]
        )
        self.out, self.err = capfd.readouterr()
        last = self.out.splitlines()[-1] if self.out else ""
        self.report: dict[str, Any] = json.loads(last) if last.startswith("{") else {}

    @property
    def made(self) -> list[Dialogue]:
        return list(dialogues.read(self.output))

    @property
    def errors(self) -> list[dict[str, Any]]:
        path = Path(f"{self.output}.errors.jsonl")
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def fenced(text: str, number: int) -> str:
    return [f"好的：\n```json\n{text}\n```", text, f"<think>想想 [1]</think>{text}\n希望您喜欢！"][number % 3]


def test_a_character_comes_of_its_name(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with far_end(wrap=fenced) as server:
        ran = Ran(config, capfd, server, "character", "海绵宝宝", "--dialogues", "24", "--price-in", "1")
    assert ran.code == 0, ran.err
    assert (ran.report["wanted"], ran.report["made"], ran.report["calls"]) == (24, 24, 26)
    assert ran.report["cost"] == pytest.approx(26 * 100 / 1e6)
    persona = json.loads(Path(f"{ran.output}.persona.json").read_text("utf-8"))
    assert set(persona) == {"name", "profile", "greeting", "first_words"}
    system = Persona(persona["name"], persona["profile"]).system_prompt("zh")
    opens = set()
    for dialogue in ran.made:
        assert dialogue.source == "character:海绵宝宝"
        assert dialogue.messages[0] == ChatMessage("system", system)
        assert dialogue.messages[-1].role == "assistant"
        opens.add(dialogue.messages[1].role)
    assert opens == {"user", "assistant"}, "the character speaks first now and then"
    assert len({one.about["topic"] for one in ran.made}) == 6


def test_more_of_the_same_pays_only_for_what_is_new_and_fewer_for_nothing(
    config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with far_end() as server:
        few = Ran(config, capfd, server, "character", "Sponge Bob", "--dialogues", "5").made
        more = Ran(config, capfd, server, "character", "Sponge Bob", "--dialogues", "11")
        assert more.made[:5] == few
        assert more.report["calls"] == 6
        again = Ran(config, capfd, server, "character", "Sponge Bob", "--dialogues", "5")
    assert again.made == few
    assert again.report["calls"] == 0


def test_what_is_unfit_or_alike_is_replaced_and_kept_apart(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    alike = json.dumps({"dialogue": [{"role": "user", "content": "在吗"}, {"role": "assistant", "content": said(7)}]})

    def wrap(text: str, number: int) -> str:
        if '"dialogue"' not in text:
            return text
        return {0: "不知道。", 1: alike, 2: text[:30]}.get(number % 7, text)

    def faults(number: int, body: dict[str, Any]) -> Fault | None:
        if kind_of(body["messages"][-1]["content"]) != "dialogue":
            return None
        return Fault(status=400) if number % 7 == 4 else None

    with far_end(wrap=wrap, faults=faults) as server:
        ran = Ran(config, capfd, server, "character", "海绵宝宝", "--dialogues", "21", "--concurrency", "1")
    assert ran.code == 0, ran.err
    assert len(ran.made) == 21
    assert ran.report["duplicates"] >= 3
    assert set(ran.report["rejected"]) == {"unreadable", "refused"}
    assert len(ran.errors) == ran.report["duplicates"] + sum(ran.report["rejected"].values())
    assert all(row["reason"] and row["topic"] for row in ran.errors)
    assert ran.report["calls"] == 2 + 21 + len(ran.errors)


def test_a_model_that_never_answers_rightly_is_soon_given_up(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with far_end(wrap=lambda text, number: text if '"dialogue"' not in text else "我不会。") as server:
        ran = Ran(config, capfd, server, "character", "海绵宝宝", "--dialogues", "1000", "--concurrency", "2")
    assert ran.code == 1
    assert "'unreadable'" in ran.err
    assert len(server.seen) < 60
    assert not ran.output.exists()
    assert len(ran.errors) == 30


def test_restyled_answers_stand_behind_unchanged_questions(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = config.parent / "own.jsonl"
    rows = [
        Dialogue((ChatMessage("user", f" 问题 {i}\r\n，？ "), ChatMessage("assistant", f"答{i}")), about={"i": i})
        for i in range(12)
    ]
    rows[3] = Dialogue((*rows[3].messages, ChatMessage("user", "还有呢"), ChatMessage("assistant", "没有了")))
    dialogues.write(data, rows)

    def faults(number: int, body: dict[str, Any]) -> Fault | None:
        return (
            Fault(status=400, body={"error": {"message": "filter"}})
            if "答5" in body["messages"][-1]["content"]
            else None
        )

    with far_end(faults=faults) as server:
        ran = Ran(config, capfd, server, "restyle", "--style", "西式翻译腔", "--data", str(data))
        assert ran.code == 0, ran.err
        assert len(server.answered) == 12
    assert [one.about.get("i") for one in ran.made if "i" in one.about] == [0, 1, 2, 4, 6, 7, 8, 9, 10, 11]
    originals = {dialogue.messages[0].content: dialogue for dialogue in rows}
    for dialogue in ran.made:
        before = originals[dialogue.messages[0].content]
        for old, new in zip(before.messages, dialogue.messages, strict=True):
            assert (old.content == new.content) == (old.role == "user")
    assert [(row["index"], row["reason"]) for row in ran.errors] == [(5, "refused")]


def test_a_style_without_data_makes_its_own_dialogues(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with far_end() as server:
        ran = Ran(config, capfd, server, "restyle", "--style", "西式翻译腔", "--dialogues", "10")
    assert ran.code == 0, ran.err
    assert len(ran.made) == 10
    assert all(one.messages[-1].content.startswith("哦，我的老伙计") for one in ran.made)
    assert server.kinds() == {"topics": 1, "dialogue": 10, "restyle": 10}


def test_a_dry_run_makes_no_call_and_is_near_what_it_takes(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ("character", "海绵宝宝", "--dialogues", "30", "--price-in", "1", "--price-out", "2")
    with far_end() as server:
        dry = Ran(config, capfd, server, *words, "--dry-run")
        assert server.seen == []
        wet = Ran(config, capfd, server, *words)
        assert dry.report["calls"] == wet.report["calls"] == 32
        assert Ran(config, capfd, server, *words, "--dry-run").report["calls"] == 0
        later = Ran(config, capfd, server, *words[:3], "60", "--dry-run")
    assert later.report["calls"] == 30
    assert later.report["tokens_in"] == 3000, "what the endpoint counted so far is what further calls are reckoned by"


def test_ready_made_dialogues_need_no_endpoint(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = config.parent / "ready.jsonl"
    lines = [
        json.dumps(
            [{"role": "assistant", "content": "嗨"}, {"role": "user", "content": "你好"}, *_reply("今天去抓水母")]
        ),
        json.dumps({"prompt": "你是谁", "output": "海绵宝宝呀，住在菠萝里"}),
        json.dumps({"messages": [{"role": "user", "content": "吃了吗"}, *_reply("吃了蟹黄堡，还想再来一个")]}),
        json.dumps({"prompt": "你是谁", "output": "海绵宝宝呀，住在菠萝里"}),
        "not json",
    ]
    file.write_text("\n".join(lines), "utf-8")
    ran = Ran(config, capfd, None, "character", "海绵宝宝", "--from", str(file))
    assert ran.code == 0, ran.err
    assert (ran.report["made"], ran.report["duplicates"], ran.report["rejected"]) == (3, 1, {"unreadable": 1})
    assert f"{file}:5" in ran.errors[-1]["detail"]
    assert [one.messages[0] for one in ran.made] == [ChatMessage("system", "你是海绵宝宝。")] * 3


def _reply(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize(
    ("words", "environment", "says"),
    [
        ((), {}, "--base-url"),
        (("--base-url", "localhost:8808"), {}, "http"),
        (("--base-url", "https://a:secret@host/v1"), {}, "--key-env"),
        (("--base-url", "http://127.0.0.1:9/v1", "--key-env", "NO_SUCH_KEY"), {}, "NO_SUCH_KEY is not set"),
        (("--base-url", "http://127.0.0.1:9/v1", "--key-env", "K"), {"K": "sk-密"}, "environment variable K"),
        (("--base-url", "http://127.0.0.1:9/v1", "--budget", "1"), {}, "--price-in"),
        (("--base-url", "http://127.0.0.1:9/v1", "--prompts", "nowhere"), {}, "no folder"),
        (("--base-url", "http://127.0.0.1:9/v1", "--topics", "nowhere.txt"), {}, "nowhere.txt can't be read"),
    ],
    ids=["none", "scheme", "secret", "unset", "odd", "prices", "prompts", "topics"],
)
def test_what_is_missing_is_said(
    config: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    environment: dict[str, str],
    says: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ran = Ran(config, capfd, None, "character", "x", *words)
    assert ran.code == 1
    assert says in ran.err
    assert "secret" not in ran.err.replace("a secret", "")
    assert "密" not in ran.err


def test_the_endpoint_can_stand_in_the_settings_and_the_key_reaches_no_file(
    config: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-9f8e7d6c5b4a"
    monkeypatch.setenv("MY_KEY", key)
    with far_end(key=key) as server:
        lines = f'base_url = "{server.url}/"\nkey_env = "MY_KEY"\nmodel = "other"\nconcurrency = 3\n'
        config.write_text(f"[synthesis]\n{lines}extra = {{ enable_thinking = false }}\n", "utf-8")
        ran = Ran(config, capfd, None, "character", "x", "--dialogues", "3", "--no-profile", "--temperature", "0.5")
    assert ran.code == 0, ran.err
    assert {(body["model"], body["temperature"], body["enable_thinking"]) for body in server.seen} == {
        ("other", 0.5, False)
    }
    written = b"".join(path.read_bytes() for path in config.parent.iterdir() if path.is_file())
    assert key.encode() not in written
    assert key not in ran.out + ran.err


def test_a_wrong_key_ends_it_at_once(
    config: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-wrong-0000")
    with far_end(key="right") as server:
        ran = Ran(config, capfd, server, "character", "x", "--key-env", "MY_KEY", "--model", "m")
        assert len(server.seen) == 1
    assert ran.code == 1
    assert "--key-env" in ran.err
    assert "sk-wrong-0000" not in ran.err + ran.out


def test_the_budget_ends_it_and_what_there_is_is_written(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = (
        "character",
        "海绵宝宝",
        "--dialogues",
        "100",
        "--price-out",
        "1000",
        "--max-tokens",
        "200",
        "--budget",
        "1",
    )
    with far_end() as server:
        ran = Ran(config, capfd, server, *words)
    assert ran.code == 1
    assert "Raise --budget" in ran.err
    assert 0.75 < ran.report["cost"] <= 1
    assert len(ran.made) == ran.report["made"] == len(server.answered) - 2


def test_own_prompts_replace_ours_and_their_faults_are_named(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = config.parent / "prompts"
    folder.mkdir()
    (folder / "dialogue.txt").write_text('我的提示 {name} {topic} {"dialogue": []}', "utf-8")
    with far_end() as server:
        ran = Ran(config, capfd, server, "character", "海绵宝宝", "--dialogues", "2", "--prompts", str(folder))
        assert ran.code == 0, ran.err
        mine = [body for body in server.seen if body["messages"][0]["content"].startswith("我的提示 海绵宝宝 第")]
        assert len(mine) == 2
        (folder / "dialogue.txt").write_text("{name} {topic} {colour}", "utf-8")
        wrong = Ran(config, capfd, server, "character", "海绵宝宝", "--prompts", str(folder))
    assert wrong.code == 1
    assert "{colour} is no placeholder of dialogue" in wrong.err
    assert "{angle}" in wrong.err


def test_our_prompts_hold_only_placeholders_that_are_documented() -> None:
    guide = (ROOT / "docs" / "synthesis.md").read_text("utf-8")
    for language in ("zh", "en"):
        texts = load(language)
        for name, may in PROMPTS.items():
            assert texts.texts[name]
            assert f"`{name}`" in guide
            for placeholder in may:
                assert f"`{{{placeholder}}}`" in guide


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_ctrl_c_waits_for_what_is_paid_and_goes_on_later(tmp_path: Path) -> None:
    output = tmp_path / "made.jsonl"
    with far_end(faults=lambda number, body: Fault(delay=0.15)) as server:
        reached = threading.Event()
        server.on_answer = lambda count: reached.set() if count >= 6 else None
        target = str(Path(__file__).parent / "synthesis_target.py")
        command = [sys.executable, target, "character", "x", "--dialogues", "24", "--output", str(output)]
        command += ["--base-url", server.url, "--concurrency", "3", "--json"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert reached.wait(100)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "Traceback" not in err
        assert not output.exists()
        assert len(journal.read(Path(f"{output}.journal.jsonl"))) == len(server.answered) < 26
        assert json.loads(out.splitlines()[-1])["stopped"]
        assert subprocess.run(command, env=environment, capture_output=True).returncode == 0
    assert len(server.answered) == len(set(server.answered)) == 26
    assert len(list(dialogues.read(output))) == 24
