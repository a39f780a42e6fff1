"""A linear layer that adds the LoRA of whoever is speaking, row by row.

Knows nothing of files or requests. A swap changes what `Speaking` points to, never a weight in place,
so that no reply is made by two versions, and requests of several versions share one forward pass.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from learner.engine.half import copied, room_for
from learner.engine.lora_slots import Speaking

# With so many rows, W @ x^T is faster than x @ W^T in fp32 on CPU: MKL then reads the weight
# once instead of repacking it (3072x1024, one thread: 2.6 ms against 4.4 ms at 8 rows). With more
# rows they are equal, and turning the outcome round costs more.
TRANSPOSE = range(4, 97)


class EngineLinear(nn.Module):
    """Stands in for a linear layer of the model: its output, plus that of the LoRAs that speak."""

    def __init__(self, base: nn.Module, index: int, speaking: Speaking, copy: bool = False) -> None:
        super().__init__()
        self.base = base
        self._index, self._speaking = index, speaking
        self._apply_base = _fastest(base, copy)

    @property
    def weight(self) -> Tensor:
        """The base's weight, for models that look at its type."""
        return self.base.weight  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output for x [..., in]."""
        out = self._apply_base(x)
        for group in self._speaking.groups:
            pair = group.slot.pairs[self._index]
            if pair is not None:
                out = _add(out, x, pair, group.rows)
        return out


def _add(out: Tensor, x: Tensor, pair: tuple[Tensor, Tensor], rows: Tensor | None) -> Tensor:
    """out + B A x, for the given rows only (of the flattened batch)."""
    a, b = pair
    flat = x.reshape(-1, x.shape[-1]).to(a.dtype)
    if rows is None:
        delta = functional.linear(functional.linear(flat, a), b)
        return out + delta.view(out.shape).to(out.dtype)
    delta = functional.linear(functional.linear(flat[rows], a), b)
    flat_out = out.reshape(-1, out.shape[-1])
    return flat_out.index_add(0, rows, delta.to(out.dtype)).view(out.shape)


def _fastest(base: nn.Module, copy: bool) -> Callable[[Tensor], Tensor]:
    """The fastest way to apply `base` that gives the same numbers up to rounding."""
    if type(base) is not nn.Linear:
        return base
    weight, bias = base.weight, base.bias
    half = copied(weight, bias) if copy else None
    transposed = bias is None and weight.device.type == "cpu" and weight.dtype == torch.float32
    if half is None and not transposed:
        return lambda x: functional.linear(x, weight, bias)

    def apply(x: Tensor) -> Tensor:
        flat = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
        rows = flat.shape[0]
        if half is not None and rows in half.rows:
            out = half.apply(flat)
        elif transposed and rows in TRANSPOSE:
            out = torch.mm(weight, flat.t()).t()
        else:
            out = functional.linear(flat, weight, bias)
        return out if x.dim() == 2 else out.reshape(*x.shape[:-1], weight.shape[0])

    return apply


def install(model: nn.Module, speaking: Speaking, copy: bool) -> dict[str, EngineLinear]:
    """Put an EngineLinear in the place of every linear layer of `model`; returns them by name, in order.

    `copy` allows 16-bit copies of the weights beside them, as far as memory is free.
    """
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    copy = copy and room_for(sum(2 * module.weight.numel() for _, module in found))
    installed: dict[str, EngineLinear] = {}
    for index, (name, module) in enumerate(found):
        parent, _, child = name.rpartition(".")
        installed[name] = EngineLinear(module, index, speaking, copy)
        setattr(model.get_submodule(parent), child, installed[name])
    return installed
