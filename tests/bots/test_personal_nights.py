"""Two chats of opposite tastes, the whole way: words, the store, a night's own process each, the engine, one batch."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from bots import lesson
from learner import loras
from learner.frozen import NightRequest
from learner.gate import PRESETS
from learner.store.rows import Place
from learner.training.recipe import Recipe
from tests.bots.test_nights import lesson_process
from tests.learner.training_samples import tiny_model

Running = Callable[..., AbstractAsyncContextManager[Any]]

RECIPE = Recipe(
    learning_rates=(2e-2,), min_steps=40, epochs=0, rank=4, alpha=8, rounds=1, drawn=0, replay=8, shares=(1.0,)
)
GATE = dataclasses.replace(PRESETS["off"], canaries=6, sampled_canaries=8, samples=8, max_tokens=8, min_judged=2)
TASTES = {"warm": "yes, dear", "cold": "no"}
TURNS = 8
NUMBERS = itertools.count(1)  # of messages, throughout: what was delivered before a restart is not said again


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tiny: Path) -> dict[str, Any]:
    """Settings whose nights take seconds, on the real engine."""
    asked = lesson.night_request

    def request(*given: Any) -> NightRequest:
        return dataclasses.replace(asked(*given), recipe=RECIPE, gate=GATE, nice=0)

    monkeypatch.setattr(lesson, "night_request", request)
    named = [{"name": name, "chats": [f"memory:{name}"]} for name in TASTES]
    bot = {"name": "tester", "adapters": ["memory"], "talkers": "everyone", "teachers": "owner"}
    return {
        "model": {"engine": "local", "name": str(tiny), "device": "cpu", "threads": 1},
        "learner": {"enabled": False, "min_records": 6, "gate": "off", "threads": 1, "personal": named},
        "bots": [{**bot, "sampling": {"temperature": 0.2, "top_p": 0.4, "max_tokens": 12}}],
    }


async def tell(app: Any, chat: str, *words: str) -> Any:
    """Say these words one after the other in a chat; the last reply."""
    for text in words:
        replies = await app.adapters["tester", "memory"].say(chat, f"of {chat}", text, id=f"said {next(NUMBERS)}")
    return replies[0]


async def teach(app: Any) -> None:
    """In each chat somebody corrects every reply to what they like."""
    for chat, wanted in TASTES.items():
        await app.database(app.store.set_teacher, "tester", "memory", f"of {chat}", True)
        for number in range(TURNS):
            await tell(app, chat, "/reset", f"question {number}", f"edit: {wanted}")


def batches(app: Any) -> list[set[str]]:
    """Notes which versions each decoding step of the engine is made by (filled in as it goes)."""
    batch = app.engines["default"]._worker.scheduler._batch
    steps: list[set[str]] = []
    step = batch.step

    def noted() -> Any:
        time.sleep(0.02)  # so that everybody is there before the shortest reply ends
        steps.append({one.slot.version if one.slot is not None else "base" for one in batch.branches})
        return step()

    batch.step = noted
    return steps


async def together(app: Any) -> dict[str, tuple[str, str | None]]:
    """What each chat is told at the same time, and by which version."""
    chats = [*TASTES, "stranger"]
    said = await asyncio.gather(*(tell(app, chat, "question 3") for chat in chats))
    found = [await app.database(app.store.exchange, one.exchange) for one in said]
    return {chat: (one.candidates[0].text, one.candidates[0].lora) for chat, one in zip(chats, found, strict=True)}


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_opposite_tastes_are_learned_apart_and_served_together(
    running: Running, tmp_path: Path, quick: dict[str, Any]
) -> None:
    data = tmp_path / "data"
    async with running(data_dir=data, **quick) as app:
        await teach(app)
        for chat in (*TASTES, "stranger"):
            await tell(app, chat, "/reset")
        before = await together(app)
        assert {version for _, version in before.values()} == {None}
        night = asyncio.create_task(app._teach_all())
        killed = await lesson_process()
        os.kill(killed.pid, signal.SIGKILL)  # the first one's; the other goes on
        await night
        states = {scope: (await app.nights.last(scope)).state for scope in ("default@warm", "default@cold")}
        assert states == {"default@warm": "failed", "default@cold": "published"}
        assert await app.nights.last("default") is None  # nothing that was said concerns all
        assert (await app.nights.start("default@warm")).state == "published"
        own = {name: app.nights.active(f"default@{name}") for name in TASTES}
        assert [one.name for one in loras.listing(app.settings.loras_dir, "default")] == ["cold", "warm"]
        for chat in (*TASTES, "stranger"):
            await tell(app, chat, "/reset")
        steps = batches(app)
        after = await together(app)
        assert {chat: version for chat, (_, version) in after.items()} == {**own, "stranger": None}
        assert {*own.values(), "base"} in steps, f"they did not share a step: {after}"
        assert not {after["stranger"][0], *(text for text, _ in before.values())} & {*TASTES.values()}
        assert {chat: after[chat][0] for chat in TASTES} == TASTES
    async with running(data_dir=data, **quick) as app:  # the pointers hold, and rolling one back touches no other
        await tell(app, "warm", "/reset")
        assert (await tell(app, "warm", "question 3")).text == TASTES["warm"]
        done = await app.versions.calls()["rollback"]({"chat": "warm"})
        assert done["active"] == "common"
        await tell(app, "warm", "/reset")
        assert (await tell(app, "warm", "question 3")).text != TASTES["warm"]
        await tell(app, "cold", "/reset")
        assert (await tell(app, "cold", "question 3")).text == TASTES["cold"]
        done = await app.versions.calls()["forget"]({"person": "memory:of cold"})
        assert (done["retired"], app.nights.active("default@cold")) == ([own["cold"]], "common")
        assert not (app.settings.runs_dir / own["cold"]).exists()
        reply = await tell(app, "cold", "question 3")
        exchange = await app.database(app.store.exchange, reply.exchange)
        assert exchange.candidates[0].lora is None
        assert exchange.place == Place("tester", "memory", "cold")
    shutil.rmtree(data)
