"""What does a decoding step cost when each chat has a LoRA of its own? CPU seconds of the engine's thread, medians.

Eight chats decode together: under one LoRA, one of them under a LoRA and the others under none, under two LoRAs, and
under eight; random weights in SmolLM2-135M's shape, rank 16 on every linear layer, fp32, one thread. The arms are
interleaved. Seconds of the thread's own CPU time tell the same on a busy machine. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.filterwarnings("ignore", category=FutureWarning)

from transformers import AutoModelForCausalLM  # noqa: E402

from learner.engine.base import CandidateSpec, GenerateRequest, Sampling  # noqa: E402
from learner.engine.local import LocalEngine  # noqa: E402
from learner.engine.local_settings import LocalSettings  # noqa: E402
from learner.engine.random_model import write_lora, write_model  # noqa: E402

CHATS = 8
SMOLLM_135M: dict[str, Any] = {
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "head_dim": 64, "vocab_size": 49152, "tie_word_embeddings": True,
}  # fmt: skip
# PEFT with adapter_names, eight rows, one thread of another machine: ms a step as measured for ../design/ENGINE.md.
PEFT = {"one": 213.0, "one named": 266.0, "two": 298.0, "eight": 461.0}


def arms(versions: list[str]) -> dict[str, list[str]]:
    """Who speaks in each of the eight chats."""
    return {
        "none": ["base"] * CHATS,
        "one": versions[:1] * CHATS,
        "one named": [versions[0], *["base"] * (CHATS - 1)],
        "two": versions[:2] * (CHATS // 2),
        "eight": versions,
    }


def timed(engine: LocalEngine) -> list[float]:
    """The CPU seconds of each full step of the engine from now on (filled in as it goes)."""
    assert engine._worker is not None
    batch = engine._worker.scheduler._batch  # type: ignore[union-attr]
    step, seconds = batch.step, list[float]()

    def measured() -> Any:
        rows, begun = len(batch.branches), time.thread_time()
        picked = step()
        if rows == CHATS:
            seconds.append(time.thread_time() - begun)
        return picked

    batch.step = measured  # type: ignore[method-assign]
    return seconds


async def measure(options: argparse.Namespace, scratch: Path) -> dict[str, list[float]]:
    """The CPU seconds of a step, by arm: one median a repeat."""
    folder = write_model(scratch / "model", spread=0.04, **SMOLLM_135M)
    model = AutoModelForCausalLM.from_pretrained(folder)
    loras = [write_lora(scratch / f"{n:04d}", folder, model, n, rank=16) for n in range(1, CHATS + 1)]
    del model
    engine = LocalEngine(LocalSettings(str(folder), device="cpu", threads=1, max_batch=CHATS))
    await engine.start()
    source, found = random.Random(0), defaultdict[str, list[float]](list)
    try:
        for path in loras:
            await engine.hold_lora(path)
        seconds = timed(engine)
        for repeat in range(-1, options.repeats):  # the first warms up
            for name, speakers in arms([path.name for path in loras]).items():
                seconds.clear()
                await asyncio.gather(*(reply(engine, speaker, source, options) for speaker in speakers))
                if repeat >= 0:
                    found[name].append(statistics.median(seconds))
    finally:
        await engine.close()
    return found


async def reply(engine: LocalEngine, speaker: str, source: random.Random, options: argparse.Namespace) -> None:
    """One chat's reply."""
    prompt = tuple(source.randrange(300, 40_000) for _ in range(options.prompt))
    spec = CandidateSpec(Sampling(temperature=0.0, max_tokens=options.tokens), 0, speaker)
    made = await engine.generate(GenerateRequest(prompt, (spec,), timeout=3600))
    assert made.candidates[0].lora == (None if speaker == "base" else speaker)


def main() -> None:
    """Measure, print a line for each arm, and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mixed-loras-") as scratch:
        found = asyncio.run(measure(options, Path(scratch)))
    step = {name: statistics.median(seconds) for name, seconds in found.items()}
    ratio = {name: step[name] / step["one"] for name in step}
    for name, seconds in step.items():
        peft = f", PEFT {PEFT[name] / PEFT['one']:.2f}" if name in PEFT else ""
        print(f"{name}: {1000 * seconds:.0f} ms a step, {ratio[name]:.2f} of one LoRA for all{peft}")
    print(json.dumps({"ms": {name: 1000 * one for name, one in step.items()}, "ratio": ratio}))


if __name__ == "__main__":
    main()
