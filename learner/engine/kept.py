"""The keys and values that chats keep between turns: the least recently used go when room is short.

Knows nothing of how they are computed or decoded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from learner.engine.kv import KVBlock, single

# A conversation under one LoRA: keys and values of one version are wrong for another.
ChatKey = tuple[str, str]


@dataclass
class Tail:
    """What one candidate generated after the prompt, and its keys and values."""

    token_ids: Sequence[int]
    block: KVBlock


@dataclass
class KeptChat:
    """A prompt's keys and values, and those of each candidate generated from it.

    Which candidate became history is not told: the next prompt shows it, by its longest common prefix.
    """

    token_ids: list[int]
    block: KVBlock
    tails: list[Tail] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """Bytes of all its buffers."""
        return self.block.nbytes + sum(tail.block.nbytes for tail in self.tails)

    def cropped(self, prompt: Sequence[int], columns: int) -> tuple[KVBlock, int]:
        """The block with what it shares with `prompt` (never all of it), grown to `columns`.

        At least one token is left to compute: its logits are needed.
        """
        most = len(prompt) - 1
        shared = common_prefix(self.token_ids, prompt)
        tail, more = self._best_tail(prompt) if shared == len(self.token_ids) else (None, 0)
        reach = min(shared + more, most)
        block, base = self.block, min(shared, most)
        block.crop(base)
        if block.column_capacity < columns:
            block = block.resized(1, columns, block.end)
        if tail is not None and reach > base:
            block.copy_row(0, base, tail.block, 0, 0, reach - base)
        block.end = reach
        return block, reach

    def _best_tail(self, prompt: Sequence[int]) -> tuple[Tail | None, int]:
        rest = prompt[len(self.token_ids) :]
        best: tuple[Tail | None, int] = (None, 0)
        for tail in self.tails:
            shared = common_prefix(tail.token_ids, rest)
            if shared > best[1]:
                best = (tail, shared)
        return best


class KeptChats:
    """Kept chats by key, in order of use, within a budget that others may be drawing on too."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._chats: OrderedDict[ChatKey, KeptChat] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Bytes of all kept chats."""
        return sum(chat.nbytes for chat in self._chats.values())

    def __len__(self) -> int:
        return len(self._chats)

    def take(self, key: ChatKey) -> KeptChat | None:
        """Hand a chat over; whoever takes it puts it back when done, and nobody else has it meanwhile."""
        return self._chats.pop(key, None)

    def put(self, key: ChatKey, chat: KeptChat, in_use: int) -> None:
        """Keep `chat` as the latest used, beside `in_use` bytes of running requests."""
        self._chats[key] = chat
        self._chats.move_to_end(key)
        self.make_room(in_use)

    def make_room(self, in_use: int) -> bool:
        """Let go of the oldest until all fits beside `in_use` bytes; False if even nothing kept does not."""
        total = self.nbytes
        while self._chats and total + in_use > self._budget:
            total -= self._chats.popitem(last=False)[1].nbytes
        return in_use <= self._budget

    def keep_only(self, versions: set[str]) -> None:
        """Let go of chats under a LoRA that is in no use any more."""
        for key in [key for key in self._chats if key[1] not in versions]:
            del self._chats[key]


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """How many leading tokens two sequences share."""
    for at, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return at
    return min(len(one), len(other))


def tail_of(block: KVBlock, row: int, token_ids: Sequence[int]) -> Tail:
    """Copy the last `len(token_ids)` columns of a row."""
    copy = single(block.layout, len(token_ids))
    copy.copy_row(0, 0, block, row, block.end - len(token_ids), len(token_ids))
    copy.end = len(token_ids)
    return Tail(list(token_ids), copy)
