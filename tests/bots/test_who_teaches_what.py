"""Strangers change no bit of what a night learns, and who is forgotten leaves none behind.

The whole way: words through the real router into the store, records frozen, a night trained, its file's bytes.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from learner.engine.scripted import ScriptedEngine
from learner.frozen import freeze, thaw
from learner.gate import PRESETS
from learner.records import PreferenceRecords
from learner.training.recipe import Recipe
from tests.learner.training_samples import some_canaries, tiny_model

Running = Callable[..., AbstractAsyncContextManager[Any]]

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*deprecated:FutureWarning")

RECIPE = Recipe(
    learning_rates=(5e-3,), min_steps=4, epochs=0, rank=4, alpha=8, rounds=2, drawn=8, drawn_each=3, replay=16
)
GATE = dataclasses.replace(PRESETS["off"], canaries=6, sampled_canaries=8, samples=8, max_tokens=8, min_judged=2)
BOT = {"name": "tester", "adapters": ["memory"], "talkers": "everyone", "teachers": "owner"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


async def talk(app: Any, people: Iterable[str], turns: int = 6) -> int:
    """Everybody chooses the longer reply, in chats of their own; every third time both were bad. How often they did."""
    platform, chosen = app.adapters["tester", "memory"], 0
    for number in range(turns):
        for person in people:
            [reply] = await platform.say(f"with {person}", person, f"hello {number} from {person}")
            if reply.candidates:
                longer = "1" if len(reply.candidates[0]) > len(reply.candidates[1]) else "2"
                await platform.say(f"with {person}", person, longer if number % 3 else "0")
                chosen += 1
    return chosen


async def teaches(app: Any, *people: str) -> None:
    for person in people:
        await app.database(app.store.set_teacher, "tester", "memory", person, True)


def trained(folder: Path, model: Path, records: PreferenceRecords) -> bytes:
    """The weights' file after one night on `records`."""
    from learner.frozen import NightRequest
    from learner.training.night import Night

    plain = [dataclasses.replace(one, prompt_ids=(), chosen_ids=None, rejected_ids=None) for one in records.pairs]
    rated = [dataclasses.replace(one, prompt_ids=(), completion_ids=None) for one in records.ratings]
    records = dataclasses.replace(records, pairs=tuple(plain), ratings=tuple(rated))  # the scripted engine's own tokens
    request = NightRequest(1, "default", str(model), "x", recipe=RECIPE, gate=GATE, device="cpu", threads=1, nice=0)
    freeze(folder, request, records, some_canaries())
    night = Night(thaw(folder), str(folder / "scratch"), lambda *_: None)
    outcome = night.judged()
    assert outcome.tried, outcome.reasons
    night.write(folder / "lora", outcome)
    return (folder / "lora" / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize("strangers", [1, 12])
async def test_strangers_change_no_bit(running: Running, tmp_path: Path, tiny: Path, strangers: int) -> None:
    known = {"bots": [BOT], "ask_rate": 1.0}
    async with running(data_dir=tmp_path / "without", **known) as app:
        await teaches(app, "ann", "ben")
        await talk(app, ["ann", "ben"])
        records = await app.database(app.store.records, "default")
    shutil.copytree(tmp_path / "without", tmp_path / "with")
    async with running(data_dir=tmp_path / "with", **known) as app:
        assert await talk(app, [f"eve {number}" for number in range(strangers)]) >= strangers
        heard = await app.database(app.store.records, "default")
    assert heard == dataclasses.replace(records, left_out=heard.left_out)
    one, two = (trained(tmp_path / name, tiny, found) for name, found in (("one", records), ("two", heard)))
    assert one == two


async def test_who_is_forgotten_leaves_no_bit(running: Running, tmp_path: Path, tiny: Path) -> None:
    async with running(ScriptedEngine(), bots=[BOT], ask_rate=1.0) as app:
        await teaches(app, "ann", "ben", "cat")
        await talk(app, ["ann", "ben", "cat"])
        every = await app.database(app.store.records, "default")
        await app.database(app.store.forget, "memory:cat")
        left = await app.database(app.store.records, "default")
    others = [one for one in every.pairs if one.provenance.teacher != "memory:cat"]
    rated = [one for one in every.ratings if one.provenance.teacher != "memory:cat"]
    assert len(left.pairs) < len(every.pairs)
    remaining = dataclasses.replace(every, pairs=tuple(others), ratings=tuple(rated))
    whole, one, two = (
        trained(tmp_path / name, tiny, found)
        for name, found in (("whole", every), ("remaining", remaining), ("left", left))
    )
    assert one == two
    assert whole != one
