"""Turns exchanges and the feedback on them into preference records. Pure.

Knows nothing of platforms, the database or torch.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

from learner.imported import PLATFORM as IMPORTED
from learner.records import (
    Exchange,
    Feedback,
    PreferencePair,
    PreferenceRecords,
    Provenance,
    RatedReply,
    ShownCandidate,
)
from learner.what_stands import newest_of_each, settled_on

SESSION_GAP = 6 * 3600.0
USABLE_FINISHES = ("stop", "length")


class _Unusable(Exception):
    """A piece of feedback gives no record; the message is the reason that is counted."""


def derive(exchanges: Iterable[Exchange], feedback: Sequence[Feedback]) -> PreferenceRecords:
    """Derive the records that count: one step per feedback that stands, in a fixed order.

    The newest feedback of a teacher on an exchange counts, "retract" leaves nothing, an untrusted
    person's nothing either. Teachers who disagree are both kept. What gives no record is counted in
    `left_out` by its reason.
    """
    known = {exchange.id: exchange for exchange in exchanges}
    sessions = _sessions(known.values())
    earlier = _by_exchange(feedback)
    pairs: dict[object, PreferencePair] = {}
    tied: dict[object, PreferencePair] = {}
    ratings: dict[object, RatedReply] = {}
    left_out: Counter[str] = Counter()
    ties = 0
    for said in _in_order(newest_of_each(feedback), known):
        try:
            exchange = _exchange_of(said, known)
            if said.value == "tie":
                ties += 1
                _add_once(_tied(exchange, said, sessions[exchange.id]), tied, ratings, left_out)
                continue
            made: list[PreferencePair | RatedReply]
            if said.kind == "retry":
                made = [_said_again(exchange, said, known, earlier, sessions[exchange.id])]
            else:
                made = _records(exchange, said, earlier[exchange.id], sessions[exchange.id], left_out)
        except _Unusable as reason:
            left_out[str(reason)] += 1
            continue
        for record in made:
            _add_once(record, pairs, ratings, left_out)
    reasons = dict(sorted(left_out.items()))
    return PreferenceRecords(tuple(pairs.values()), tuple(ratings.values()), ties, reasons, tuple(tied.values()))


def _records(
    exchange: Exchange,
    said: Feedback,
    earlier: Sequence[Feedback],
    session: str,
    left_out: Counter[str],
) -> list[PreferencePair | RatedReply]:
    """The records that one standing feedback makes. Raises _Unusable."""
    if said.kind == "correction":
        return _corrected(exchange, said, session, left_out)
    if said.kind == "rating":
        rated = _kept(exchange, said, earlier)
        return [_rated(exchange, rated, said, session)]
    if said.value == "both_bad":
        shown = _usable(exchange.candidates, left_out)
        return [_rated(exchange, candidate, said, session) for candidate in shown]
    return [_chosen(exchange, said, session)]


def _chosen(exchange: Exchange, said: Feedback, session: str) -> PreferencePair:
    if len(exchange.candidates) != 2:
        raise _Unusable("not_an_offer")
    chosen, rejected = exchange.candidates[int(said.value) - 1], exchange.candidates[2 - int(said.value)]
    pair = _preferred(exchange, chosen, rejected, "choice", said, session)
    if exchange.platform == IMPORTED:
        return pair  # where the replies were shown is not known
    return replace(pair, chosen_side=1 if chosen.side == 1 else 2, expected_side=exchange.expected)


def _tied(exchange: Exchange, said: Feedback, session: str) -> PreferencePair:
    """The two replies of an offer that were called equally good, in the order that they were shown in."""
    if len(exchange.candidates) != 2:
        raise _Unusable("not_an_offer")
    return _preferred(exchange, *exchange.candidates, "tie", said, session)


def _preferred(
    exchange: Exchange,
    chosen: ShownCandidate,
    rejected: ShownCandidate,
    source: Literal["choice", "retry", "tie"],
    said: Feedback,
    session: str,
) -> PreferencePair:
    """One generated reply over another. Raises _Unusable."""
    for candidate in (chosen, rejected):
        _check(candidate)
    if chosen.text.strip() == rejected.text.strip():
        raise _Unusable("same_text")
    return PreferencePair(
        prompt=exchange.prompt,
        prompt_ids=exchange.prompt_ids,
        chosen=chosen.text,
        rejected=rejected.text,
        chosen_ids=chosen.token_ids or None,
        rejected_ids=rejected.token_ids or None,
        source=source,
        provenance=_provenance(exchange, said, session, (chosen.lora, rejected.lora)),
    )


def _corrected(
    exchange: Exchange, said: Feedback, session: str, left_out: Counter[str]
) -> list[PreferencePair | RatedReply]:
    """One pair per shown candidate: the person's words against it."""
    if not said.correction.strip():
        raise _Unusable("empty")
    pairs: list[PreferencePair | RatedReply] = []
    for candidate in _usable(exchange.candidates, left_out):
        if candidate.text.strip() == said.correction.strip():
            left_out["same_text"] += 1
            continue
        pair = PreferencePair(
            prompt=exchange.prompt,
            prompt_ids=exchange.prompt_ids,
            chosen=said.correction,
            rejected=candidate.text,
            chosen_ids=None,
            rejected_ids=candidate.token_ids,
            source="correction",
            provenance=_provenance(exchange, said, session, (candidate.lora,)),
        )
        pairs.append(pair)
    return pairs


def _said_again(
    exchange: Exchange,
    said: Feedback,
    known: dict[str, Exchange],
    earlier: dict[str, list[Feedback]],
    session: str,
) -> PreferencePair:
    """The reply that was kept after all retries, against the one that was not. Raises _Unusable."""
    kept, word = known.get(said.value), said
    while kept is not None:
        words = [one for one in earlier[kept.id] if one.teacher == said.teacher]
        if not words or words[-1].kind != "retry":
            break
        kept, word = known.get(words[-1].value), words[-1]
    if kept is None or not kept.candidates:
        raise _Unusable("no_exchange")
    if words and (words[-1].value == "bad" or words[-1].kind == "correction"):
        raise _Unusable("not_kept")
    rejected = _kept(exchange, said, earlier[exchange.id])
    return _preferred(exchange, kept.candidates[0], rejected, "retry", word, session)


def _rated(exchange: Exchange, candidate: ShownCandidate, said: Feedback, session: str) -> RatedReply:
    _check(candidate)
    return RatedReply(
        prompt=exchange.prompt,
        prompt_ids=exchange.prompt_ids,
        completion=candidate.text,
        completion_ids=candidate.token_ids or None,
        desirable=said.value == "good",
        source="rating" if said.kind == "rating" else "both_bad",
        provenance=_provenance(exchange, said, session, (candidate.lora,)),
    )


def _kept(exchange: Exchange, rating: Feedback, earlier: Sequence[Feedback]) -> ShownCandidate:
    """The reply that a rating is about: the only one, or the one that was chosen before."""
    if len(exchange.candidates) == 1:
        return exchange.candidates[0]
    before = [one for one in earlier if one.id < rating.id]
    heard = [one for one in before if one.trusted or one.teacher == rating.teacher]
    settled = settled_on(heard)
    if settled is None:
        raise _Unusable("not_settled")
    return exchange.candidates[settled - 1]


def _check(candidate: ShownCandidate) -> None:
    """Raises _Unusable for a reply that was cut short or says nothing."""
    if candidate.finish not in USABLE_FINISHES:
        raise _Unusable("unfinished")
    if not candidate.text.strip():
        raise _Unusable("empty")


def _usable(candidates: Sequence[ShownCandidate], left_out: Counter[str]) -> Iterator[ShownCandidate]:
    for candidate in candidates:
        try:
            _check(candidate)
        except _Unusable as reason:
            left_out[str(reason)] += 1
        else:
            yield candidate


def _exchange_of(said: Feedback, known: dict[str, Exchange]) -> Exchange:
    """The exchange that this feedback may train on. Raises _Unusable."""
    if said.kind == "retract":
        raise _Unusable("retracted")
    if not said.trusted:
        raise _Unusable("untrusted")
    if said.exchange not in known:
        raise _Unusable("no_exchange")
    if not known[said.exchange].candidates:
        raise _Unusable("no_candidates")
    return known[said.exchange]


def _in_order(feedback: Iterable[Feedback], known: dict[str, Exchange]) -> list[Feedback]:
    """By exchange in the order that they happened, then by feedback: the same however it came in."""

    def position(said: Feedback) -> tuple[float, str, int]:
        exchange = known.get(said.exchange)
        return (exchange.created_at if exchange else math.inf, said.exchange, said.id)

    return sorted(feedback, key=position)


def _by_exchange(feedback: Iterable[Feedback]) -> dict[str, list[Feedback]]:
    found: dict[str, list[Feedback]] = defaultdict(list)
    for said in sorted(feedback, key=lambda one: one.id):
        found[said.exchange].append(said)
    return found


def _sessions(exchanges: Iterable[Exchange]) -> dict[str, str]:
    """Exchange id -> session, which is named after its chat and its first exchange."""
    last: dict[tuple[str, str, str], tuple[float, str]] = {}
    found: dict[str, str] = {}
    for exchange in sorted(exchanges, key=lambda one: (one.created_at, one.id)):
        chat = (exchange.bot, exchange.platform, exchange.chat)
        at, session = last.get(chat, (-math.inf, ""))
        if exchange.created_at - at > SESSION_GAP:
            session = "/".join((*chat, exchange.id))
        last[chat] = (exchange.created_at, session)
        found[exchange.id] = session
    return found


def _provenance(exchange: Exchange, said: Feedback, session: str, loras: tuple[str | None, ...]) -> Provenance:
    return Provenance(
        exchange=exchange.id,
        chat=exchange.chat,
        teacher=said.teacher,
        session=session,
        created_at=said.created_at,
        loras=() if exchange.platform == IMPORTED else loras,
        imported=exchange.chat if exchange.platform == IMPORTED else "",
    )


def _add_once(
    record: PreferencePair | RatedReply,
    pairs: dict[object, PreferencePair],
    ratings: dict[object, RatedReply],
    left_out: Counter[str],
) -> None:
    """Somebody who says the same thing about the same texts again has said it once."""
    teacher = record.provenance.teacher
    if isinstance(record, PreferencePair):
        key: object = (record.prompt, record.chosen, record.rejected, teacher)
        known = key in pairs
        pairs.setdefault(key, record)
    else:
        key = (record.prompt, record.completion, record.desirable, teacher)
        known = key in ratings
        ratings.setdefault(key, record)
    if known:
        left_out["duplicate"] += 1
