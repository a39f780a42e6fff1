"""Frozen linear layers computed from 16-bit copies where that is faster, forward and backward: on AMD's processors.

The copies' products and sums stay in fp32 (see `learner.engine.half`); gradients pass through to what is trained
before or beside the layer, and none reach the layer's own weight. Knows nothing of LoRAs or losses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from learner.engine.half import Copy, copied, faster_with, room_for

USUAL_ROWS = 384  # at once in a training step: layers whose copy is slower then keep to their weight
BYTES_OF_COPIES = 4  # of a number: in the weight's copy and in that of its transpose


class FrozenLinear(nn.Linear):
    """Stands in for a linear layer whose weight is not trained, and shares it."""

    def __init__(self, base: nn.Linear, forth: Copy, back: Copy) -> None:
        super().__init__(base.in_features, base.out_features, base.bias is not None, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self._forth, self._back = forth, back

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output for x [..., in]."""
        if x.numel() // self.in_features not in self._forth.rows:
            return super().forward(x)
        return cast(Tensor, _Product.apply(x, self._forth.apply, self._back.apply))


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, forth: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.back = back
        return forth(x.contiguous())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.back(gradients[0].contiguous()), None, None


def install(model: nn.Module) -> int:
    """Put a FrozenLinear in the place of each linear layer of `model` that gains by it; returns how many did.

    For a model none of whose weights is trained or changed from here on. None where the copies would take more than
    a part of the free memory.
    """
    found = [(name, layer) for name, layer in model.named_modules() if type(layer) is nn.Linear and _gains(layer)]
    if not room_for(sum(BYTES_OF_COPIES * layer.weight.numel() for _, layer in found)):
        return 0
    placed = 0
    for name, layer in found:
        forth = copied(layer.weight, layer.bias)
        back = forth and copied(layer.weight.t(), None)
        if forth and back:
            model.set_submodule(name, FrozenLinear(layer, forth, back))
            placed += 1
    return placed


def _gains(layer: nn.Linear) -> bool:
    return not layer.weight.requires_grad and USUAL_ROWS in faster_with(layer.weight.numel())
