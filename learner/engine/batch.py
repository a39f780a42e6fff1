"""The candidates that are decoded together: they join and leave between steps, each at its own length.

Knows nothing of requests, chats or text.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from learner.engine.jobs import Branch
from learner.engine.kept import Tail, tail_of
from learner.engine.kv import SPARE, KVBlock, KVLayout
from learner.engine.loading import Decoder
from learner.engine.lora_slots import Group, Speaking, group_rows
from learner.engine.sampling import Plan

# Buffers up to this size are kept when the last candidate leaves; larger ones are given back.
KEEP_EMPTY = 64 * 2**20


class DecodeBatch:
    """Rows of a KVBlock with a branch each; `step` gives every branch its next token."""

    def __init__(self, decoder: Decoder, layout: KVLayout, speaking: Speaking) -> None:
        self.branches: list[Branch] = []
        self._decoder, self._layout, self._speaking = decoder, layout, speaking
        self._block = KVBlock(layout, 1, SPARE)
        self._stale = True
        self._tokens = self._positions = torch.empty(0)
        self._mask: Tensor | None = None
        self._plan: Plan | None = None
        self._groups: tuple[Group, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of its buffers."""
        return self._block.nbytes

    def nbytes_with(self, count: int, length: int, room: int) -> int:
        """About how many bytes it would take with `count` more rows of `length` and `room` to grow."""
        columns = max(self._width, length) + max([room, *(b.room for b in self.branches)]) + SPARE
        return (len(self.branches) + count) * columns * self._layout.bytes_per_token

    def join(self, branches: Sequence[Branch], trunk: KVBlock, length: int) -> None:
        """Add branches that all follow the first `length` tokens of `trunk`."""
        self._make_room(len(branches), length, max(b.room for b in branches))
        block, rows = self._block, len(self.branches)
        left, block.start = block.start, min(block.start, block.end - length)
        block.clear(slice(0, rows), slice(block.start, left))
        for row in range(rows, rows + len(branches)):
            block.clear(slice(row, row + 1), slice(block.start, block.end - length))
            block.copy_row(row, block.end - length, trunk, 0, 0, length)
        self.branches += branches
        block.rows = len(self.branches)
        self._stale = True

    def leave(self, branch: Branch) -> Tail:
        """Take a branch out; returns what it generated, with its keys and values."""
        block, row = self._block, self.branches.index(branch)
        tail = tail_of(block, row, branch.tokens[:-1])
        last = self.branches.pop()
        if last is not branch:
            self.branches[row] = last
            block.copy_row(row, block.start, block, len(self.branches), block.start, self._width)
        block.rows = len(self.branches)
        self._close_up()
        return tail

    def step(self) -> list[tuple[Branch, int, float]]:
        """Decode one token for every branch: the token and its log-probability."""
        if self._stale:
            self._refresh()
        assert self._plan is not None
        block, end = self._block, self._block.end
        self._speaking.groups = self._groups
        mask = self._mask[..., block.start : end + 1] if self._mask is not None else None
        try:
            logits = self._decoder.forward(self._tokens, self._positions, block, mask)
            tokens, numbers, logprobs = self._plan.pick(logits)
        except BaseException:
            block.end, self._stale = end, True  # as if the step had not been begun
            raise
        self._tokens = tokens.unsqueeze(1)
        self._positions += 1
        return list(zip(self.branches, numbers, logprobs, strict=True))

    @property
    def _width(self) -> int:
        return self._block.end - self._block.start

    def _make_room(self, count: int, length: int, room: int) -> None:
        """Have rows and columns for `count` more of `length`, and for all to grow to their ends."""
        block, rows = self._block, len(self.branches) + count
        room = max([room, *(b.room for b in self.branches)]) + 1
        if not self.branches:
            block.start = block.end = length
        if length > block.end or block.end + room > block.column_capacity or rows > block.row_capacity:
            end = max(self._width, length)
            capacity = block.row_capacity if rows <= block.row_capacity else max(rows, 2 * len(self.branches))
            self._block = block.resized(capacity, end + room + SPARE, end)

    def _close_up(self) -> None:
        """Give back large buffers, and the LoRA, when no row is left."""
        self._stale = True
        if self.branches:
            return
        self._groups = self._speaking.groups = ()
        self._block.start = self._block.end = 0
        if self._block.nbytes > KEEP_EMPTY:
            self._block = KVBlock(self._layout, 1, SPARE)

    def _refresh(self) -> None:
        """Make the tensors of a step anew: they change only when branches come or go."""
        device, block = self._layout.device, self._block
        lengths = [b.cached for b in self.branches]
        block.start = block.end - max(lengths)
        self._tokens = torch.tensor([[b.tokens[-1]] for b in self.branches], device=device)
        self._positions = torch.tensor([[length] for length in lengths], device=device)
        self._mask = None
        if min(lengths) < max(lengths):
            starts = torch.tensor([block.end - length for length in lengths], device=device)
            columns = torch.arange(block.column_capacity, device=device)
            self._mask = (columns >= starts.unsqueeze(1))[:, None, None, :]
        self._plan = Plan.of([b.draw for b in self.branches], device)
        self._groups = group_rows([b.slot for b in self.branches], device)
        self._stale = False
