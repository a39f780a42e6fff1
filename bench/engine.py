"""How fast is the local engine beside transformers' generate? One interleaved run, medians; fp32, greedy.

For each shape: an A/B pair against two generate calls, eight chats at once against one after another, the
first token of a second turn that shares 85 % of its prompt against a cold start, and the longest step while
LoRAs are swapped in. Greedy tokens must be the same. Neither side may end a reply early. The last line is JSON.

The weights of qwen3-0.6b are random bf16 numbers, run in fp32 by both sides, as published models' are;
those of qwen3-0.6b-unrounded fill fp32, and the engine decodes them without its 16-bit copies.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
import time
import warnings
from bisect import bisect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
warnings.filterwarnings("ignore", category=FutureWarning)

import torch  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402
from transformers.utils import logging as transformers_logging  # noqa: E402

from learner.engine.base import CandidateSpec, GenerateRequest, Sampling  # noqa: E402
from learner.engine.local import LocalEngine  # noqa: E402
from learner.engine.local_settings import LocalSettings  # noqa: E402
from learner.engine.random_model import QWEN3_06B, write_lora, write_model  # noqa: E402

STARTER = ROOT / "data" / "starter"
PAIR, CHATS, TURN, STALL = "pair_vs_two_generates", "eight_chats_vs_sequential", "turn2_vs_cold_first_token", "stall"

# The share of the second turn's prompt that the first turn has seen.
SHARED = 0.85

# The eight chats' prompts are this much longer and shorter than --prompt.
RAGGED = (-112, -80, -48, -16, 16, 48, 80, 112)

# The replies that swaps fall into are so many tokens long; beside a reply's beginning or end no stall is measured.
LONG_REPLY = 200
TURN_SECONDS = 0.005


@dataclass
class StepClock:
    """When each decoding step of an engine ended, and when each swap was asked for and took effect."""

    steps: list[float]
    swaps: list[tuple[float, float]]
    turns: list[float]  # when a reply began or ended

    @classmethod
    def of(cls, engine: LocalEngine) -> StepClock:
        """Watch an engine's steps and swaps from now on."""
        clock, batch = cls([], [], []), scheduler_of(engine)._batch
        step, swap = batch.step, engine.swap_lora

        def timed_step() -> Any:
            picked = step()
            clock.steps.append(time.perf_counter())
            return picked

        async def timed_swap(folder: Path | None) -> str | None:
            asked = time.perf_counter()
            version = await swap(folder)
            clock.swaps.append((asked, time.perf_counter()))
            return version

        batch.step, engine.swap_lora = timed_step, timed_swap  # type: ignore[method-assign]
        return clock

    async def after(self, steps: int) -> None:
        """Wait until so many more steps have ended."""
        until = len(self.steps) + steps
        while len(self.steps) < until:  # noqa: ASYNC110 - the steps are another thread's
            await asyncio.sleep(0.001)

    @property
    def step(self) -> float:
        """The median step in seconds, of those without a swap."""
        return statistics.median(b - a for a, b in itertools.pairwise(self.steps))

    def stalls(self) -> list[float]:
        """For each swap, how much longer than the median the longest step was from its asking to its effect.

        Not of swaps beside which a reply began or ended: such a step also runs a whole prompt, swap or not.
        """
        median, found = self.step, []
        for asked, done in self.swaps:
            first, last = bisect(self.steps, asked), bisect(self.steps, done)
            inside = first > 0 and last < len(self.steps)
            if inside and not self._turned(self.steps[first - 1], self.steps[last]):
                found.append(max(self.steps[at] - self.steps[at - 1] for at in range(first, last + 1)) - median)
        return [max(0.0, stall) for stall in found]

    def calm(self, steps: int) -> list[float]:
        """How much longer than the median each of the first steps was beside which no reply began or ended."""
        pairs = [(a, b) for a, b in itertools.pairwise(self.steps[:steps]) if not self._turned(a, b)]
        return [max(0.0, b - a - self.step) for a, b in pairs]

    def _turned(self, begin: float, end: float) -> bool:
        return any(begin - TURN_SECONDS < turn < end + TURN_SECONDS for turn in self.turns)


def scheduler_of(engine: LocalEngine) -> Any:
    """The engine's scheduler, which a bench may look into."""
    assert engine._worker is not None
    return engine._worker.scheduler


def never_ending(engine: LocalEngine) -> None:
    """Have replies go on until max_tokens, so that all runs do the same work."""
    scheduler = scheduler_of(engine)
    scheduler._model = dataclasses.replace(scheduler._model, end_ids=frozenset())


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(1000 * share * len(ordered)) // 1000) - 1))]


class Shape:
    """One model under test, in the engine and as transformers runs it."""

    def __init__(self, name: str, options: argparse.Namespace, scratch: Path) -> None:
        self.name, self._options, self._scratch = name, options, scratch
        self.folder = _folder(name, options, scratch)
        self.model = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()
        self.model.generation_config.eos_token_id = None
        self.engine = LocalEngine(
            LocalSettings(str(self.folder), device="cpu", threads=options.threads, kv_cache_bytes=2**32)
        )
        self._random = random.Random(options.seed)
        self._serial = itertools.count()
        self.equal = True

    def prompt(self, length: int) -> tuple[int, ...]:
        """Random tokens."""
        vocabulary = self.model.config.vocab_size
        return tuple(self._random.randrange(3, vocabulary) for _ in range(length))

    def generate(self, prompt: Sequence[int], tokens: int) -> tuple[tuple[int, ...], float]:
        """What transformers gives, and its seconds."""
        ids = torch.tensor([list(prompt)])
        start = time.perf_counter()
        with torch.inference_mode():
            out = self.model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False, pad_token_id=0
            )
        return tuple(out[0, len(prompt) :].tolist()), time.perf_counter() - start

    def request(self, prompt: Sequence[int], tokens: int, count: int = 1, chat: str | None = None) -> GenerateRequest:
        """Greedy candidates."""
        spec = CandidateSpec(Sampling(temperature=0.0, max_tokens=tokens), 0)
        return GenerateRequest(tuple(prompt), (spec,) * count, chat, timeout=3600.0)

    async def pair(self) -> dict[str, float]:
        """Seconds of an A/B pair, and of two generate calls."""
        options, prompt = self._options, self.prompt(self._options.prompt)
        twice = [self.generate(prompt, options.reply) for _ in range(2)]
        out, seconds = await _timed(self.engine.generate(self.request(prompt, options.reply, 2)))
        self._compare(twice[0][0], *(c.token_ids for c in out.candidates))
        return {"engine": seconds, "generate": twice[0][1] + twice[1][1]}

    async def chats(self) -> dict[str, float]:
        """Seconds of eight chats at once, and of generate one after another."""
        options = self._options
        prompts = [self.prompt(max(8, options.prompt + more)) for more in RAGGED]
        alone = [self.generate(prompt, options.reply) for prompt in prompts]
        together = asyncio.gather(*(self.engine.generate(self.request(p, options.reply)) for p in prompts))
        outs, seconds = await _timed(together)
        for (tokens, _), out in zip(alone, outs, strict=True):
            self._compare(tokens, out.candidates[0].token_ids)
        return {"engine": seconds, "generate": sum(s for _, s in alone)}

    async def turn(self) -> dict[str, float]:
        """Seconds to the first token of a second turn, and of a cold start in the engine and in generate."""
        chat, total = str(next(self._serial)), self._options.prompt
        shared, reply = int(SHARED * total), min(16, total // 8)
        first = self.prompt(shared - reply)
        out = await self.engine.generate(self.request(first, reply + 1, chat=chat))
        second = (*first, *out.candidates[0].token_ids[:reply], *self.prompt(total - shared))
        tokens, generate = self.generate(second, 1)
        _, cold = await _timed(self.engine.generate(self.request(second, 1)))
        out, warm = await _timed(self.engine.generate(self.request(second, 1, chat=chat)))
        longer = await self.engine.generate(self.request(second, self._options.reply, chat=chat))
        self._compare(tokens, out.candidates[0].token_ids)
        self._compare(self.generate(second, self._options.reply)[0], longer.candidates[0].token_ids)
        return {"engine": warm, "generate": generate, "engine cold": cold}

    async def stall(self, swaps: int) -> dict[str, float]:
        """The step that a swap fell into beyond a median step, in steps, at the 99th percentile."""
        folders = [self.lora(seed) for seed in (1, 2)]
        clock, chatting = StepClock.of(self.engine), asyncio.Event()
        chats = [asyncio.create_task(self._chat_until(chatting, clock.turns)) for _ in range(2)]
        calm = 2 * swaps
        await clock.after(calm)
        for swap in range(swaps):
            await self.engine.swap_lora(folders[swap % 2])
            await clock.after(2)
        chatting.set()
        await asyncio.gather(*chats)
        await self.engine.swap_lora(None)
        step, stalls, quiet = clock.step, clock.stalls(), clock.calm(calm)
        return {
            "steps p99": percentile(stalls, 0.99) / step,
            "steps p50": percentile(stalls, 0.5) / step,
            "steps p99 without swaps": percentile(quiet, 0.99) / step,
            "swaps judged": len(stalls),
            "step in seconds": step,
        }

    def lora(self, seed: int) -> Path:
        """A random LoRA on the attention's projections."""
        targets = ("q_proj", "k_proj", "v_proj", "o_proj")
        return write_lora(self._scratch / self.name / f"{seed:04d}", self.folder, self.model, seed, 16, targets)

    async def _chat_until(self, done: asyncio.Event, turns: list[float]) -> None:
        while not done.is_set():
            turns.append(time.perf_counter())
            await self.engine.generate(self.request(self.prompt(16), LONG_REPLY))
            turns.append(time.perf_counter())

    def _compare(self, expected: Sequence[int], *found: Sequence[int]) -> None:
        for tokens in found:
            if tuple(tokens) != tuple(expected):
                self.equal = False
                at = next(i for i, (a, b) in enumerate(itertools.zip_longest(tokens, expected)) if a != b)
                print(f"  {self.name}: token {at} differs from generate's", flush=True)


async def _timed(work: Awaitable[Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    return await work, time.perf_counter() - start


def _folder(name: str, options: argparse.Namespace, scratch: Path) -> Path:
    if name == "starter":
        return Path(options.starter)
    if name in ("qwen3-0.6b", "qwen3-0.6b-unrounded"):
        print("writing random weights in the Qwen3-0.6B shape (2.4 GB) ...", flush=True)
        return write_model(scratch / name / "model", spread=0.04, rounded=name == "qwen3-0.6b", **QWEN3_06B)
    raise SystemExit(f"--shapes: {name} is unknown; known are starter, qwen3-0.6b, qwen3-0.6b-unrounded")


async def measure(shape: Shape, options: argparse.Namespace) -> dict[str, Any]:
    """All of one shape's measures: the repeats interleaved, then the swaps."""
    await shape.engine.start()
    never_ending(shape.engine)
    torch.set_num_threads(scheduler_of(shape.engine)._model.threads)
    works: dict[str, Callable[[], Awaitable[dict[str, float]]]] = {
        PAIR: shape.pair, CHATS: shape.chats, TURN: shape.turn,
    }  # fmt: skip
    found: dict[str, list[dict[str, float]]] = {name: [] for name in works}
    for repeat in range(-1, options.repeats):  # the first warms up
        for name, work in works.items():
            seconds = await work()
            if repeat >= 0:
                found[name].append(seconds)
            figures = ", ".join(f"{key} {value:.4f} s" for key, value in seconds.items())
            print(f"  {shape.name} {repeat} {name}: {figures}", flush=True)
    stall = await shape.stall(options.swaps if shape.name == "starter" else max(20, options.swaps // 10))
    print(f"  {shape.name} swaps: " + ", ".join(f"{key} {value:.4f}" for key, value in stall.items()), flush=True)
    await shape.engine.close()
    ratios = {name: _ratio(runs) for name, runs in found.items()}
    return {**ratios, "swap_stall_steps_p99": round(stall["steps p99"], 3), "greedy_equal": shape.equal}


def _ratio(runs: list[dict[str, float]]) -> float:
    """The engine's median over that of the fastest it is compared with."""
    medians = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    own = medians.pop("engine")
    return round(own / min(medians.values()), 3)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", default="starter,qwen3-0.6b")
    parser.add_argument("--starter", default=str(STARTER), help="the starter model's folder")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=384, help="tokens of a prompt")
    parser.add_argument("--reply", type=int, default=48, help="tokens of a reply")
    parser.add_argument("--swaps", type=int, default=1000, help="swaps of the starter; a tenth for larger shapes")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    transformers_logging.disable_progress_bar()
    found: dict[str, Any] = {}
    for name in options.shapes.split(","):
        with tempfile.TemporaryDirectory(prefix="bench-engine-") as scratch:
            found[name] = asyncio.run(measure(Shape(name, options, Path(scratch)), options))
        print(f"{name}: {json.dumps(found[name])}", flush=True)
    print(json.dumps({"shapes": found}))


if __name__ == "__main__":
    main()
