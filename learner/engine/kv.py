"""Keys and values of sequences that are decoded together, and of one that is kept for later.

Knows nothing of requests, chats or models; sequences are right-aligned, so that all end at one column.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Spare columns of a new block, so that it is not copied for every few tokens more.
SPARE = 64


@dataclass(frozen=True)
class LayerShape:
    """What one attention layer keeps per token."""

    heads: int
    key_size: int
    value_size: int


@dataclass(frozen=True)
class KVLayout:
    """What a model keeps per token, layer by layer; None for a layer that keeps nothing."""

    layers: tuple[LayerShape | None, ...]
    dtype: torch.dtype
    device: torch.device

    @property
    def bytes_per_token(self) -> int:
        """Bytes that one token of one sequence takes."""
        sizes = (s.heads * (s.key_size + s.value_size) for s in self.layers if s is not None)
        return sum(sizes) * torch.empty((), dtype=self.dtype).element_size()


class KVBlock:
    """Keys and values of `rows` sequences in columns `start` to `end`, in buffers that may be larger.

    Column `end` is where every sequence's next token goes. A sequence shorter than the longest has
    zeros on its left, which the caller masks (garbage there could hold NaN, and 0 x NaN is NaN).
    """

    def __init__(self, layout: KVLayout, rows: int, columns: int) -> None:
        self.layout = layout
        self.row_capacity, self.column_capacity = rows, columns
        self.rows = self.start = self.end = 0
        self.keys = [None if s is None else self._buffer(s.heads, s.key_size) for s in layout.layers]
        self.values = [None if s is None else self._buffer(s.heads, s.value_size) for s in layout.layers]

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers, whether filled or not."""
        return self.row_capacity * self.column_capacity * self.layout.bytes_per_token

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write a layer's new keys and values ([rows, heads, n, size]) at `end`; return all of them.

        `end` itself moves by `advance`, once every layer has written.
        """
        end = self.end + keys.shape[2]
        all_keys, all_values = self.keys[layer], self.values[layer]
        assert all_keys is not None
        assert all_values is not None
        all_keys[: self.rows, :, self.end : end] = keys
        all_values[: self.rows, :, self.end : end] = values
        return all_keys[: self.rows, :, self.start : end], all_values[: self.rows, :, self.start : end]

    def advance(self, tokens: int) -> None:
        """Count `tokens` more columns as written."""
        self.end += tokens

    def crop(self, length: int) -> None:
        """Forget all but the first `length` tokens of a block of one row."""
        assert (self.rows, self.start) == (1, 0)
        assert length <= self.end
        self.end = length

    def copy_row(self, row: int, column: int, source: KVBlock, source_row: int, start: int, length: int) -> None:
        """Copy `length` columns of a row of `source` into `row` at `column`."""
        for mine, theirs in zip(self._buffers(), source._buffers(), strict=True):
            mine[row, :, column : column + length] = theirs[source_row, :, start : start + length]

    def clear(self, rows: slice, columns: slice) -> None:
        """Zero a region, so that masked columns hold numbers."""
        for buffer in self._buffers():
            buffer[rows, :, columns] = 0

    def resized(self, rows: int, columns: int, end: int) -> KVBlock:
        """A copy with other capacities, whose sequences end at column `end`."""
        block = KVBlock(self.layout, rows, columns)
        block.rows, block.start, block.end = self.rows, end - (self.end - self.start), end
        for mine, theirs in zip(self._buffers(), block._buffers(), strict=True):
            theirs[: self.rows, :, block.start : end] = mine[: self.rows, :, self.start : self.end]
        return block

    def _buffer(self, heads: int, size: int) -> Tensor:
        dims = (self.row_capacity, heads, self.column_capacity, size)
        return torch.empty(dims, dtype=self.layout.dtype, device=self.layout.device)

    def _buffers(self) -> list[Tensor]:
        return [buffer for buffer in (*self.keys, *self.values) if buffer is not None]


def single(layout: KVLayout, columns: int) -> KVBlock:
    """An empty block for one sequence of up to `columns` tokens."""
    block = KVBlock(layout, 1, columns)
    block.rows = 1
    return block
