"""Which records a night trains on when there are too many to begin anew with: all new ones, and some of the others.

While records are few every night starts from the anchor on all of them: nothing drifts, and what is taken back is
gone. Beyond that a night would take hours, so it goes on from the champion, on what was said since and on older
records beside it, lest these be forgotten. The anchor stays the reference. Knows nothing of torch or tokens.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from learner.records import PreferencePair, PreferenceRecords, RatedReply

Record = PreferencePair | RatedReply


@dataclass(frozen=True)
class Portion:
    """The records that a night trains on; `rested` were left for another night, and only then it `continues`.

    What it continues carries on what the champion learned: `inherited` are the exchanges of that.
    """

    records: PreferenceRecords
    rested: int = 0
    inherited: frozenset[str] = frozenset()

    @property
    def continues(self) -> bool:
        """Whether training starts from the champion."""
        return self.rested > 0


def portion(
    records: PreferenceRecords, learned: Collection[str] | None, whole_until: int, size: int, seed: int
) -> Portion:
    """All `records` up to `whole_until` or while nothing was `learned`; else the new ones and as many older ones.

    `learned` are the exchanges that the champion learned from; None: there is no champion. The older ones are at
    least as many as the new ones, fill up to `size` together, and hold every teacher and kind in its proportion.
    """
    every = _every(records)
    if learned is None or len(every) <= whole_until:
        return Portion(records)
    known = frozenset(learned)
    new = [record for record in every if record.provenance.exchange not in known]
    older = [record for record in every if record.provenance.exchange in known]
    taken = _stratified(older, max(size - len(new), len(new)), seed)
    kept = {id(record) for record in [*new, *taken]}
    smaller = replace(
        records,
        pairs=tuple(one for one in records.pairs if id(one) in kept),
        ratings=tuple(one for one in records.ratings if id(one) in kept),
        tied=tuple(one for one in records.tied if id(one) in kept),
    )
    return Portion(smaller, len(every) - len(kept), known)


def _every(records: PreferenceRecords) -> list[Record]:
    return [*records.pairs, *records.ratings, *records.tied]


def _stratified(records: Sequence[Record], count: int, seed: int) -> list[Record]:
    """`count` of `records`, others each night, evenly through every teacher's records of every kind."""
    strata: dict[tuple[str, str, bool], list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda one: _digest(one, seed)):
        strata[record.provenance.teacher, record.source, getattr(record, "desirable", True)].append(record)
    placed = [
        ((place + 0.5) / len(stratum), key, record)
        for key, stratum in strata.items()
        for place, record in enumerate(stratum)
    ]
    placed.sort(key=lambda one: one[:2])
    return [record for _, _, record in placed[:count]]


def _digest(record: Record, seed: int) -> bytes:
    told = record.provenance
    return hashlib.sha256(f"{seed}/{told.exchange}/{told.teacher}/{record.source}".encode()).digest()
