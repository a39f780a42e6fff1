"""Counts how often a text was seen, in 12 bytes a text whatever its length.

Knows nothing of what the texts are. Two texts share a count with a chance of about n / 2**64 a text.
"""

from __future__ import annotations

from array import array
from hashlib import blake2b

FULLEST = 0.6  # of the table; beyond that it is doubled


class Counts:
    """A hash table with open addressing: 8 bytes of digest and 4 of count a place."""

    def __init__(self) -> None:
        self._size = 1 << 10
        self._filled = 0
        self._keys = array("Q", bytes(8 * self._size))
        self._counts = array("L" if array("L").itemsize == 4 else "I", bytes(4 * self._size))

    def add(self, text: str) -> int:
        """Count `text` once more; how often it has been seen now."""
        key = int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little") or 1
        place = self._place(key)
        if not self._keys[place]:
            self._keys[place] = key
            self._filled += 1
        self._counts[place] += 1
        now = self._counts[place]
        if self._filled > FULLEST * self._size:
            self._grow()
        return now

    def _place(self, key: int) -> int:
        """Where `key` is, or the free place where it belongs."""
        place, last = key & (self._size - 1), self._size - 1
        while self._keys[place] not in (0, key):
            place = (place + 1) & last
        return place

    def _grow(self) -> None:
        keys, counts = self._keys, self._counts
        self._size *= 2
        self._keys = array("Q", bytes(8 * self._size))
        self._counts = array(counts.typecode, bytes(4 * self._size))
        for key, count in zip(keys, counts, strict=True):
            if key:
                place = self._place(key)
                self._keys[place], self._counts[place] = key, count
