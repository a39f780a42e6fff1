"""A 16-bit copy of a linear layer's weight, for decoding on CPU in fp32: half the memory to read per token.

Knows nothing of LoRAs or requests. Used only where it changes no result: published weights are 16-bit
numbers to begin with, and the products and sums stay in fp32.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

Apply = Callable[[Tensor], Tensor]

# A weight may be off by this much: below the rounding of a sum of a thousand products in fp32. What
# bf16 holds and fp16 does not are numbers nearer to zero than 2^-14, and those are off by less.
LARGEST_ERROR = 2.0**-25

# Rows at once of which the copy is faster than fp32 (one thread, AVX512, 3072x1024, ms: 1.0 against 1.2
# at 1 row, 1.3 against 2.4 at 8, 7.7 against 8.0 at 96, 31 against 26 at 384).
UP_TO = 96

# Smaller weights stay in the processor's cache, where the copy saves nothing.
WORTH_FROM = 2**20

# The copies may take so much of the memory that is free when the model is loaded.
SHARE_OF_FREE = 0.25


def copied(weight: Tensor, bias: Tensor | None) -> Apply | None:
    """A function that applies the layer from a 16-bit copy, or None where that would not be the same."""
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or weight.numel() < WORTH_FROM:
        return None
    if not _representable(weight):
        return None
    try:
        packed = torch.ops.quantized.linear_prepack_fp16(weight.detach().contiguous(), bias)
        probe = torch.linspace(-1, 1, 2 * weight.shape[1]).view(2, -1)
        apply = torch.ops.quantized.linear_dynamic_fp16
        same = torch.allclose(apply(probe, packed), torch.nn.functional.linear(probe, weight, bias), 1e-4, 1e-4)
    except (RuntimeError, AttributeError, NotImplementedError):  # not built for this processor
        return None
    return (lambda x: apply(x, packed)) if same else None


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
