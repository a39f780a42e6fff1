"""A 16-bit copy of a linear layer's weight, for CPU in fp32: half the memory to read per token, and code for AVX512.

Knows nothing of LoRAs or requests. Used only where it changes no result: published weights are 16-bit
numbers to begin with, and the products and sums stay in fp32.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

Apply = Callable[[Tensor], Tensor]

# A weight may be off by this much: below the rounding of a sum of a thousand products in fp32. What
# bf16 holds and fp16 does not are numbers nearer to zero than 2^-14, and those are off by less.
LARGEST_ERROR = 2.0**-25

# Smaller weights stay in the processor's cache, where the copy saves no reading.
LARGE_FROM = 2**20

# Rows at once at which the copy is faster than fp32. Intel's with AVX512 (one thread, 3072x1024, ms): 1.0 against
# 1.2 at 1 row, 1.3 against 2.4 at 8, 7.7 against 8.0 at 96, 31 against 26 at 384. AMD's with AVX512, for which MKL
# has but AVX2 (two threads, the same): 0.06 against 0.17, 0.11 against 0.55, 1.2 against 3.1, 5.1 against 11.9; and
# 768x192: 0.012 against 0.009 at 1 row, 0.016 against 0.031 at 8, 0.24 against 0.55 at 384.
LARGE, SMALL = range(1, 97), range(0)
LARGE_ON_AMD, SMALL_ON_AMD = range(1, sys.maxsize), range(8, sys.maxsize)

# The copies may take so much of the memory that is free when the model is loaded.
SHARE_OF_FREE = 0.25


@dataclass(frozen=True)
class Copy:
    """A layer applied from its 16-bit copy, and with how many rows at once that is faster."""

    apply: Apply
    rows: range


def copied(weight: Tensor, bias: Tensor | None) -> Copy | None:
    """The layer from a 16-bit copy, or None where that would not be the same or never faster."""
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return None
    rows = faster_with(weight.numel())
    if not rows or not _representable(weight):
        return None
    try:
        packed = torch.ops.quantized.linear_prepack_fp16(weight.detach().contiguous(), bias)
        probe = torch.linspace(-1, 1, 2 * weight.shape[1]).view(2, -1)
        apply = torch.ops.quantized.linear_dynamic_fp16
        same = torch.allclose(apply(probe, packed), torch.nn.functional.linear(probe, weight, bias), 1e-4, 1e-4)
    except (RuntimeError, AttributeError, NotImplementedError):  # not built for this processor
        return None
    return Copy(lambda x: apply(x, packed), rows) if same else None


def faster_with(numbers: int) -> range:
    """How many rows at once a copy of a weight of so many numbers is faster with, on this processor.

    Known by the processor's maker and not by timing, so that it is the same at every start.
    """
    if torch.backends.cpu.get_cpu_capability() == "AVX512" and _maker() == "AuthenticAMD":
        return LARGE_ON_AMD if numbers >= LARGE_FROM else SMALL_ON_AMD
    return LARGE if numbers >= LARGE_FROM else SMALL


@cache
def _maker() -> str:
    """The processor's maker as Linux tells it; empty where that is not known."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")


def room_for(nbytes: int) -> bool:
    """Whether `nbytes` of copies are a small part of the free memory; no where that is not known."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return nbytes < 2**28
    return nbytes <= SHARE_OF_FREE * free


def _representable(weight: Tensor) -> bool:
    rows = max(1, 2**22 // weight.shape[1])
    return all(float((part - part.half().float()).abs().max()) <= LARGEST_ERROR for part in weight.split(rows))
