"""Nights from the parent's side: a killed lesson, a failed one, too few records, a crash of the parent itself."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import psutil
import pytest

from bots import lesson
from bots.nights import drop_runs_of
from learner.scopes import BASE
from learner.store.rows import RunRow

Running = Callable[..., AbstractAsyncContextManager[Any]]
LEARNER = {"enabled": False, "min_records": 3}


async def teach(app: Any, rounds: int = 4) -> None:
    """Let a person choose a few times."""
    platform = app.adapters["tester", "memory"]
    for number in range(rounds):
        await platform.say(f"c{number}", "p", f"hello {number}")
        await platform.say(f"c{number}", "p", "1")


async def lesson_process() -> psutil.Process:
    """The child, once it is there."""
    for _ in range(400):
        for child in psutil.Process().children():
            if "learner.nightly" in " ".join(child.cmdline()):
                return child
        await asyncio.sleep(0.02)
    raise AssertionError("no lesson was started")


async def test_too_few_records_is_said(running: Running) -> None:
    async with running(learner={**LEARNER, "min_records": 50}, ask_rate=1.0) as app:
        await teach(app)
        result = await app.nights.start("default")
        assert (result.state, result.number) == ("skipped", None)
        assert not app.settings.runs_dir.exists()


async def test_a_killed_lesson_changes_nothing_and_the_bot_talks(running: Running) -> None:
    async with running(learner=LEARNER, ask_rate=1.0) as app:
        await teach(app)
        night = app.nights.start("default")
        child = await lesson_process()
        assert app.nights.is_running("default")
        replies = await app.adapters["tester", "memory"].say("during", "p", "still there?")
        assert replies[0].exchange is not None
        os.kill(child.pid, signal.SIGKILL)
        result = await night
        assert result.state == "failed"
        assert app.nights.active("default") == BASE
        stored = await app.database(app.store.run, result.number)
        assert stored.state == "failed"
        assert stored.verdict["reasons"]
        assert (await app.nights.last("default")).number == result.number


async def test_a_lesson_that_fails_says_why(running: Running, tmp_path: Path) -> None:
    missing = tmp_path / "no-such-model"
    async with running(learner=LEARNER, ask_rate=1.0, model={"name": str(missing)}) as app:
        await teach(app)
        result = await app.nights.start("default")
        assert result.state == "failed"
        assert "no-such-model" in " ".join(result.reasons)


async def test_a_lesson_knows_the_owners(running: Running, tmp_path: Path) -> None:
    async with running(learner=LEARNER, ask_rate=1.0, model={"name": str(tmp_path / "none")}) as app:
        await teach(app)
        await app.database(app.store.claim_owner, app.settings.bots[0].name, "telegram", "77", 1.0)
        result = await app.nights.start("default")
        request = json.loads((app.settings.runs_dir / f"{result.number:04d}" / "request.json").read_text("utf-8"))
        owners = await app.database(app.store.owners, app.settings.bots[0].name)
        assert "telegram:77" in request["owners"]
        assert request["owners"] == sorted(f"{owner.platform}:{owner.person}" for owner in owners)


async def test_a_second_start_joins_the_running_night(running: Running) -> None:
    async with running(learner=LEARNER, ask_rate=1.0) as app:
        await teach(app)
        first = app.nights.start("default")
        assert app.nights.start("default") is first
        (await lesson_process()).kill()
        await first


async def test_who_asked_for_a_lesson_is_told_its_end(running: Running) -> None:
    async with running(learner=LEARNER, ask_rate=1.0) as app:
        await teach(app)
        platform = app.adapters["tester", "memory"]
        (refusal,) = await platform.say("c", "p", "/learn")
        assert "Only the owner" in refusal.text
        await platform.say("c", "p", f"/claim {app.claim_code.value}")
        (begun,) = await platform.say("c", "p", "/learn")
        assert "Off to night school" in begun.text
        (await lesson_process()).kill()
        for _ in range(200):
            said = [reply.text for reply in platform.sent if reply.chat == "c"]
            if "cut short" in said[-1]:
                break
            await asyncio.sleep(0.05)
        assert "Night school was cut short" in said[-1]


async def test_a_crash_of_the_parent_is_caught_up_with(running: Running, tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with running(data_dir=data) as app:
        await app.database(app.store.add_run, RunRow(7, "default", "running", 1.0, None))
    async with running(data_dir=data) as app:
        run = await app.database(app.store.run, 7)
        assert run.state == "failed"
        assert run.verdict["reasons"] == ["it was interrupted"]


async def test_a_published_lora_that_does_not_fit_never_speaks(running: Running, tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with running(data_dir=data) as app:
        await app.database(app.store.add_run, RunRow(7, "default", "running", 1.0, None))
    folder = data / "runs" / "0007"
    folder.mkdir(parents=True)
    (folder / lesson.VERDICT).write_text(json.dumps({"outcome": "published", "reasons": []}), "utf-8")
    async with running(data_dir=data) as app:
        run = await app.database(app.store.run, 7)
        assert run.state == "refused"
        assert app.nights.active("default") == BASE


def test_frozen_runs_of_a_forgotten_person_go(tmp_path: Path) -> None:
    for name, exchange in (("0001", "a"), ("0002", "b")):
        (tmp_path / name).mkdir()
        row = {"provenance": {"exchange": exchange}}
        (tmp_path / name / "pairs.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    assert drop_runs_of(tmp_path, frozenset({"b", "c"})) == ["0002"]
    assert [folder.name for folder in tmp_path.iterdir()] == ["0001"]


@pytest.mark.parametrize("name", ["promote", "rollback"])
async def test_control_calls_explain_what_they_can_not_do(running: Running, name: str) -> None:
    from bots.control import ControlClient, ControlError

    async with running() as app:
        client = ControlClient(app.settings.data_dir)
        with pytest.raises(ControlError, match=r"0042|nothing to roll back"):
            await asyncio.to_thread(client.call, name, version="0042")
        stranger = ControlClient(app.settings.data_dir)
        object.__setattr__(stranger, "_key", type(stranger._key)(stranger._key.port, "wrong"))
        with pytest.raises(ControlError, match="not allowed"):
            await asyncio.to_thread(stranger.call, "progress")
