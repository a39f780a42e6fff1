"""`nightschool corpus`: import, roles, identity, export, show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bots.cli import main
from learner.corpus import dialogues
from tests.learner.corpus_samples import MINUTE, NOON, Wrote, memotrace, said_in, telegram

SAID = [Wrote("ann", "ann", "电话？", NOON), Wrote("ann", "me", "13812345678，对吗。", NOON + MINUTE)]
COUNTS = {"read", "kept", "dropped", "reasons"}


@pytest.fixture
def asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run `corpus` with these words; its code, what it printed, what it complained of."""
    config = tmp_path / "config.toml"
    config.write_text('language = "zh"\n[model]\nengine = "scripted"\n', "utf-8")

    def run(*words: Any) -> tuple[int, str, str]:
        code = main(["corpus", *map(str, words), "--config", str(config)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_chats_are_imported_shown_and_exported(asked: Any, tmp_path: Path) -> None:
    source, output = memotrace(tmp_path / "m.csv", SAID), tmp_path / "corpus.jsonl"
    code, told, _ = asked("import", source, "--from", "memotrace", "--me", "x", "--output", output, "--json")
    assert code == 0
    counts = json.loads(told.splitlines()[-1])
    assert set(counts) == COUNTS
    assert (counts["read"], counts["kept"], counts["dropped"]) == (2, 2, 0)
    assert "2 rows read = 2 kept + 0 dropped" in told
    assert said_in(dialogues.read(output)) == [("user", "电话？"), ("assistant", "[电话]，对吗。")]
    code, shown, _ = asked("show", output)
    assert shown.strip() == "\n".join(told.splitlines()[:-1]).strip()
    page = tmp_path / "page.html"
    assert asked("show", output, "--html", page)[:2] == (0, f"{page}\n")
    assert "<svg" in page.read_text("utf-8")
    assert json.loads(asked("show", output, "--json")[1])["kept"] == 2
    code, told, _ = asked("export", output, "--format", "alpaca", "--output", tmp_path / "alpaca.json")
    assert code == 0
    assert "1 rows" in told
    assert json.loads((tmp_path / "alpaca.json").read_text("utf-8"))[0]["instruction"] == "电话？"


def test_the_options_reach_the_import(asked: Any, tmp_path: Path) -> None:
    picture = Wrote("ann", "ann", "", NOON + 3 * MINUTE, kind=3)
    late = Wrote("ann", "me", "好", NOON + 3 * 3600)
    source, output = telegram(tmp_path / "result.json", [*SAID, picture, late]), tmp_path / "corpus.jsonl"
    words = ("import", source, "--output", output, "--keep-personal", "--zone", "UTC")
    asked(*words, "--media", "label", "--reply-within", "4h", "--me", "me")
    assert said_in(dialogues.read(output)) == [
        ("user", "电话？"), ("assistant", "13812345678，对吗。"), ("user", "[图片]"), ("assistant", "好"),
    ]  # fmt: skip
    asked(*words, "--me", "me", "--media", "label", "--gap", "30s")
    assert list(dialogues.read(output)) == []


def test_a_name_that_is_not_there_is_hinted_at(asked: Any, tmp_path: Path) -> None:
    source, output = telegram(tmp_path / "result.json", SAID), tmp_path / "corpus.jsonl"
    code, told, hint = asked("import", source, "--output", output, "--me", "nobody")
    assert (code, "--me" in hint, "2 rows read = 0 kept + 2 dropped" in told) == (0, True, True)


def test_a_folder_is_searched(asked: Any, tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    memotrace(tmp_path / "in" / "deep" / "m.csv", SAID)
    (tmp_path / "in" / "photo.jpg").write_bytes(b"\xff")
    code, told, _ = asked("import", tmp_path / "in", "--output", tmp_path / "o.jsonl")
    assert (code, "2 rows read" in told) == (0, True)
    (tmp_path / "empty").mkdir()
    assert "holds no" in asked("import", tmp_path / "empty", "--output", tmp_path / "o.jsonl")[2]


def test_roles(asked: Any, tmp_path: Path) -> None:
    rows, profiles, output = tmp_path / "roles.jsonl", tmp_path / "profiles.json", tmp_path / "o.jsonl"
    lines = [{"role": role, "question": "你好", "generated": [f"{role}在此"]} for role in ("悟空", "八戒")]
    rows.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines), "utf-8")
    profiles.write_text('{"悟空": "猴王。"}', "utf-8")
    code, told, _ = asked("roles", rows, "--profiles", profiles, "--role", "悟空", "--output", output, "--json")
    assert code == 0
    assert json.loads(told.splitlines()[-1]) == {"read": 2, "kept": 1, "dropped": 1, "reasons": {"another role": 1}}
    assert said_in(dialogues.read(output)) == [
        ("system", "你是悟空。猴王。"),
        ("user", "你好"),
        ("assistant", "悟空在此"),
    ]
    profiles.write_text("[]")
    assert "expected profiles" in asked("roles", rows, "--profiles", profiles, "--output", output)[2]


def test_identity(asked: Any, tmp_path: Path) -> None:
    output = tmp_path / "me.jsonl"
    words = ("identity", "--name", "小夜", "--author", "林老师", "--output", output, "--count", "101", "--json")
    code, told, _ = asked(*words)
    assert (code, json.loads(told.splitlines()[-1])) == (0, {"read": 101, "kept": 101, "dropped": 0, "reasons": {}})
    made = list(dialogues.read(output))
    assert {one.about["language"] for one in made} == {"zh", "en"}
    asked(*words)
    assert list(dialogues.read(output)) == made
    asked(*words, "--seed", "1", "--language", "zh")
    assert {one.about["language"] for one in dialogues.read(output)} == {"zh"}
    assert "not to be empty" in asked("identity", "--name", " ", "--author", "x", "--output", output)[2]


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("--gap", "soon"), "no length of time"),
        (("--zone", "Nowhere"), "time zone"),
        (("--cap", "-1"), "--cap"),
        (("--longest", "1"), "--longest"),
        (("--from", "weclone"), "does not name the columns"),
    ],
)
def test_a_wrong_wish_is_told_and_leaves_nothing(
    asked: Any, tmp_path: Path, words: tuple[str, ...], fault: str
) -> None:
    source, output = memotrace(tmp_path / "m.csv", SAID), tmp_path / "out" / "corpus.jsonl"
    code, _, told = asked("import", source, "--output", output, *words)
    assert (code, fault in told) == (1, True)
    assert not output.exists()


def test_what_is_missing_is_told(asked: Any, tmp_path: Path) -> None:
    assert asked("import", tmp_path / "no.csv", "--output", tmp_path / "o")[0] == 1
    code, _, told = asked("show", tmp_path / "no.jsonl")
    assert (code, "is missing" in told) == (1, True)
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{\n")
    code, _, told = asked("export", broken, "--format", "sharegpt", "--output", tmp_path / "o")
    assert (code, "broken.jsonl:1" in told) == (1, True)
    assert not (tmp_path / "o").exists()
