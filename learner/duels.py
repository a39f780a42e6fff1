"""Champion against challenger: what people's choices say, by a test that may be read after every duel. Pure.

Knows nothing of engines, files, the database or platforms.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from learner.records import Feedback
from learner.what_stands import settled_on

Decision = Literal["promote", "roll_back"]
LARGEST = 700.0  # nats of evidence: e to that is still a float
PRIOR = 2  # each bet's share of the stake is Beta(2, 2)'s density, above one half


@dataclass(frozen=True)
class DuelRules:
    """When duels decide. `alpha` bounds the chance that equal LoRAs are told apart, on either side.

    `undecided`: what follows when the duels or the days are used up without a decision; "promote" lets the
    gate's evidence stand where the challenger won no fewer than it lost.
    """

    alpha: float = 0.05
    min_duels: int = 10
    max_duels: int = 200
    max_days: float = 14.0
    undecided: Decision = "promote"

    @property
    def threshold(self) -> float:
        """The evidence that decides."""
        return 1 / self.alpha


@dataclass(frozen=True)
class Offer:
    """Two candidates that were shown together: who made each, in shown order, and all that was said about them."""

    loras: tuple[str | None, ...]
    feedback: tuple[Feedback, ...]  # oldest first


@dataclass(frozen=True)
class Score:
    """How a challenger stands; ties and "both bad" are no duels."""

    wins: int = 0
    losses: int = 0

    @property
    def duels(self) -> int:
        """How many choices were made."""
        return self.wins + self.losses

    @property
    def evidence(self) -> float:
        """The e-value that the challenger is the better one."""
        return evidence(self.wins, self.losses)

    @property
    def evidence_against(self) -> float:
        """The e-value that it is the worse one."""
        return evidence(self.losses, self.wins)


def score(offers: Iterable[Offer], challenger: str, champion: str | None) -> Score:
    """Count the duels of these two (a champion None: the base), one for each offer that a teacher settled.

    Ties count for nothing, not for halves: the null hypothesis is about those who chose, and a half would only
    dilute the bets on it.
    """
    wins = losses = 0
    for offer in offers:
        if len(offer.loras) != 2 or set(offer.loras) != {challenger, champion}:
            continue
        chosen = settled_on(one for one in offer.feedback if one.trusted)
        if chosen is not None:
            won = offer.loras[chosen - 1] == challenger
            wins, losses = wins + won, losses + (not won)
    return Score(wins, losses)


def evidence(wins: int, losses: int) -> float:
    """The e-process against "wins at most half of the duels": it may be looked at after each one.

    For every share p > 1/2 the product of 2p for a win and 2(1 − p) for a loss is the fortune of one who bets on
    wins; under the hypothesis it is a supermartingale, and so is its mean over p with a prior (here Beta(2, 2)
    above 1/2). By Ville's inequality it ever reaches 1/α with probability at most α (Robbins, 1970; Waudby-Smith
    and Ramdas, 2010.09686; Ramdas, Grünwald, Vovk and Shafer, 2210.01948). With whole parameters the incomplete
    beta integral is a sum of binomials.
    """
    above, below = wins + PRIOR, losses + PRIOR
    scale = _log_beta(above, below) - _log_beta(PRIOR, PRIOR) + (2 - 2 * PRIOR) * math.log(2)
    return math.exp(min(LARGEST, scale + math.log(_binomials(above + below - 1, above))))


def decide(standing: Score, days: float, rules: DuelRules) -> Decision | None:
    """What the duels say after `days` of them; None: go on."""
    if standing.duels >= rules.min_duels:
        if standing.evidence >= rules.threshold:
            return "promote"
        if standing.evidence_against >= rules.threshold:
            return "roll_back"
    if standing.duels < rules.max_duels and days < rules.max_days:
        return None
    return "promote" if rules.undecided == "promote" and standing.wins >= standing.losses else "roll_back"


def _binomials(trials: int, count: int) -> int:
    """The sum of the first `count` binomial coefficients of `trials`."""
    total, term = 0, 1
    for heads in range(count):
        total += term
        term = term * (trials - heads) // (heads + 1)
    return total


def _log_beta(one: int, other: int) -> float:
    return math.lgamma(one) + math.lgamma(other) - math.lgamma(one + other)
