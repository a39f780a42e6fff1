"""Whose word counts how much: every teacher is held against a reward that others taught.

Somebody who answers at random, always takes the first reply or always the worse one orders replies otherwise than
what the others taught; how often says how much their word is worth and how often they mean the opposite. A teacher
who always takes one side needs no rule of their own: sides are drawn by lot, so they agree as often as a coin. The
owner's word always counts in full, and where it alone shows a taste, it is what the others are first held against;
so people of one mind who come in numbers cannot turn it. Somebody who teaches alone is believed. Somebody new counts
a quarter until they have said enough, or answered what was known before as it was known; who then answers otherwise
contradicts.
Knows nothing of models, files or training.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from learner.training import reward
from learner.training.agreement import (
    PENALTIES,
    Told,
    agreed,
    habit_of,
    position_of,
    sides,
    sure,
    told_by,
    wilson,
    without,
)
from learner.training.examples import Example
from learner.training.reward import Comparison, Scale

Compared = tuple[Sequence[Comparison], Scale]
State = Literal["owner", "trusted", "quarantine", "contradicts"]

PASSES = 2  # the first finds who contradicts, the second judges without them
PRIOR_AGREEMENT, PRIOR_COUNT = 0.9, 6.0  # as if each had agreed so often in so many comparisons before
MOST_NOISE = 0.45
DECIMALS = 3  # of weights, so that the last bit of a hidden state changes none
LEAST_SHARE, OTHERS_SHARE = 1 / 10, 2.0  # of a night's weight one teacher has at most max(1/10, 2/n)
LIKELY = 0.84  # standard errors: four times in five
HABITUAL = 0.3  # who makes so many choices by their side alone says nothing by disagreeing
HEAVY = 0.15  # who has more of the weight is somebody that a night could hang on


@dataclass(frozen=True)
class Trust:
    """How far a teacher's word goes. `agreement` is None where nothing could be compared.

    `low` and `high` bound the agreement (Wilson, 95 %); `position` is the log-odds by which they take the first
    side beyond what the replies explain; `noise` the probability that a choice of theirs means the opposite. `habit` is
    the share of their choices that they made by the side alone, `favours` which side. `seeded` of the comparisons had
    an answer that was known before they were asked about, `rightly` were answered so.
    """

    teacher: str
    state: State
    weight: float = 1.0
    noise: float = 0.0
    said: int = 0
    compared: int = 0
    agreement: float | None = None
    low: float = 0.0
    high: float = 1.0
    position: float = 0.0
    habit: float = 0.0
    favours: Literal[1, 2] = 1
    rightly: int = 0
    seeded: int = 0

    @property
    def dissents(self) -> bool:
        """Whether they rather mean the opposite of the others than answer at random or by habit."""
        if self.agreement is None or self.habit > HABITUAL:
            return False
        return self.agreement + LIKELY * math.sqrt(0.25 / self.compared) < 0.5

    def counts(self, example: Example) -> float:
        """How much one of their words counts. Of choices for the side that they favour only some were made by taste."""
        by_habit = example.kind == "pair" and example.side == self.favours
        return self.weight * ((1 - self.habit) / (1 + self.habit) if by_habit else 1.0)


@dataclass(frozen=True)
class Rules:
    """Who owns, and how long and how little somebody new counts."""

    owners: frozenset[str] = frozenset()
    quarantine: int = 10
    quarantine_weight: float = 0.25


def trust(examples: Sequence[Example], compared: Compared | None, seed: int, rules: Rules) -> list[Trust]:
    """What everybody who said something of `examples` counts, by name.

    `compared` is what they said as rows of a regression. Who teaches alone needs none, and is believed.
    """
    said = Counter(example.teacher for example in examples)
    names = sorted(said)
    told = {name: Told(margins=sides(examples, name)) for name in names}
    if len(names) == 1:
        [name] = names
        alone = Trust(name, "owner" if name in rules.owners else "trusted", said=said[name])
        return [replace(alone, position=round(position_of(told[name].margins), DECIMALS))]
    if compared is None:
        return [_trust(name, said[name], told[name], rules) for name in names]
    rows, scale = compared
    told = {name: agreed([row for row in rows if row.teacher == name]) for name in names}
    counts = _first_references(rows, said, scale, seed, rules)
    found: list[Trust] = []
    for _ in range(PASSES):
        told |= told_by(rows, counts, names, scale, seed)
        found = [_trust(name, said[name], told[name], rules) for name in names]
        counts = _references(found, said, rules)
        if not any(counts.values()):
            break
    return found


def weighed(examples: Sequence[Example], trusted: Sequence[Trust], owners: Collection[str]) -> list[Example]:
    """The examples with their teachers' weights and noise, capped; those that count nothing are left out."""
    trust = {one.teacher: one for one in trusted}
    totals: defaultdict[str, float] = defaultdict(float)
    for example in examples:
        totals[example.teacher] += trust[example.teacher].counts(example) * example.weight
    capped = cap(totals, owners)
    found = []
    for example in examples:
        one = trust[example.teacher]
        weight = example.weight * one.counts(example) * capped[example.teacher]
        if weight > 0:
            doubt = one.noise if example.kind == "pair" else example.doubt
            found.append(replace(example, weight=weight, doubt=doubt))
    return found


def cap(totals: Mapping[str, float], owners: Collection[str]) -> dict[str, float]:
    """The factor by which each teacher's total has to shrink so that none but an owner has more than the cap.

    The cap is of what remains: total' = min(total, cap · Σ total'), the largest such Σ.
    """
    counting = {name: total for name, total in totals.items() if total > 0}
    share = max(LEAST_SHARE, OTHERS_SHARE / max(1, len(counting)))
    factors = dict.fromkeys(totals, 1.0)
    if share >= 1:
        return factors
    free = sorted((total for name, total in counting.items() if name not in owners), reverse=True)
    owned = math.fsum(total for name, total in counting.items() if name in owners)
    everything = math.fsum((owned, *free))
    for capped in range(len(free) + 1):  # so many of the largest are at the cap
        everything = math.fsum((owned, *free[capped:])) / (1 - capped * share) if capped * share < 1 else 0.0
        if capped == len(free) or free[capped] <= share * everything:
            break
    return factors | {
        name: min(1.0, share * everything / total) for name, total in counting.items() if name not in owners
    }


def dissent(trusted: Sequence[Trust]) -> float:
    """The share of what was said by people who mean the opposite of what counts; zero where an owner's word decides.

    Where that is much there are two camps, and nobody can tell from their words which of them is to be pleased.
    """
    if any(one.state == "owner" and one.said for one in trusted):
        return 0.0
    return sum(one.said for one in trusted if one.dissents) / max(1, sum(one.said for one in trusted))


def hanging(
    rows: Sequence[Comparison], scale: Scale, seed: int, drawn: Tensor, owners: Collection[str], floor: float
) -> list[str]:
    """Teachers without whom the reward would order the anchor's `drawn` replies quite otherwise.

    `rows` have their weights. Asked of everybody with much of the weight but the owners.
    """
    weights: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        weights[row.teacher] += row.weight
    if len(weights) < 2 or reward.fit(rows, scale, seed) is None:
        return []
    everybody = reward.guess(rows, scale, seed, PENALTIES).scores(drawn)
    heavy = [name for name in sorted(weights) if weights[name] > HEAVY * sum(weights.values()) and name not in owners]
    return [
        name
        for name in heavy
        if _correlation(everybody, reward.guess(without(rows, name), scale, seed, PENALTIES).scores(drawn)) < floor
    ]


def _trust(name: str, said: int, told: Told, rules: Rules) -> Trust:
    low, high = wilson(told.agreed, told.compared)
    knows, knows_not = wilson(told.rightly, told.seeded)
    new = said < rules.quarantine
    favours, habit = habit_of(told.margins)
    smooth = (told.agreed + PRIOR_AGREEMENT * PRIOR_COUNT) / (told.compared + PRIOR_COUNT)
    weight = round(max(0.0, 2 * smooth - 1), DECIMALS)
    state: State = "trusted"
    if name in rules.owners:
        state, weight, smooth = "owner", 1.0, 1.0
    elif high < 0.5 or (new and knows_not < 0.5):
        state, weight = "contradicts", 0.0
    elif new and knows <= 0.5:
        state, weight = "quarantine", min(weight, rules.quarantine_weight)
    return Trust(
        teacher=name,
        state=state,
        weight=weight,
        noise=round(min(MOST_NOISE, 1 - smooth), DECIMALS),
        said=said,
        compared=told.compared,
        agreement=told.agreed / told.compared if told.compared else None,
        low=low,
        high=high,
        position=round(position_of(told.margins), DECIMALS),
        habit=0.0 if name in rules.owners else round(habit, DECIMALS),
        favours=favours,
        rightly=told.rightly,
        seeded=told.seeded,
    )


def _first_references(
    rows: Sequence[Comparison], said: Mapping[str, int], scale: Scale, seed: int, rules: Rules
) -> dict[str, float]:
    """Whom the first pass holds everybody against: the owners where they show a taste, else who has said enough."""
    own = [row for row in rows if row.teacher in rules.owners]
    if sure(own, scale, seed):
        return {name: float(name in rules.owners) for name in said}
    enough = {name: float(said[name] >= rules.quarantine or name in rules.owners) for name in said}
    return enough if any(enough.values()) else dict.fromkeys(said, 1.0)


def _references(found: Sequence[Trust], said: Mapping[str, int], rules: Rules) -> dict[str, float]:
    """What everybody counts in the reward that the others are held against; who is new does not, beside old ones."""
    old = [one for one in found if one.state != "quarantine"]
    counting = {one.teacher for one in (old if any(one.weight for one in old) else found)}
    return {one.teacher: one.weight if one.teacher in counting else 0.0 for one in found}


def _correlation(first: Tensor, second: Tensor) -> float:
    first, second = first - first.mean(), second - second.mean()
    spread = float(first.norm() * second.norm())
    return float(first @ second) / spread if spread else 0.0
