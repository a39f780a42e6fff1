"""Is a reply ever lost, mixed or mislabelled while LoRAs are swapped in under it?

Replies stream in eight chats, on kept keys and values, while random LoRAs are made active one after another.
Each reply is then scored by PEFT under every version: its recorded log-probabilities must be those of the
version on its label, within 1e-3. "mislabelled" fit another version, "mixed" fit none. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from bench.engine import STARTER, StepClock, percentile
from learner.engine.base import Candidate, CandidateSpec, ChatMessage, EngineError, GenerateRequest, Sampling
from learner.engine.local import LocalEngine
from learner.engine.local_settings import LocalSettings
from learner.engine.random_model import write_lora

CHATS = 8
TOLERANCE = 1e-3
WORDS = ("你好", "今天", "天气", "怎么样", "谢谢", "吗", "hello", "there", "how are you", "what", "do you like", "more")


@dataclass
class Traffic:
    """Chats that go on, turn after turn, until enough replies were asked for."""

    engine: LocalEngine
    wanted: int
    tokens: int
    seed: int
    replies: list[tuple[tuple[int, ...], Candidate]] = field(default_factory=list)
    lost: int = 0
    asked: Any = field(default_factory=itertools.count)

    async def chat(self, name: str) -> None:
        """One chat's turns."""
        source = random.Random(f"{self.seed} {name}")
        history: list[ChatMessage] = []
        while (serial := next(self.asked)) < self.wanted:
            history = [*history[-4:], ChatMessage("user", " ".join(source.choices(WORDS, k=6)))]
            prompt = self.engine.render(history)
            spec = CandidateSpec(Sampling(temperature=1.0, max_tokens=self.tokens), serial)
            try:
                out = await self.engine.generate(GenerateRequest(prompt, (spec,), name, timeout=600), _ignore)
            except EngineError as exc:
                print(f"  reply {serial} was lost: {exc}")
                self.lost += 1
                continue
            self.replies.append((prompt, out.candidates[0]))
            history.append(ChatMessage("assistant", out.candidates[0].text))

    async def until(self, replies: int) -> None:
        """Wait until so many replies were made or lost."""
        while len(self.replies) + self.lost < replies:  # noqa: ASYNC110 - a swap may fall anywhere in a reply
            await asyncio.sleep(0.0005)


def _ignore(index: int, text: str) -> None:
    """Streaming is on, and nobody looks."""


async def serve(model: Path, loras: Sequence[Path], options: argparse.Namespace) -> tuple[Traffic, StepClock]:
    """Replies and swaps, all at once."""
    engine = LocalEngine(LocalSettings(str(model), device=options.device, threads=options.threads))
    await engine.start()
    clock = StepClock.of(engine)
    traffic = Traffic(engine, options.replies, options.tokens, options.seed)
    chats = [asyncio.create_task(traffic.chat(str(chat))) for chat in range(CHATS)]
    for number, lora in enumerate(loras):
        await traffic.until(number * options.replies // (len(loras) + 1))
        await engine.swap_lora(lora)
    await asyncio.gather(*chats)
    await engine.close()
    return traffic, clock


class Judge:
    """Scores replies under each version, as PEFT computes it."""

    def __init__(self, model: Path, loras: Sequence[Path]) -> None:
        base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        self._model = PeftModel.from_pretrained(base, loras[0], adapter_name=_name(loras[0]))
        for lora in loras[1:]:
            self._model.load_adapter(lora, adapter_name=_name(lora))
        self._versions = [None, *(lora.name for lora in loras)]
        self._model.eval()

    def fitting(self, replies: Sequence[tuple[tuple[int, ...], Candidate]]) -> list[set[str | None]]:
        """For each reply, the versions whose log-probabilities are the recorded ones throughout."""
        fits: list[set[str | None]] = [set() for _ in replies]
        for version in self._versions:
            if version is not None:
                self._model.set_adapter(f"v{version}")
            with self._model.disable_adapter() if version is None else torch.inference_mode():
                for at, (prompt, candidate) in enumerate(replies):
                    if self._off(prompt, candidate) <= TOLERANCE:
                        fits[at].add(version)
        return fits

    @torch.inference_mode()
    def _off(self, prompt: Sequence[int], candidate: Candidate) -> float:
        """The largest difference between recorded and computed log-probabilities."""
        completion = torch.tensor(candidate.token_ids)
        logits = self._model(torch.tensor([[*prompt, *candidate.token_ids]])).logits[0, len(prompt) - 1 : -1]
        computed = logits.float().log_softmax(-1)[torch.arange(len(completion)), completion]
        return float((computed - torch.tensor(candidate.logprobs)).abs().max())


def _name(lora: Path) -> str:
    """PEFT's name for a version: none is part of another, or of what PEFT calls its own weights."""
    return f"v{lora.name}"


def main() -> None:
    """Serve, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=str(STARTER))
    parser.add_argument("--replies", type=int, default=200)
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(options.threads or 1)
    model = Path(options.model)
    with tempfile.TemporaryDirectory(prefix="bench-swap-") as scratch:
        base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        loras = [write_lora(Path(scratch) / f"{n:04d}", model, base, n) for n in range(1, options.swaps + 1)]
        traffic, clock = asyncio.run(serve(model, loras, options))
        fits = Judge(model, loras).fitting(traffic.replies)
    spoke = [candidate.lora for _, candidate in traffic.replies]
    alone = sum(len(fit) == 1 for fit in fits)
    print(f"  versions that spoke: {len(set(spoke))}; replies that fit one version only: {alone}")
    result = {
        "replies": len(traffic.replies),
        "swaps": len(clock.swaps),
        "lost": options.replies - len(traffic.replies),
        "mixed": sum(not fit for fit in fits),
        "mislabelled": sum(bool(fit) and label not in fit for fit, label in zip(fits, spoke, strict=True)),
        "stall_ms_p99": round(1000 * percentile(clock.stalls(), 0.99), 3),
        "step_ms_median": round(1000 * statistics.median(b - a for a, b in itertools.pairwise(clock.steps)), 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
