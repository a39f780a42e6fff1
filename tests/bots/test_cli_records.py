"""`nightschool records import`: with a bot that runs and without, twice, with rows that are no records."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from bots.cli import main, parser
from bots.nights import Nights
from learner.frozen import thaw
from learner.store.store import Store

CONFIG = 'language = "en"\n[model]\nengine = "scripted"\n[learner]\nenabled = false\n'
Run = Callable[..., tuple[int, str, str]]


def turn(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


ROWS: list[Any] = [
    {"messages": [turn("user", "secret words"), turn("assistant", "fine, you?")], "label": True},
    {"messages": [turn("user", "hi"), turn("assistant", "")], "label": True},
    {"messages": [turn("user", "hi"), turn("assistant", "no")], "label": False},
    {"messages": [turn("user", "hi"), turn("assistant", "no")], "label": False},
    ["nothing"],
]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    config = tmp_path / "config.toml"
    config.write_text(CONFIG, "utf-8")
    (tmp_path / "kto_records.json").write_text(json.dumps(ROWS), "utf-8")

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "--config", str(config)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def last(out: str) -> Any:
    return json.loads(out.splitlines()[-1])


def test_it_ends_with_a_report_and_names_the_rows_that_it_dropped(run: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "kto_records.json")
    code, out, err = run("records", "import", path, "--json")
    assert code == 0
    reasons = {"empty_reply": 1, "duplicate": 1, "not_an_object": 1}
    assert last(out) == {"read": 5, "kept": 2, "dropped": 3, "reasons": reasons}
    assert [line.split(": ")[0] for line in err.splitlines()] == [f"{path}, row {n}" for n in (2, 4, 5)]
    assert "secret" not in out + err
    again = last(run("records", "import", path, "--json")[1])
    assert (again["read"], again["kept"], again["dropped"], again["reasons"]["known"]) == (5, 0, 5, 2)
    stats = json.loads(run("records", "stats", "--json")[1])
    assert (stats["imported"], stats["ratings"]) == ({"kto_records": 2}, 2)
    [teacher] = json.loads(run("teachers", "--json")[1])
    assert (teacher["teacher"], teacher["state"], teacher["ratings"]) == ("import:kto_records", "owner", 2)
    assert "deleted" in run("forget", "import:kto_records")[1]
    assert json.loads(run("records", "stats", "--json")[1])["imported"] == {}


def test_another_teacher_a_named_source_and_faults_of_the_command(run: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "kto_records.json")
    code, out, _ = run("records", "import", path, "--source", "旧机器人", "--teacher", "web:ann")
    assert (code, "taught by web:ann" in out) == (0, True)
    [teacher] = json.loads(run("teachers", "--json")[1])
    assert (teacher["teacher"], teacher["state"]) == ("web:ann", "trusted")
    assert json.loads(run("records", "stats", "--json")[1])["imported"] == {"旧机器人": 2}
    assert "web:local" in run("records", "import", path, "--teacher", "ann")[2]
    code, out, err = run("records", "import", str(tmp_path / "none.json"), path, "--json", "--source", "two")
    assert (code, last(out)["kept"], "none.json can't be read" in err) == (1, 2, True)
    assert run("records", "import", path, "--from", "xtuner")[0] == 1


async def test_a_bot_that_runs_takes_them_in_and_freezes_them_for_its_night(
    running: Callable[..., AbstractAsyncContextManager[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "dpo.jsonl"
    rows = [{"prompt": f"question {n}", "chosen": "yes, sure", "rejected": "no"} for n in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    async with running(learner={"enabled": False, "min_records": 3}) as app:
        arguments = parser().parse_args(["records", "import", str(path), "--json"])
        assert await asyncio.to_thread(arguments.run, app.settings, arguments) == 0
        assert app.store.stats("default")["imported"] == {"dpo": 3}

        async def lesson(self: Nights, mind: str, number: int, folder: Path) -> tuple[int, str]:
            return 1, "not taught in this test"

        monkeypatch.setattr(Nights, "_lesson", lesson)
        result = await app.nights.start("default")
        assert (result.state, result.have) == ("failed", 3)
        frozen = thaw(app.settings.runs_dir / "0001")
    assert frozen.records.imported() == {"dpo": 3}
    assert frozen.request.owners == ("import:dpo",)
    assert all(pair.prompt_ids == () and pair.chosen_ids is None for pair in frozen.records.pairs)


def test_the_store_keeps_minds_apart(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    bots = '[[bots]]\nname = "a"\nadapters = []\n[[bots]]\nname = "b"\nmind = "m2"\nadapters = []\n'
    config.write_text(CONFIG + bots, "utf-8")
    (tmp_path / "kto.json").write_text(json.dumps(ROWS), "utf-8")
    assert main(["records", "import", str(tmp_path / "kto.json"), "--mind", "m2", "--config", str(config)]) == 0
    assert main(["records", "import", str(tmp_path / "kto.json"), "--mind", "m3", "--config", str(config)]) == 1
    store = Store(f"sqlite:///{tmp_path / 'data' / 'nightschool.db'}")
    assert (store.stats("default")["imported"], store.stats("m2")["imported"]) == ({}, {"kto": 2})
    store.close()
