"""Tells texts that are the same, or nearly: MinHash finds those that may be, Jaccard over trigrams decides.

Knows nothing of dialogues. Broder, "On the resemblance and containment of documents", 1997.
"""

from __future__ import annotations

import unicodedata
import zlib

import numpy as np
from numpy.typing import NDArray

BANDS, ROWS = 32, 4  # texts alike to 0.7 share a band with probability 0.9998, to 0.3 with 0.23
PRIME = np.uint64(4_294_967_311)  # the first above 2**32


def plain(text: str) -> str:
    """`text` as it is compared: one width, one case, letters and digits only."""
    return "".join(char for char in unicodedata.normalize("NFKC", text).casefold() if char.isalnum())


def shingles(text: str) -> NDArray[np.uint64]:
    """The hashes of its different trigrams, sorted; of a shorter text its own."""
    bare = plain(text)
    grams = {bare[i : i + 3] for i in range(max(1, len(bare) - 2))}
    return np.array(sorted(zlib.crc32(gram.encode("utf-8", "replace")) for gram in grams), dtype=np.uint64)


def jaccard(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> float:
    """Shared trigrams as a share of all that either has."""
    shared = len(np.intersect1d(one, other, assume_unique=False))
    return shared / (len(one) + len(other) - shared)


class Seen:
    """The texts that were let in; `threshold` is the Jaccard similarity from which two are nearly the same."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._exact: set[str] = set()
        self._kept: list[NDArray[np.uint64]] = []
        self._bands: dict[tuple[int, bytes], list[int]] = {}
        drawn = np.random.default_rng(7).integers(1, 2**32, size=(2, BANDS * ROWS), dtype=np.uint64)
        self._factor, self._shift = drawn[0][:, None], drawn[1][:, None]

    def admit(self, text: str) -> str:
        """ "" when `text` is new, and from now on it is known; else "duplicate" or "near duplicate"."""
        bare = plain(text) or text
        if bare in self._exact:
            return "duplicate"
        mine = shingles(text)
        keys = self._keys(mine)
        rivals = {number for key in keys for number in self._bands.get(key, ())}
        if any(jaccard(mine, self._kept[number]) >= self._threshold for number in rivals):
            return "near duplicate"
        self._exact.add(bare)
        for key in keys:
            self._bands.setdefault(key, []).append(len(self._kept))
        self._kept.append(mine)
        return ""

    def _keys(self, hashes: NDArray[np.uint64]) -> list[tuple[int, bytes]]:
        least = ((hashes[None, :] * self._factor + self._shift) % PRIME).min(axis=1)
        return [(band, least[band * ROWS : (band + 1) * ROWS].tobytes()) for band in range(BANDS)]
