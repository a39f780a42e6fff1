"""What the engine's tests share: a tiny random model, LoRAs for it, an engine on it, and the oracle."""

from __future__ import annotations

import asyncio
import atexit
import functools
import random
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from learner.engine.base import CandidateSpec, GenerateRequest, Sampling
from learner.engine.local import LocalEngine
from learner.engine.local_settings import LocalSettings
from learner.engine.random_model import TINY, write_lora, write_model

T = TypeVar("T")

# On a busy machine a second thread makes each of a tiny model's operations wait for the other core.
torch.set_num_threads(1)

_root = tempfile.TemporaryDirectory(prefix="engine-tests-")
atexit.register(_root.cleanup)

# As many tokens as the byte tokenizer has, so that everything generated is text.
SHAPE = {**TINY, "vocab_size": 259}


@functools.cache
def folder(kind: str = "qwen3", **changes: Any) -> Path:
    """A tiny random model of a kind, written once."""
    name = "-".join([kind, *(f"{key}{value}" for key, value in sorted(changes.items()))])
    return write_model(Path(_root.name) / name, kind, **{**SHAPE, **changes})


@functools.cache
def oracle(path: Path) -> PreTrainedModel:
    """The same model as transformers runs it."""
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


def lora(name: str, seed: int = 1, **options: Any) -> Path:
    """A random LoRA for the tiny Qwen3 model, written anew."""
    parent = Path(tempfile.mkdtemp(dir=_root.name))
    return write_lora(parent / name, folder(), AutoModelForCausalLM.from_pretrained(folder()), seed, **options)


@asynccontextmanager
async def engine(path: Path | None = None, **settings: Any) -> AsyncIterator[LocalEngine]:
    """A started engine, closed at the end."""
    running = LocalEngine(LocalSettings(str(path or folder()), device="cpu", **settings))
    await running.start()
    try:
        yield running
    finally:
        await running.close()


def run(main: Callable[[], Coroutine[Any, Any, T]], limit: float = 60) -> T:
    """Run a test's coroutine function in a loop of its own."""
    return asyncio.run(asyncio.wait_for(main(), limit))


def prompt(length: int, seed: int = 0) -> tuple[int, ...]:
    """Random tokens that are no special ones."""
    source = random.Random(f"{length}|{seed}")
    return tuple(source.randrange(3, 259) for _ in range(length))


def greedy(tokens: int = 24, lora: str = "active", **sampling: Any) -> CandidateSpec:
    """The likeliest tokens."""
    return CandidateSpec(Sampling(temperature=0.0, max_tokens=tokens, **sampling), 0, lora)


def sampled(seed: int, tokens: int = 24, **sampling: Any) -> CandidateSpec:
    """Tokens by chance."""
    return CandidateSpec(Sampling(max_tokens=tokens, **sampling), seed)


def asking(ids: Sequence[int], *specs: CandidateSpec, **options: Any) -> GenerateRequest:
    """A request for these candidates, one greedy one by default."""
    return GenerateRequest(tuple(ids), specs or (greedy(),), **options)


@torch.inference_mode()
def generated(model: Any, ids: Sequence[int], tokens: int = 24, **options: Any) -> tuple[int, ...]:
    """What transformers' generate gives, greedily."""
    inputs = torch.tensor([list(ids)])
    mask = torch.ones_like(inputs)
    out = model.generate(inputs, attention_mask=mask, max_new_tokens=tokens, do_sample=False, pad_token_id=0, **options)
    return tuple(out[0, len(ids) :].tolist())


@torch.inference_mode()
def forced_logprobs(model: Any, ids: Sequence[int], completion: Sequence[int]) -> list[float]:
    """The completion's log-probabilities, all at once and without a cache."""
    logits = model(torch.tensor([[*ids, *completion]])).logits[0, len(ids) - 1 : -1]
    return logits.log_softmax(-1)[torch.arange(len(completion)), torch.tensor(list(completion))].tolist()


@torch.inference_mode()
def is_greedy(model: Any, ids: Sequence[int], completion: Sequence[int]) -> bool:
    """Whether each token of the completion is the likeliest after those before it."""
    logits = model(torch.tensor([[*ids, *completion]])).logits[0, len(ids) - 1 : -1]
    return logits.argmax(-1).tolist() == list(completion)
