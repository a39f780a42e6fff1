"""What the engine makes of replies: the base model's own states, whoever speaks, and no reply is disturbed."""

from __future__ import annotations

import asyncio

import pytest
import torch

from learner.engine.base import EngineClosed
from learner.engine.local import READ_TOKENS
from tests.learner.engine_tiny import asking, engine, folder, generated, greedy, lora, oracle, prompt, run

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

REPLIES = [prompt(5, 1), prompt(9, 2)]


def states_of(ids: tuple[int, ...], reply: tuple[int, ...]) -> list[float]:
    """What transformers itself gives."""
    with torch.no_grad():
        layers = oracle(folder())(torch.tensor([[*ids, *reply]]), output_hidden_states=True).hidden_states
    found: list[float] = layers[len(layers) // 2][0, len(ids) :].mean(dim=0).tolist()
    return found


@pytest.mark.parametrize("forward", ["auto", "general"])
def test_states_are_the_base_models_whoever_speaks(forward: str) -> None:
    ids = prompt(30)

    async def main() -> None:
        async with engine(forward=forward) as running:
            before = await running.reply_states(ids, REPLIES)
            await running.swap_lora(lora("0001"))
            assert await running.reply_states(ids, REPLIES) == before
        assert before is not None
        for state, reply in zip(before, REPLIES, strict=True):
            assert state == pytest.approx(states_of(ids, reply), abs=1e-4)

    run(main)


def test_a_reply_that_is_being_made_stays_what_it_is() -> None:
    ids = prompt(20)

    async def main() -> None:
        async with engine() as running:
            request = asking(ids, greedy(40))
            reply = asyncio.create_task(running.generate(request))
            while not reply.done():
                await running.reply_states(prompt(25, 7), REPLIES)
            assert (await reply).candidates[0].token_ids == generated(oracle(folder()), ids, 40)

    run(main)


def test_of_a_long_prompt_the_newest_tokens_are_read() -> None:
    async def main() -> None:
        async with engine() as running:
            long = prompt(READ_TOKENS + 50)
            assert await running.reply_states(long, REPLIES) == await running.reply_states(long[50:], REPLIES)

    run(main)


def test_an_engine_that_does_not_run_says_so() -> None:
    async def main() -> None:
        async with engine() as running:
            pass
        with pytest.raises(EngineClosed):
            await running.reply_states(prompt(5), REPLIES)

    run(main)
