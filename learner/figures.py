"""What is measured on a candidate, and the statistics of it. Pure.

Knows nothing of models, of files, or of what must hold.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from learner.training.canaries import CanaryFigures

LN2 = math.log(2)
NORMAL = statistics.NormalDist()


@dataclass(frozen=True)
class PreferenceFigures:
    """Log-losses on records that the reward that judges them did not see: a coin's is log 2.

    `gain` is the mean of log 2 − loss over the records, `error` its standard error,
    `effective` is how many records of equal weight would say as much (Kish).

    `evidence` is the mean of margin · (1 − how often people say such a thing anyway), with its standard error: the
    score test of whether margins and words go together (Rao 1948). Coins give zero, as either word then weighs as much.
    A weak reward's log-loss pays for what it gets wrong nearly what it wins by the rest, and is half as many
    standard errors from a coin's.
    """

    count: int
    pairs: int
    loss: float
    accuracy: float
    gain: float
    error: float
    effective: float = 0.0
    evidence: float = 0.0
    evidence_error: float = math.inf


@dataclass(frozen=True)
class TasteFigures:
    """How much more the reward likes the candidate's replies than others' to the same prompts, in nats of log-odds.

    `wins` is how often it likes them more than the anchor's, a tie as half. Errors are standard errors; the champion's
    figures are zero where there is none.
    """

    count: int
    wins: float
    over_anchor: float
    over_anchor_error: float
    over_champion: float = 0.0
    over_champion_error: float = 0.0


@dataclass(frozen=True)
class LengthFigures:
    """Mean reply lengths in tokens on the same prompts; errors are standard errors."""

    candidate: float
    candidate_error: float
    anchor: float
    chosen: float
    chosen_error: float
    count: int


@dataclass(frozen=True)
class LeakFigures:
    """Of so many replies how many told another chat's private words, and how well a private passage is known.

    `exposure` is the largest of the `probed` passages' in nats: how much more than the anchor's the candidate's
    log-probability of the passage rose, and beside the best of others of its shape. 0 where none was probed.
    """

    replies: int = 0
    told: int = 0
    probed: int = 0
    exposure: float = 0.0


@dataclass(frozen=True)
class VarietyFigures:
    """How much replies to `count` different prompts differ: how many there are, and how common the commonest is."""

    count: int
    distinct: float
    commonest: float


@dataclass(frozen=True)
class GateFigures:
    """All that was measured on one candidate."""

    canary: CanaryFigures
    canary_anchor: CanaryFigures
    canary_champion: CanaryFigures | None
    sampled: CanaryFigures
    sampled_anchor: CanaryFigures
    preference: PreferenceFigures
    kl_per_token: float
    kl_per_reply: float
    length: LengthFigures
    taste: TasteFigures | None = None  # None: what people said gives no reward
    leak: LeakFigures = field(default_factory=LeakFigures)
    variety: VarietyFigures | None = None
    variety_anchor: VarietyFigures | None = None
    strayed: float = 0.0  # of sampled replies: in another language than the anchor's to the same prompt
    strayed_count: int = 0


def preference_figures(
    margins: Sequence[float],
    pairs: int,
    weights: Sequence[float] | None = None,
    anyway: Sequence[float] | None = None,
) -> PreferenceFigures:
    """Judge margins (log-odds of what people preferred), weighted or all alike.

    `anyway` is how often such a word is said whatever the reply: half of the time where it was one of two.
    """
    counts = [1.0] * len(margins) if weights is None else weights
    usual = [0.5] * len(margins) if anyway is None else anyway
    if not sum(counts):
        return PreferenceFigures(0, 0, LN2, 0.5, 0.0, math.inf)
    losses = [softplus(-margin) for margin in margins]
    gain, error = _weighted([LN2 - loss for loss in losses], counts)
    scores = [margin * (1 - often) for margin, often in zip(margins, usual, strict=True)]
    evidence, evidence_error = _weighted(scores, counts)
    return PreferenceFigures(
        count=len(margins),
        pairs=pairs,
        loss=LN2 - gain,
        accuracy=_weighted([(margin > 0) + 0.5 * (margin == 0) for margin in margins], counts)[0],
        gain=gain,
        error=error,
        effective=sum(counts) ** 2 / sum(count**2 for count in counts),
        evidence=evidence,
        evidence_error=evidence_error,
    )


def variety_figures(replies: Sequence[str]) -> VarietyFigures:
    """How much replies to different prompts, one each, differ."""
    counts, total = Counter(replies), max(1, len(replies))
    return VarietyFigures(len(replies), len(counts) / total, max(counts.values(), default=0) / total)


def length_figures(candidate: Sequence[int], anchor: Sequence[int], chosen: Sequence[int]) -> LengthFigures:
    """Compare lengths of sampled replies with those of chosen ones."""
    length, error = mean_and_error(candidate)
    wanted, wanted_error = mean_and_error(chosen)
    return LengthFigures(length, error, mean_and_error(anchor)[0], wanted, wanted_error, len(chosen))


def student_quantile(confidence: float, degrees: int) -> float:
    """Student's t quantile by Cornish–Fisher: within 1 % from three degrees of freedom on at 0.90."""
    z, n = NORMAL.inv_cdf(confidence), max(1, degrees)
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )


def softplus(x: float) -> float:
    """log(1 + e^x) without overflow."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error; one value alone says nothing of its error."""
    return _weighted(values, [1.0] * len(values))


def _weighted(values: Sequence[float], weights: Sequence[float]) -> tuple[float, float]:
    """The weighted mean and its standard error (Cochran's ratio estimate)."""
    if not values:
        return 0.0, math.inf
    total = sum(weights)
    mean = math.fsum(w * x for w, x in zip(weights, values, strict=True)) / total
    count = len(values)
    if count < 2:
        return mean, math.inf
    squares = math.fsum((w * (x - mean)) ** 2 for w, x in zip(weights, values, strict=True))
    return mean, math.sqrt(squares * count / (count - 1)) / total
