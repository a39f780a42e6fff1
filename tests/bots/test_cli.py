"""The command line in a process of its own: every fault is one clear sentence and exit code 1."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from learner.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
SCRIPTED = 'language = "en"\n[model]\nengine = "scripted"\n'


def nightschool(tmp_path: Path, config: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command on a config.toml in `tmp_path`."""
    path = tmp_path / "config.toml"
    path.write_text(config, "utf-8")
    return subprocess.run(
        [sys.executable, "-m", "bots.cli", *arguments, "--config", str(path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_broken_config_names_every_fault(tmp_path: Path) -> None:
    said = complaint(nightschool(tmp_path, "ask_rate = 5\nnonsense = 1\n", "run"))
    assert "ask_rate" in said
    assert "nonsense" in said


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = complaint(nightschool(tmp_path, f"{SCRIPTED}[adapters.web]\nport = {port}\n", "run"))
    assert f"127.0.0.1:{port} is in use" in said


def test_a_missing_model(tmp_path: Path) -> None:
    config = '[model]\nname = "./nothing-here"\n[adapters.web]\nport = 0\n'
    said = complaint(nightschool(tmp_path, config, "run"))
    assert "nothing-here" in said


def test_a_database_from_a_newer_version(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    Store(f"sqlite:///{data / 'nightschool.db'}").close()
    with sqlite3.connect(data / "nightschool.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    said = complaint(nightschool(tmp_path, SCRIPTED, "records", "stats"))
    assert "newer" in said


def test_too_few_records_is_said_and_is_no_fault(tmp_path: Path) -> None:
    done = nightschool(tmp_path, SCRIPTED, "learn")
    assert done.returncode == 0
    assert "0 records" in done.stdout


def test_stats_are_one_line_of_json(tmp_path: Path) -> None:
    done = nightschool(tmp_path, SCRIPTED, "records", "stats", "--json")
    assert json.loads(done.stdout)["pairs"] == 0


@pytest.mark.parametrize("arguments", [("lora", "promote", "0042"), ("lora", "show", "0042")])
def test_an_unknown_lora_says_where_to_look(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert "nightschool lora list" in complaint(nightschool(tmp_path, SCRIPTED, *arguments))


def test_nothing_to_roll_back_to(tmp_path: Path) -> None:
    assert "nothing to roll back to" in complaint(nightschool(tmp_path, SCRIPTED, "lora", "rollback"))
