"""More LoRAs than slots: the least recently used goes, one in use stays, and only who wants a slot waits."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from learner.engine.base import EngineBusy, EngineClosed, LoraMismatch
from learner.engine.scripted import ScriptedEngine
from learner.engine.shelf import LoraShelf
from tests.learner.engine_tiny import asking, engine, greedy, lora, prompt, run

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


class Holding(ScriptedEngine):
    """Loads when told to, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(refused=frozenset({"9999"}))
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def hold_lora(self, folder: Path) -> str:
        self.asked.append(f"+{folder.name}")
        await self.gate.wait()
        return await super().hold_lora(folder)

    async def release_lora(self, version: str) -> None:
        self.asked.append(f"-{version}")
        await super().release_lora(version)


async def use(shelf: LoraShelf, *versions: str) -> None:
    for version in versions:
        async with shelf.taken(Path(version)):
            assert version in shelf.engine._held  # type: ignore[attr-defined]


async def test_the_least_recently_used_makes_room(caplog: pytest.LogCaptureFixture) -> None:
    holding = Holding()
    shelf = LoraShelf(holding, 2, 1.0)
    with caplog.at_level(logging.INFO):
        await use(shelf, "1", "2", "1", "3", "1", "2")
    assert holding.asked == ["+1", "+2", "-2", "+3", "-3", "+2"]
    assert shelf.loaded == ("1", "2")
    assert next(line for line in caplog.messages if "makes room" in line).startswith("lora: 2 makes room for 3")


async def test_one_in_use_stays_and_nobody_else_waits() -> None:
    holding = Holding()
    shelf = LoraShelf(holding, 1, 5.0)
    async with shelf.taken(Path("1")):
        waiting = asyncio.create_task(use(shelf, "2"))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await asyncio.wait_for(use(shelf, "1"), 1)
        assert holding.asked == ["+1"]
    await asyncio.wait_for(waiting, 1)
    assert holding.asked == ["+1", "-1", "+2"]


async def test_two_who_want_the_same_load_it_once() -> None:
    holding = Holding()
    holding.gate.clear()
    shelf = LoraShelf(holding, 2, 5.0)
    both = [asyncio.create_task(use(shelf, "1")) for _ in range(2)]
    await asyncio.sleep(0.01)
    both[0].cancel()  # who gives up does not take it from the other
    holding.gate.set()
    await both[1]
    assert holding.asked == ["+1"]


async def test_no_slot_in_time_is_said() -> None:
    shelf = LoraShelf(Holding(), 1, 0.02)
    async with shelf.taken(Path("1")):
        with pytest.raises(EngineBusy, match="lora_slots"):
            await use(shelf, "2")
    await use(shelf, "2")


async def test_one_that_does_not_fit_takes_no_slot() -> None:
    shelf = LoraShelf(Holding(), 1, 1.0)
    for _ in range(2):
        with pytest.raises(LoraMismatch):
            await use(shelf, "9999")
        assert shelf.loaded == ()
    await use(shelf, "1")


def test_a_real_engine_makes_each_reply_by_its_own_though_slots_are_few() -> None:
    folders = [lora(f"{number:04d}", number, spread=0.3) for number in range(1, 5)]
    ids = prompt(20)

    async def main() -> None:
        async with engine(max_batch=4) as running:
            alone = {}
            for folder in folders:
                await running.swap_lora(folder)
                alone[folder.name] = (await running.generate(asking(ids, greedy(8)))).candidates[0].token_ids
            await running.swap_lora(None)
            assert len(set(alone.values())) == 4
            shelf = LoraShelf(running, 2, 30.0)

            async def reply(folder: Path) -> None:
                async with shelf.taken(folder):
                    [made] = (await running.generate(asking(ids, greedy(8, folder.name)))).candidates
                assert (made.lora, made.token_ids) == (folder.name, alone[folder.name])

            await asyncio.gather(*(reply(folder) for folder in folders * 3))
            assert len(shelf.loaded) == 2
            assert set(running._worker.scheduler.loras.held) == set(shelf.loaded)  # type: ignore[union-attr]
        with pytest.raises(EngineClosed):
            await reply(folders[0])

    run(main)
