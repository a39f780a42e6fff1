"""What the engine decodes equals what transformers' generate does, in every make-up of the batch."""

import asyncio

import pytest
import torch

from learner.engine import half
from learner.engine.direct import DirectDecoder
from learner.engine.general import GeneralDecoder
from tests.learner.engine_tiny import (
    asking,
    engine,
    folder,
    forced_logprobs,
    generated,
    greedy,
    oracle,
    prompt,
    run,
    sampled,
)

KINDS = {
    "qwen3": {},
    "llama": {},
    "mistral": {"sliding_window": 16},
    "qwen2": {},
    "gemma2": {"sliding_window": 16},
    "gemma3_text": {"sliding_window": 16},
    "glm": {"pad_token_id": 0},
    "glm4": {"pad_token_id": 0},
    "phi3": {"sliding_window": None},
    "smollm3": {},
}


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_equals_generate_for_a_pair_and_ragged_chats(kind: str) -> None:
    path = folder(kind, **KINDS[kind])
    prompts = [prompt(length) for length in (37, 5, 61, 20)]

    async def main() -> None:
        async with engine(path, prefill_chunk=24) as running:
            pair = await running.generate(asking(prompts[0], greedy(), greedy()))
            many = await asyncio.gather(*(running.generate(asking(p)) for p in prompts))
        expected = [generated(oracle(path), p) for p in prompts]
        assert [c.token_ids for c in pair.candidates] == [expected[0], expected[0]]
        assert [g.candidates[0].token_ids for g in many] == expected

    run(main)


@pytest.mark.parametrize("maker", ["GenuineIntel", "AuthenticAMD"])
@pytest.mark.parametrize("kind", ["qwen3", "qwen2"])
def test_16_bit_copies_of_16_bit_weights_change_nothing(kind: str, maker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learner.engine.half._maker", lambda: maker)
    monkeypatch.setattr("learner.engine.half.LARGE_FROM", 0)
    assert half.copied(torch.randn(8, 8), None) is None
    assert half.copied(torch.randn(8, 8).bfloat16().float(), torch.randn(8)) is not None
    path, prompts = folder(kind, rounded=True), [prompt(length) for length in (120, 5, 61)]

    async def main() -> None:
        async with engine(path) as running:
            many = await asyncio.gather(*(running.generate(asking(p, greedy(), greedy())) for p in prompts))
        for p, out in zip(prompts, many, strict=True):
            assert [c.token_ids for c in out.candidates] == [generated(oracle(path), p)] * 2
            forced = forced_logprobs(oracle(path), p, out.candidates[0].token_ids)
            assert out.candidates[0].logprobs == pytest.approx(forced, abs=1e-4)

    run(main)


def test_copies_are_used_with_so_many_rows_as_they_are_faster_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")
    small, large = half.LARGE_FROM - 1, half.LARGE_FROM
    monkeypatch.setattr("learner.engine.half._maker", lambda: "GenuineIntel")
    assert [rows in half.faster_with(large) for rows in (1, 96, 384)] == [True, True, False]
    assert not half.faster_with(small)
    monkeypatch.setattr("learner.engine.half._maker", lambda: "AuthenticAMD")
    assert [rows in half.faster_with(large) for rows in (1, 96, 384)] == [True, True, True]
    assert [rows in half.faster_with(small) for rows in (1, 58, 384)] == [False, True, True]


def test_the_lean_forward_is_used_where_it_agrees_and_only_there() -> None:
    async def main() -> None:
        for kind, decoder in (("qwen3", DirectDecoder), ("llama", DirectDecoder), ("gemma2", GeneralDecoder)):
            async with engine(folder(kind, **KINDS[kind])) as running:
                assert running._model is not None
                assert type(running._model.decoder) is decoder

    run(main)


@pytest.mark.parametrize("forward", ["auto", "general"])
def test_eight_ragged_chats_that_join_and_leave(forward: str) -> None:
    prompts = [prompt(length, seed) for seed, length in enumerate((3, 90, 17, 44, 8, 120, 31, 66, 12, 50))]
    lengths = [4 + 5 * (at % 6) for at in range(len(prompts))]

    async def main() -> None:
        async with engine(forward=forward, prefill_chunk=32) as running:
            jobs = [
                asyncio.create_task(running.generate(asking(p, greedy(n))))
                for p, n in zip(prompts, lengths, strict=True)
            ]
            outs = await asyncio.gather(*jobs)
        for p, n, out in zip(prompts, lengths, outs, strict=True):
            assert out.candidates[0].token_ids == generated(oracle(folder()), p, n)

    run(main)


def test_logprobs_are_the_unwarped_policys() -> None:
    async def main() -> None:
        async with engine() as running:
            specs = sampled(1, temperature=0.7, top_p=0.8, repetition_penalty=1.3), sampled(2, temperature=1.5)
            outs = await asyncio.gather(*(running.generate(asking(prompt(n), *specs)) for n in (9, 40, 70)))
        for out in outs:
            for candidate in out.candidates:
                forced = forced_logprobs(oracle(folder()), out.request.prompt_ids, candidate.token_ids)
                assert candidate.logprobs == pytest.approx(forced, abs=1e-3)

    run(main)


@pytest.mark.parametrize("settings", [{"dtype": "bf16"}, {"quantisation": "nf4"}])
def test_shorter_numbers_give_about_the_same_logprobs(settings: dict[str, str]) -> None:
    if settings.get("quantisation") == "nf4":
        pytest.importorskip("bitsandbytes")
    path = folder(hidden_size=128, intermediate_size=256, head_dim=64)

    async def main() -> None:
        async with engine(path, **settings) as running:
            outs = await asyncio.gather(*(running.generate(asking(prompt(n), sampled(1))) for n in (9, 40)))
        for out in outs:
            for candidate in out.candidates:
                forced = forced_logprobs(oracle(path), out.request.prompt_ids, candidate.token_ids)
                assert candidate.logprobs == pytest.approx(forced, abs=0.1 if "dtype" in settings else 1.5)

    run(main)


def test_repetition_penalty_equals_generates() -> None:
    async def main() -> None:
        async with engine() as running:
            out = await running.generate(asking(prompt(20), greedy(repetition_penalty=1.4)))
        assert out.candidates[0].token_ids == generated(oracle(folder()), prompt(20), repetition_penalty=1.4)

    run(main)


def test_a_draw_depends_on_its_seed_and_not_on_its_neighbours() -> None:
    async def main() -> None:
        async with engine() as running:
            alone = await running.generate(asking(prompt(30), sampled(5)))
            again = await running.generate(asking(prompt(30), sampled(6), sampled(5), sampled(5)))
            crowd = await asyncio.gather(*(running.generate(asking(prompt(30 + n), sampled(5))) for n in range(5)))
        tokens = alone.candidates[0].token_ids
        assert [c.token_ids == tokens for c in again.candidates] == [False, True, True]
        assert crowd[0].candidates[0].token_ids == tokens

    run(main)


@pytest.mark.parametrize("forward", ["auto", "general"])
@pytest.mark.parametrize("chosen", [0, 1])
def test_a_next_turn_reuses_what_the_chat_saw(forward: str, chosen: int) -> None:
    async def main() -> None:
        async with engine(forward=forward) as running:
            first = prompt(50)
            offer = await running.generate(asking(first, sampled(1), sampled(2), chat="c"))
            second = (*first, *offer.candidates[chosen].token_ids, *prompt(15, seed=9))
            scheduler = running._worker.scheduler  # type: ignore[union-attr]
            seen = _prefilled(scheduler)
            out = await running.generate(asking(second, chat="c"))
            assert sum(seen) <= 17  # the reply's last token, and what is new
            third = (*first[:30], *prompt(12, seed=3))
            cut = await running.generate(asking(third, chat="c"))
            repeat = await running.generate(asking(third, chat="c"))
        assert out.candidates[0].token_ids == generated(oracle(folder()), second)
        expected = generated(oracle(folder()), third)
        assert cut.candidates[0].token_ids == repeat.candidates[0].token_ids == expected

    run(main)


def _prefilled(scheduler) -> list[int]:  # type: ignore[no-untyped-def]
    """Lengths of the forward passes over prompts from now on."""
    lengths: list[int] = []
    decoder = scheduler._model.decoder
    plain = type(decoder).forward

    def counting(ids, positions, block, mask):  # type: ignore[no-untyped-def]
        if ids.shape[1] > 1:
            lengths.append(ids.shape[1])
        return plain(decoder, ids, positions, block, mask)

    decoder.forward = counting
    return lengths


def test_kept_chats_stay_within_the_budget() -> None:
    async def main() -> None:
        async with engine(kv_cache_bytes=3_000_000) as running:
            scheduler = running._worker.scheduler  # type: ignore[union-attr]
            for chat in range(12):
                await running.generate(asking(prompt(60), chat=str(chat)))
                assert scheduler._kept.nbytes <= 3_000_000
            assert 0 < len(scheduler._kept) < 12
            assert ("11", "base") in scheduler._kept._chats

    run(main)
