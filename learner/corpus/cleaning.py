"""What a message must pass before it counts: not twice the same, not empty, and how often one may say a thing.

Knows nothing of turns or of formats.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator

from learner.corpus.digests import Counts
from learner.corpus.rows import TEXT, Said


def without_repeats(messages: Iterable[Said], dropped: Counter[str]) -> Iterator[Said]:
    """`messages` of one chat, sorted by time, without what was exported twice and without empty texts.

    Twice is: the same words of the same person at the same time, and the same id where both have one.
    """
    at, moment = None, set[Said]()  # what was said at the time that is being read
    for said in messages:
        if said.at != at:
            at = said.at
            moment.clear()
        if said.kind == TEXT and not said.text.strip():
            dropped["empty"] += 1
        elif said in moment:
            dropped["duplicate"] += 1
        else:
            moment.add(said)
            yield said


class Cap:
    """Lets a reply be learned `most` times, however it is punctuated; 0: as often as it was given."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._given = Counts()

    def __call__(self, reply: str) -> bool:
        """Whether `reply` may be learned once more."""
        return not self._most or self._given.add(bare(reply)) <= self._most


def bare(text: str) -> str:
    """`text` by its letters and digits alone, in small ones; where it has none, without spaces."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(filter(str.isalnum, folded)) or "".join(folded.split())
