"""What a training will take: a step is tried on the model's first layer and on its first two, and drawn out to all.

So memory and time are those of this device, this model and these settings. Knows nothing of runs.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from transformers import AutoConfig
from trl.trainer.utils import add_fused_lm_head

from learner.training import frozen_linear, model
from learner.training.corpus import Row
from learner.training.model import ModelSource
from learner.training.supervised import Collator, Plan, filled_share, optimiser, plan, whole_numbers
from learner.training.tuning import TuningSettings

TRIES = 3
HELD_OUT_COST = 0.35  # of a step: a look runs forward only
SPARE = 0.9  # of a device's memory: the rest goes to fragments and to the driver
ADAM_BYTES = {"adamw_torch": 8, "paged_adamw_8bit": 2}


@dataclass(frozen=True)
class Estimate:
    """What a training will take. `peak_bytes` is of the GPU's memory, or of the process's where there is none.

    `limit_bytes` is what there is; `tokens` are read in all epochs together.
    """

    steps: int
    tokens: int
    learned_tokens: int
    peak_bytes: int
    limit_bytes: int
    seconds: float

    @property
    def fits(self) -> bool:
        """Whether the memory suffices."""
        return self.peak_bytes <= self.limit_bytes * SPARE


@dataclass(frozen=True)
class Tried:
    """Bytes at the peak and seconds of one forward and backward pass, on the model's first layers."""

    peak: int
    seconds: float


def of(settings: TuningSettings, source: ModelSource, rows: Sequence[Row], planned: Plan, folder: Path) -> Estimate:
    """What training `rows` as planned takes on this device. Raises ModelUnusable."""
    layers = AutoConfig.from_pretrained(folder).get_text_config().num_hidden_layers
    before = _used(source)
    one = _tried(settings, source, rows, planned, 1)
    two = _tried(settings, source, rows, planned, min(2, layers))
    steps, share = planned.steps, filled_share(planned, rows, settings)
    passes = steps * planned.accumulation * share
    looks = steps / planned.every * settings.held_out / max(0.1, 1 - settings.held_out) * HELD_OUT_COST
    an_epoch = len(planned.bins) / settings.batch
    seconds = _drawn_out(one.seconds, two.seconds, layers) * (passes + looks * an_epoch * planned.accumulation)
    epochs = steps / max(1e-9, an_epoch)
    return Estimate(
        steps,
        round(sum(map(len, rows)) * epochs),
        round(sum(int(row.learned.sum()) for row in rows) * epochs),
        before + round(_drawn_out(one.peak, two.peak, layers)),
        limit(source, settings),
        seconds,
    )


def what_fits(
    settings: TuningSettings, source: ModelSource, rows: Sequence[Row], processes: int, folder: Path
) -> tuple[list[str], Estimate] | None:
    """The options that make a training fit, each added to those before; None where nothing does."""
    changed, said = settings, []
    for option, change in _savings(settings):
        changed = replace(changed, **change)
        said.append(option)
        short = [row for row in rows if len(row) <= changed.max_length] or list(rows[:1])
        short = [Row(row.tokens[: changed.max_length], row.learned[: changed.max_length]) for row in short]
        planned = plan(short, changed, changed.micro_batch or changed.batch, processes)
        smaller = replace(source, quantisation="nf4" if changed.method == "qlora" else source.quantisation)
        found = of(changed, smaller, short, planned, folder)
        if found.fits:
            return said, found
    return None


def _savings(settings: TuningSettings) -> Iterator[tuple[str, dict[str, Any]]]:
    """What saves memory, from what costs least."""
    if settings.micro_batch != 1:
        yield "--micro-batch 1", {"micro_batch": 1}
    if not settings.gradient_checkpointing:
        yield "--gradient-checkpointing", {"gradient_checkpointing": True}
    if settings.method == "full":
        yield "--method lora", {"method": "lora"}
    if settings.method != "qlora" and torch.cuda.is_available():
        yield "--method qlora", {"method": "qlora"}
    length = settings.max_length // 2
    while length >= 128:
        yield f"--max-length {length}", {"max_length": length}
        length //= 2


def limit(source: ModelSource, settings: TuningSettings) -> int:
    """Bytes that there are for a training: what the settings allow, of the GPU's memory or of what is free."""
    allowed = round(settings.memory_gb * 2**30) if settings.memory_gb else sys.maxsize
    if source.resolved_device().startswith("cuda"):
        return min(allowed, torch.cuda.get_device_properties(source.resolved_device()).total_memory)
    return min(allowed, _used(source) + _free())


def peak_bytes() -> int:
    """The most that this process has used so far: of the GPU's memory, or of the machine's where there is none."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _drawn_out(one: float, two: float, layers: int) -> float:
    return one + (layers - 1) * max(0.0, two - one)


def _tried(settings: TuningSettings, source: ModelSource, rows: Sequence[Row], planned: Plan, layers: int) -> Tried:
    """Train the first `layers` layers for some steps on the fullest bins."""
    _release()
    device = source.resolved_device()
    with _peak(device) as peak:
        network = model.load_base(source, layers)
        add_fused_lm_head(network)
        network.requires_grad_(settings.method == "full")
        if settings.method != "full":
            frozen_linear.install(network)
            network = get_peft_model(network, model.lora_config(network, settings.rank, settings.alpha))
        whole_numbers(network)
        if settings.gradient_checkpointing:
            network.gradient_checkpointing_enable()
            network.enable_input_require_grads()
        network.train()
        seconds = _steps(network, _fullest(rows, planned), settings, device)
    trained = sum(one.numel() for one in network.parameters() if one.requires_grad)
    del network
    _release()
    return Tried(peak[0] + trained * ADAM_BYTES[optimiser(device.partition(":")[0])], seconds)


def _steps(network: Any, batch: dict[str, torch.Tensor], settings: TuningSettings, device: str) -> float:
    """Seconds of the fastest of some passes; gradients stay, as they do between two steps."""
    moved = {name: tensor.to(device) for name, tensor in batch.items()}
    mixed = device.startswith("cuda") and settings.method == "full"
    took = []
    for _ in range(TRIES):
        began = time.perf_counter()
        with torch.autocast("cuda", torch.bfloat16) if mixed else contextlib.nullcontext():
            output = network(**moved, use_cache=False, fused_lm_head=True)
        (-output.log_probs.sum() / output.label_mask.sum().clamp(min=1)).backward()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        took.append(time.perf_counter() - began)
    return min(took)


def _fullest(rows: Sequence[Row], planned: Plan) -> dict[str, torch.Tensor]:
    """The bins with the most tokens, as one micro batch; always as many as a micro batch has."""
    by_size = sorted(planned.bins, key=lambda one: -sum(len(rows[row]) for row in one))
    chosen = (by_size * planned.micro_batch)[: planned.micro_batch] if len(by_size) < planned.micro_batch else by_size
    return Collator(rows, 0)([{"rows": one} for one in chosen[: planned.micro_batch]])


@contextlib.contextmanager
def _peak(device: str) -> Iterator[list[int]]:
    """The bytes that are used at most in the block, beyond those before it."""
    found = [0]
    if device.startswith("cuda"):
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield found
        found[0] = torch.cuda.max_memory_allocated(device) - before
        return
    before, ended = _resident(), threading.Event()

    def watch() -> None:
        while not ended.wait(0.005):
            found[0] = max(found[0], _resident() - before)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        ended.set()
        watcher.join()


def _used(source: ModelSource) -> int:
    device = source.resolved_device()
    return torch.cuda.memory_allocated(device) if device.startswith("cuda") else _resident()


def _resident() -> int:
    """Bytes of memory that this process has now."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * 4096
    except OSError:  # not Linux: the most that it ever had
        return peak_bytes()


def _free() -> int:
    """Bytes that the machine can still give."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])
    return sys.maxsize // 2


def _release() -> None:
    """Give back what is no longer used, so that the next try starts from the same ground."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
