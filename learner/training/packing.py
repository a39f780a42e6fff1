"""Which rows share one stretch of the model's attention, so that little of a batch is padding.

Knows nothing of what the rows hold. What is packed together does not see each other: see `supervised.Collator`.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Sequence


def pack(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Rows (by their index) in bins of at most `room` tokens, best fit first: the longest are placed first.

    Raises ValueError where a row is longer than `room`.
    """
    bins: list[list[int]] = []
    having: defaultdict[int, list[int]] = defaultdict(list)  # bins by the room they have left
    rooms: list[int] = []  # the keys of `having`, in order
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        if lengths[row] > room:
            raise ValueError(f"a row of {lengths[row]} tokens does not fit a bin of {room}")
        place = bisect_left(rooms, lengths[row])
        if place == len(rooms):
            bins.append([])
            number, left = len(bins) - 1, room
        else:
            left = rooms[place]
            number = having[left].pop()
            if not having[left]:
                del having[left], rooms[place]
        bins[number].append(row)
        left -= lengths[row]
        if left and left not in having:
            insort(rooms, left)
        if left:
            having[left].append(number)
    return bins


def filled(bins: Sequence[Sequence[int]], lengths: Sequence[int], room: int) -> float:
    """The share of all bins that tokens fill."""
    return sum(lengths[row] for one in bins for row in one) / (len(bins) * room) if bins else 0.0
