"""Many items at once, taken in order: never one too many, none that was made dropped, whatever the timing."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.corpus.synthesis.ordered import in_order


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 30), st.integers(1, 12), st.sets(st.integers(0, 80)), st.integers(0, 10**6))
def test_what_is_made_never_hangs_on_timing(wanted: int, window: int, unfit: set[int], seed: int) -> None:
    rng, made, asked = random.Random(seed), list[int](), list[int]()

    async def make(number: int) -> int:
        asked.append(number)
        for _ in range(rng.randint(0, 4)):
            await asyncio.sleep(0)
        return number

    def take(number: int, result: int) -> None:
        assert number == result
        if number not in unfit:
            made.append(number)

    asyncio.run(in_order(make, take, lambda: wanted - len(made), window))
    assert made == [number for number in range(200) if number not in unfit][:wanted]
    assert asked == list(range(made[-1] + 1 if made else 0))


async def test_what_is_under_way_when_one_fails_is_taken_all_the_same() -> None:
    taken: list[int] = []

    async def make(number: int) -> int:
        await asyncio.sleep(0.001 * (10 - number))
        if number == 2:
            raise ValueError("no more")
        return number

    with pytest.raises(ValueError, match="no more"):
        await in_order(make, lambda number, result: taken.append(result), lambda: 100, 6)
    assert taken == [0, 1, 3, 4, 5, 6, 7]


async def test_when_it_is_cancelled_so_are_the_items() -> None:
    ended: list[int] = []

    async def make(number: int) -> int:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(number)
        return number

    task = asyncio.ensure_future(in_order(make, lambda number, result: None, lambda: 3, 8))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(ended) == [0, 1, 2]
