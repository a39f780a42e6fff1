"""Which of what was found is worth showing: how much of a question it covers, and one order out of two.

Pure; knows nothing of tables, prompts or models.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from learner.retrieval.terms import index_terms, is_dense, query_terms

T = TypeVar("T", bound=Hashable)

MOST_TERMS = 24  # of a long message the rarest are looked for
OFTEN = 0.1  # a term in more than this share of all turns tells nothing, where rarer ones are left
UNSEEN_PAIR = 0.25  # an unseen pair of characters may be two halves of two words; an unseen word is a word
# What a hit must share with the question, in shares of the weight of a word that was said once. In bench/recall.py's
# English, of small talk 0.5 lets 25 % find something, 0.6 16 %, 0.7 11 %; and 100, 99, 97 % of the facts be found.
TELLING = 0.6
FEWEST = 200  # turns; among less no word is rare or common yet
NEARLY_ALL = 0.9  # of a question of one common word
FUSION = 60.0  # of reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009)


@dataclass(frozen=True)
class Question:
    """What a message asks for: its terms, each with its weight (nats), and those of them to look for, rarest first.

    `turns` is how many were counted when the terms were weighed.
    """

    weights: Mapping[str, float]
    wanted: tuple[str, ...]
    turns: int

    def coverage(self, text: str) -> float:
        """The share of the question, by weight, that `text` speaks of: 0 to 1.

        0 for what speaks of it in common words only, unless it holds nearly all of it; and for what says nothing that
        the question does not: an earlier question of the same words is no answer.
        """
        whole = sum(self.weights.values())
        said = set(index_terms(text).split())
        if not whole or not set(query_terms(text)) - self.weights.keys():
            return 0.0
        shared = sum(weight for term, weight in self.weights.items() if _holds(said, term))
        telling = shared >= TELLING * math.log(1 + self.turns)
        return shared / whole if telling or shared >= NEARLY_ALL * whole else 0.0


def question(text: str, counts: Mapping[str, int], turns: int) -> Question:
    """The question in `text`, where `counts` says how many of all `turns` hold each of its terms."""
    turns = max(turns, FEWEST)
    terms = query_terms(text)
    seen = [term for term in terms if counts.get(term)]
    rare = [term for term in seen if counts[term] <= OFTEN * turns]
    wanted = sorted(rare or seen, key=lambda term: counts[term])[:MOST_TERMS]
    weights = {term: _weight(counts.get(term, 0), turns) for term in terms}
    for term in terms:
        if not counts.get(term) and is_dense(term):
            weights[term] *= UNSEEN_PAIR
    return Question(weights, tuple(wanted), turns)


def fused(rankings: Sequence[Sequence[T]]) -> list[T]:
    """One order out of several, best first: each item by the sum of 1 / (60 + its rank)."""
    scores: dict[T, float] = {}
    for ranking in rankings:
        for rank, item in enumerate(ranking, 1):
            scores[item] = scores.get(item, 0.0) + 1 / (FUSION + rank)
    return sorted(scores, key=lambda item: -scores[item])


def _weight(count: int, turns: int) -> float:
    """BM25's inverse document frequency, which is never negative in this form."""
    return math.log(1 + (max(turns, count) - count + 0.5) / (count + 0.5))


def _holds(said: set[str], term: str) -> bool:
    if len(term) == 1 and is_dense(term):
        return any(one.startswith(term) for one in said)
    return term in said
