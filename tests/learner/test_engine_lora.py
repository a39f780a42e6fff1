"""LoRAs: equal to PEFT's, swapped between two steps, refused when they do not fit."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from learner.engine.base import Candidate, LoraMismatch
from learner.engine.local import LocalEngine
from learner.engine.random_model import write_card
from tests.learner.engine_tiny import (
    asking,
    engine,
    folder,
    forced_logprobs,
    generated,
    greedy,
    is_greedy,
    lora,
    oracle,
    prompt,
    run,
)

# PEFT 0.21 asks transformers 5.23 for an attribute by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def peft_model(path: Path) -> PeftModel:
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder()), path).eval()


@pytest.mark.parametrize("forward", ["auto", "general"])
@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), ("q_proj", "k_proj", "o_proj", "gate_proj", "down_proj")])
def test_replies_equal_pefts(forward: str, targets: tuple[str, ...]) -> None:
    path = lora("0001", rank=4, targets=targets)

    async def main() -> None:
        async with engine(forward=forward) as running:
            assert await running.swap_lora(path) == "0001"
            outs = await asyncio.gather(*(running.generate(asking(prompt(n))) for n in (12, 45, 30)))
        for out in outs:
            ids, candidate = out.request.prompt_ids, out.candidates[0]
            assert candidate.lora == "0001"
            assert candidate.token_ids == generated(peft_model(path), ids)
            assert candidate.logprobs == pytest.approx(
                forced_logprobs(peft_model(path), ids, candidate.token_ids), abs=1e-3
            )

    run(main)


def test_one_request_holds_candidates_of_two_versions_and_the_base() -> None:
    one, two = lora("0001", 1), lora("0002", 2)

    async def main() -> None:
        async with engine() as running:
            await running.swap_lora(one)
            assert await running.hold_lora(two) == "0002"
            specs = [greedy(lora=name) for name in ("active", "0002", "base", "0001")]
            for turn in range(2):  # the second time from kept keys and values
                out = await running.generate(asking(prompt(25), *specs, chat="c"))
                tokens = [c.token_ids for c in out.candidates]
                assert [c.lora for c in out.candidates] == ["0001", "0002", None, "0001"], turn
                expected = [generated(m, prompt(25)) for m in (peft_model(one), peft_model(two), oracle(folder()))]
                assert tokens == [*expected, expected[0]]
            await running.release_lora("0002")
            with pytest.raises(LoraMismatch, match="0002 is not loaded; loaded are 0001"):
                await running.generate(asking(prompt(25), greedy(lora="0002")))

    run(main)


def test_a_swap_in_mid_reply_leaves_it_to_the_version_it_began_with() -> None:
    one, two = lora("0001", 1), lora("0002", 2)

    async def main() -> None:
        async with engine() as running:
            await running.swap_lora(one)
            begun = asyncio.Event()
            old = asyncio.create_task(running.generate(asking(prompt(20), greedy(300)), lambda *_: begun.set()))
            await begun.wait()
            await running.swap_lora(two)
            new = await running.generate(asking(prompt(20), greedy(12)))
            assert not old.done()
            await running.swap_lora(None)
            base = await running.generate(asking(prompt(20), greedy(12)))
            old_candidate = (await old).candidates[0]
        assert old_candidate.lora == "0001"
        assert is_greedy(peft_model(one), prompt(20), old_candidate.token_ids)
        assert (new.candidates[0].lora, base.candidates[0].lora) == ("0002", None)
        assert new.candidates[0].token_ids == generated(peft_model(two), prompt(20), 12)
        assert base.candidates[0].token_ids == generated(oracle(folder()), prompt(20), 12)

    run(main)


def test_fifty_swaps_while_chats_go_on() -> None:
    paths = [lora(f"{n:04d}", n) for n in (1, 2, 3)]
    seen: list[tuple[tuple[int, ...], Candidate]] = []

    async def main() -> None:
        async with engine() as running:
            await running.swap_lora(paths[0])
            stop = asyncio.Event()
            chats = [asyncio.create_task(_chat(running, str(n), seen, stop)) for n in range(4)]
            for swap in range(50):
                version = await running.swap_lora(paths[swap % 3])
                assert running.status().active_lora == version == f"{swap % 3 + 1:04d}"
                replies = len(seen)
                while len(seen) == replies:  # noqa: ASYNC110 - a swap may fall anywhere in a reply
                    await asyncio.sleep(0.001)
            stop.set()
            await asyncio.gather(*chats)
        models = {path.name: peft_model(path) for path in paths}
        assert {candidate.lora for _, candidate in seen} == set(models)
        for ids, candidate in seen[:: max(1, len(seen) // 24)]:
            for version, model in models.items():
                fits = forced_logprobs(model, ids, candidate.token_ids) == pytest.approx(candidate.logprobs, abs=1e-3)
                assert fits == (version == candidate.lora)

    run(main, limit=120)


async def _chat(running: LocalEngine, name: str, seen: list[Any], stop: asyncio.Event) -> None:
    """Turn after turn on kept keys and values, until `stop`."""
    ids = prompt(20, seed=int(name))
    while not stop.is_set():
        out = await running.generate(asking(ids, greedy(12), chat=name))
        seen.append((ids, out.candidates[0]))
        ids = (*ids, *out.candidates[0].token_ids, *prompt(5, seed=len(ids)))
        ids = ids if len(ids) < 300 else ids[:20]


def test_nothing_is_left_of_a_version_that_speaks_no_more() -> None:
    async def main() -> None:
        async with engine() as running:
            scheduler = running._worker.scheduler  # type: ignore[union-attr]
            for swap in range(4):
                await running.swap_lora(lora(f"000{swap}"))
                await running.generate(asking(prompt(30), chat="c"))
                assert len(scheduler._kept) == 1
            await running.swap_lora(None)
            assert len(scheduler._kept) == 0
            assert scheduler._model.speaking.groups == ()

    run(main)


def _truncate(path: Path) -> None:
    weights = path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def _edit(path: Path, name: str, **changes: object) -> None:
    content = json.loads((path / name).read_text())
    (path / name).write_text(json.dumps({**content, **changes}))


def _tensors(path: Path, change) -> None:  # type: ignore[no-untyped-def]
    tensors = load_file(path / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, path / "adapter_model.safetensors")


KEY = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"

BREAK = {
    "is half-written": _truncate,
    "adapter_model.safetensors is missing": lambda p: (p / "adapter_model.safetensors").unlink(),
    "nightschool.json is missing": lambda p: (p / "nightschool.json").unlink(),
    "adapter_config.json cannot be read": lambda p: (p / "adapter_config.json").write_text("{"),
    "there is no LoRA in": shutil.rmtree,
    "trained on the base 0123": lambda p: _edit(p, "nightschool.json", base="0123"),
    "says rank 8 where adapter_config.json says 4": lambda p: _edit(p, "adapter_config.json", r=4),
    r"shape \(8, 64\), expected \(4, 64\)": lambda p: (
        _edit(p, "adapter_config.json", r=4),
        _edit(p, "nightschool.json", rank=4),
    ),
    "use_dora = True": lambda p: _edit(p, "adapter_config.json", use_dora=True),
    r"q_proj.lora_A.weight has the shape \(8, 63\)": lambda p: _tensors(
        p, lambda t: t.update({KEY: t[KEY][:, 1:].clone()})
    ),
    "layers.1.self_attn.q_proj holds values that are not finite": lambda p: _tensors(
        p, lambda t: t[KEY].__setitem__((0, 0), float("nan"))
    ),
    "lacks base_model.model.model.layers.1.self_attn.q_proj.lora_A": lambda p: _tensors(p, lambda t: t.pop(KEY)),
    "no target of adapter_config.json": lambda p: _tensors(
        p, lambda t: t.update({KEY.replace("1", "9"): t[KEY].clone()})
    ),
    "none of its targets": lambda p: (
        _edit(p, "adapter_config.json", target_modules=["x_proj"]),
        _edit(p, "nightschool.json", target_modules=["x_proj"]),
    ),
    "different target_modules": lambda p: _edit(p, "nightschool.json", target_modules=["q_proj"]),
}


@pytest.mark.parametrize("message", BREAK)
def test_a_lora_that_does_not_fit_is_refused_and_the_old_one_stays(message: str) -> None:
    good, bad = lora("0001", 1), lora("0002", 2)
    BREAK[message](bad)

    async def main() -> None:
        async with engine() as running:
            await running.swap_lora(good)
            with pytest.raises(LoraMismatch, match=message):
                await running.swap_lora(bad)
            out = await running.generate(asking(prompt(9), greedy(3)))
            assert out.candidates[0].lora == running.status().active_lora == "0001"

    run(main)


def test_a_lora_for_another_base_is_refused() -> None:
    path = lora("0001")
    write_card(
        path, folder("qwen3", seed=7), 8, 16, json.loads((path / "nightschool.json").read_text())["target_modules"]
    )

    async def main() -> None:
        async with engine() as running:
            with pytest.raises(LoraMismatch, match="trained on the base"):
                await running.swap_lora(path)

    run(main)


def test_fifty_loads_leave_no_memory_behind() -> None:
    path = lora("0001")

    async def main() -> None:
        async with engine() as running:
            for _ in range(50):
                await running.swap_lora(path)
            scheduler = running._worker.scheduler  # type: ignore[union-attr]
            assert scheduler.loras.held == {}
        assert torch.is_tensor(scheduler.loras.active.pairs[0][0])

    run(main)
