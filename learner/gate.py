"""Publish or refuse: judges a night's figures. Pure statistics.

Knows nothing of models, files or how the figures were measured.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from learner.training.canaries import CanaryFigures

LN2 = math.log(2)


@dataclass(frozen=True)
class GateSettings:
    """What a new LoRA must hold. Shares are of 1 (0.02 is two points)."""

    canary_drop: float = 0.02  # against the champion and, separately, against the anchor
    sampled_drop: float = 0.05  # language, ending, repetition of sampled replies
    canaries: int = 600
    min_judged: int = 5  # records
    confidence: float = 0.95  # one-sided
    min_gain: float = 0.005  # nats a record: less is nothing learned, however surely
    without_one: float = 0.3  # correlation of what is liked with and without any one of several teachers
    kl_per_token: float = 0.6
    length: tuple[float, float] = (0.8, 1.25)  # of the chosen replies of pairs
    length_hard: tuple[float, float] = (0.4, 2.5)  # of the anchor
    temperature: float = 0.9
    top_p: float = 0.95
    max_tokens: int = 128
    samples: int = 128


@dataclass(frozen=True)
class PreferenceFigures:
    """Log-losses on records that the judged weights did not train on: the anchor's is log 2 by definition.

    `gain` is the mean of log 2 − loss over the records, `error` its standard error;
    `over_champion` and its error compare with the champion (0 when there is none) on those records
    that it did not train on either.
    `effective` is how many records of equal weight would say as much (Kish).
    """

    count: int
    pairs: int
    loss: float
    accuracy: float
    gain: float
    error: float
    over_champion: float = 0.0
    over_champion_error: float = 0.0
    effective: float = 0.0


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


def reasons_to_refuse(figures: GateFigures, settings: GateSettings) -> list[str]:
    """Every reason why the candidate may not speak; empty when it may."""
    return [
        *_canary_reasons(figures, settings),
        *_sampled_reasons(figures, settings),
        *_preference_reasons(figures.preference, settings),
        *_drift_reasons(figures, settings),
        *_length_reasons(figures.length, settings),
    ]


def canaries_hold(candidate: CanaryFigures, anchor: CanaryFigures, champion: CanaryFigures | None, drop: float) -> bool:
    """Whether the candidate's canaries are within `drop` of the anchor's and the champion's."""
    return not _canary_drops(candidate, anchor, champion, drop)


def preference_figures(
    margins: Sequence[float],
    pairs: int,
    champion: Sequence[float | None] | None,
    weights: Sequence[float] | None = None,
) -> PreferenceFigures:
    """Judge margins (log-odds that the model gives to what people preferred), weighted or all alike.

    The champion's are None where it trained on the record.
    """
    counts = [1.0] * len(margins) if weights is None else weights
    if not sum(counts):
        return PreferenceFigures(0, 0, LN2, 0.5, 0.0, math.inf)
    losses = [softplus(-margin) for margin in margins]
    gain, error = _weighted([LN2 - loss for loss in losses], counts)
    over, over_error = 0.0, 0.0
    rows = zip(champion or (), losses, counts, strict=False)
    unseen = [(softplus(-theirs) - loss, count) for theirs, loss, count in rows if theirs is not None]
    if sum(count for _, count in unseen):
        over, over_error = _weighted([more for more, _ in unseen], [count for _, count in unseen])
    return PreferenceFigures(
        count=len(margins),
        pairs=pairs,
        loss=LN2 - gain,
        accuracy=_weighted([(margin > 0) + 0.5 * (margin == 0) for margin in margins], counts)[0],
        gain=gain,
        error=error,
        over_champion=over,
        over_champion_error=over_error,
        effective=sum(counts) ** 2 / sum(count**2 for count in counts),
    )


def length_figures(candidate: Sequence[int], anchor: Sequence[int], chosen: Sequence[int]) -> LengthFigures:
    """Compare lengths of sampled replies with those of chosen ones."""
    length, error = _mean_and_error(candidate)
    wanted, wanted_error = _mean_and_error(chosen)
    return LengthFigures(length, error, _mean_and_error(anchor)[0], wanted, wanted_error, len(chosen))


def _canary_drops(
    candidate: CanaryFigures, anchor: CanaryFigures, champion: CanaryFigures | None, drop: float
) -> list[str]:
    found = []
    for name, other in (("anchor", anchor), ("champion", champion)):
        lost = other.right - candidate.right if other else 0.0
        if lost > drop + 1e-9:
            found.append(f"canaries fell by {100 * lost:.1f} points against the {name} (at most {100 * drop:.1f})")
    return found


def _canary_reasons(figures: GateFigures, settings: GateSettings) -> list[str]:
    return _canary_drops(figures.canary, figures.canary_anchor, figures.canary_champion, settings.canary_drop)


def _sampled_reasons(figures: GateFigures, settings: GateSettings) -> list[str]:
    found = []
    for check in ("language", "ended", "unrepeated"):
        lost = getattr(figures.sampled_anchor, check) - getattr(figures.sampled, check)
        if lost > settings.sampled_drop:
            found.append(f"sampled replies: {check} fell by {100 * lost:.1f} points against the anchor")
    return found


def _preference_reasons(figures: PreferenceFigures, settings: GateSettings) -> list[str]:
    if figures.count < settings.min_judged:
        return [f"only {figures.count} records: at least {settings.min_judged} are needed to judge"]
    quantile = student_quantile(settings.confidence, round(figures.effective) - 1)
    found = []
    if figures.gain < max(settings.min_gain, quantile * figures.error):
        found.append(
            f"preferences: log-loss {figures.loss:.3f} on {figures.count} unseen records is not surely below "
            f"the anchor's {LN2:.3f}"
        )
    if figures.over_champion + figures.over_champion_error < 0:
        found.append(f"preferences: log-loss is {-figures.over_champion:.3f} above the champion's")
    return found


def _drift_reasons(figures: GateFigures, settings: GateSettings) -> list[str]:
    if not math.isfinite(figures.kl_per_token):
        return ["the model's log-probabilities are not finite"]
    if figures.kl_per_token > settings.kl_per_token:
        return [f"KL {figures.kl_per_token:.2f} nats a token from the anchor (budget {settings.kl_per_token:.2f})"]
    return []


def _length_reasons(figures: LengthFigures, settings: GateSettings) -> list[str]:
    """A length between the anchor's and the chosen replies' is on the way and never at fault."""
    low, high = settings.length_hard
    if not low * figures.anchor <= figures.candidate <= high * figures.anchor:
        return [f"replies of {figures.candidate:.1f} tokens: the anchor's have {figures.anchor:.1f}"]
    if not figures.count:
        return []
    slack = NORMAL.inv_cdf(settings.confidence) * math.hypot(figures.candidate_error, figures.chosen_error)
    low, high = settings.length
    shortest = low * min(figures.chosen, figures.anchor) - slack
    longest = high * max(figures.chosen, figures.anchor) + slack
    if shortest <= figures.candidate <= longest:
        return []
    return [f"replies of {figures.candidate:.1f} tokens: the chosen ones have {figures.chosen:.1f}"]


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


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
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


NORMAL = statistics.NormalDist()
