"""What owners are told in the morning: once for each night, in their private chats, in plain words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import pytest

from bots.morning import sentence
from bots.phrases import LANGUAGES, phrases
from learner.gate import Check, CheckKind
from learner.store.rows import RunRow, RunState
from tests.bots.test_nights import lesson_process, teach

Running = Callable[..., AbstractAsyncContextManager[Any]]
AT_NIGHT = datetime(2026, 3, 4, 3, 30).timestamp()
FELL = Check("canary_anchor", 0.88, False, "canaries fell by 8.0 points", low=0.94, reference=0.96)
HELD = Check("kl", 0.1, True, "KL", high=0.6)


def a_run(state: RunState, *checks: Check, number: int = 7, at: float = AT_NIGHT, **more: Any) -> RunRow:
    """A night that ended with these figures."""
    reasons = [check.fault for check in checks if not check.held]
    rows = [asdict(check) for check in checks]
    verdict = {"records": {"pairs": 46, "ratings": 12}, "reasons": reasons, "checks": rows, **more}
    return RunRow(number, "default", state, at, at + 60, verdict=verdict)


@pytest.mark.parametrize(
    ("language", "run", "speaks", "told"),
    [
        (
            "en",
            a_run("refused", FELL, HELD),
            "0006",
            "Last night: 46 choices, 12 ratings. Refused: content canary −8 points against the original model. "
            "Still on 0006.",
        ),
        ("en", a_run("published", HELD), "0007", "Last night: 46 choices, 12 ratings. New: 0007 now speaks."),
        (
            "en",
            a_run("failed", records={}),
            "base",
            "Last night: the lesson was cut short. Still on the original model. More: nightschool report 0007",
        ),
        (
            "zh",
            a_run("refused", FELL, HELD),
            "base",
            "昨晚：46 个选择，12 个评价。没有通过：内容检查比原始模型低 8 分。仍用 原始模型。",
        ),
        (
            "en",
            a_run("published", HELD, challenges="0006"),
            "0006",
            "Last night: 46 choices, 12 ratings. New: 0007 is on probation; your choices decide between it and 0006.",
        ),
        ("zh", a_run("published"), "0007", "昨晚：46 个选择，12 个评价。新版本 0007 已经上场。"),
        ("zh", a_run("failed"), "0006", "昨晚的课中断了，仍用 0006。详情：nightschool report 0007"),
    ],
)
def test_a_night_in_plain_words(language: str, run: RunRow, speaks: str, told: str) -> None:
    assert sentence(run, speaks, phrases(language)) == told


def test_a_lesson_by_day_was_not_last_night() -> None:
    run = a_run("published", at=datetime(2026, 3, 4, 15, 0).timestamp())
    assert sentence(run, "0007", phrases("en")).startswith("Today's lesson: ")


def test_one_is_one() -> None:
    run = a_run("published", records={"pairs": 1, "ratings": 1})
    assert "1 choice, 1 rating." in sentence(run, "0007", phrases("en"))


def test_a_reason_that_is_no_figure_points_to_the_report() -> None:
    run = a_run("refused", HELD, reasons=["LoRA 0007 does not fit"])
    assert "see nightschool report 0007" in sentence(run, "base", phrases("en"))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", get_args(CheckKind))
def test_every_figure_that_can_refuse_has_words(language: str, kind: CheckKind) -> None:
    check = Check(kind, 0.5, False, "an English fault", low=0.6, high=0.9, reference=0.7)
    told = sentence(a_run("refused", check), "base", phrases(language))
    assert f"why_{kind}" in phrases(language).sentences
    assert "English" not in told
    assert "{" not in told


async def test_the_page_gives_the_same_reasons_in_plain_words(running: Running) -> None:
    async with running(language="zh") as app:
        run = a_run("refused", FELL, HELD)
        run.verdict["reasons"].append("something else")
        await app.database(app.store.add_run, run)
        told = await app.summaries.last_verdict("default")
        assert "内容检查比原始模型低 8 分; something else" in told
        assert FELL.fault not in told


async def owned(app: Any) -> Any:
    """The memory platform, whose person p owns the bot."""
    platform = app.adapters["tester", "memory"]
    await platform.say("c", "p", f"/claim {app.claim_code.value}")
    return platform


def of_the_night(platform: Any) -> list[Any]:
    return [reply for reply in platform.sent if "46 choices" in reply.text]


async def settled(app: Any) -> None:
    """Until nothing waits to be sent."""
    for _ in range(200):
        if not await app.database(app.store.unsent):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("something stays unsent")


async def test_owners_are_told_once_also_after_a_restart(running: Running, tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with running(data_dir=data) as app:
        platform = await owned(app)
        await platform.say("c", "stranger", "hello")
        await app.database(app.store.add_run, a_run("refused", FELL, at=time.time()))
        for _ in range(2):
            await app.morning.tell("default", 7)
        await settled(app)
        [told] = of_the_night(platform)
        assert told.chat == "p"
    async with running(data_dir=data) as app:
        await settled(app)
        assert of_the_night(app.adapters["tester", "memory"]) == []


async def test_a_night_that_nobody_could_be_told_of_is_told_at_the_next_start(running: Running, tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with running(data_dir=data) as app:
        await owned(app)
        await app.database(app.store.add_run, a_run("published", at=time.time() - 3600))
    async with running(data_dir=data) as app:
        await settled(app)
        [told] = of_the_night(app.adapters["tester", "memory"])
        assert (told.chat, "0007 now speaks" in told.text) == ("p", True)


@pytest.mark.parametrize(
    ("state", "age", "learner"),
    [("skipped", 3600, {}), ("published", 2 * 86400, {}), ("published", 3600, {"tell_owner": False})],
)
async def test_what_is_no_news_or_not_wanted_is_not_told(
    running: Running, tmp_path: Path, state: RunState, age: float, learner: dict[str, Any]
) -> None:
    data = tmp_path / "data"
    async with running(data_dir=data) as app:
        await owned(app)
        await app.database(app.store.add_run, a_run(state, at=time.time() - age))
    async with running(data_dir=data, learner={"enabled": False, **learner}) as app:
        await settled(app)
        assert of_the_night(app.adapters["tester", "memory"]) == []


async def test_an_owner_who_asked_for_the_lesson_in_private_is_told_once(running: Running) -> None:
    async with running(learner={"enabled": False, "min_records": 3}, ask_rate=1.0) as app:
        platform = await owned(app)
        await teach(app)
        await platform.say("p", "p", "/learn")
        (await lesson_process()).kill()
        assert (await app.nights.start("default")).state == "failed"
        await settled(app)
        await asyncio.sleep(0.2)  # for a second message, which there must not be
        await settled(app)
        told = [reply.text for reply in platform.sent if reply.chat == "p"]
        assert "Off to night school" in told[-2]
        assert "the lesson was cut short" in told[-1]
