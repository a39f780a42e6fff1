"""Decides which examples each training step sees. Pure and reproducible.

Knows nothing of torch or tokens.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from learner.training.examples import Example, Kind
from learner.training.recipe import Recipe

KINDS: tuple[Kind, ...] = ("pair", "good", "bad")
RATINGS_A_PAIR = 4  # so many single replies fill a step's place of one pair


def batches(examples: Sequence[Example], recipe: Recipe, seed: int) -> list[list[int]]:
    """Return, per forward pass, the indices of its examples, every kind spread evenly.

    An epoch goes through every example once; steps are added until `min_steps` optimiser steps
    are made, because fifteen pairs for three epochs would be six steps.
    """
    by_kind = {kind: [i for i, example in enumerate(examples) if example.kind == kind] for kind in KINDS}
    per_epoch = _steps_per_epoch(by_kind, recipe)
    steps = min(recipe.max_steps, max(recipe.min_steps, round(recipe.epochs * per_epoch)))
    hands = per_epoch * accumulation(recipe)
    planned: list[list[int]] = []
    for epoch in range(math.ceil(steps / per_epoch)):
        source = random.Random(f"{seed}/{epoch}")
        dealt = [_dealt(indices, hands, source) for indices in by_kind.values()]
        planned += [[i for hand in step for i in hand] for step in zip(*dealt, strict=True)]
    return planned[: steps * accumulation(recipe)]


def replayed(count: int, steps: int, recipe: Recipe, seed: int) -> list[list[int]]:
    """Which of `count` kept replies each of `steps` forward passes sees, going round and round."""
    source = random.Random(f"{seed}/replay")
    order: list[int] = []
    wanted = min(count, max(1, recipe.replay_batch // accumulation(recipe)))
    while len(order) < wanted * steps:
        order += source.sample(range(count), count)
    return [order[step * wanted : (step + 1) * wanted] for step in range(steps)]


def accumulation(recipe: Recipe) -> int:
    """How many forward passes make one optimiser step."""
    return max(1, round(recipe.batch_size / recipe.micro_batch_size))


def _steps_per_epoch(by_kind: dict[Kind, list[int]], recipe: Recipe) -> int:
    ratings = len(by_kind["good"]) + len(by_kind["bad"])
    return max(1, round(max(len(by_kind["pair"]), ratings / RATINGS_A_PAIR) / recipe.batch_size))


def _dealt(indices: Sequence[int], hands: int, source: random.Random) -> list[list[int]]:
    """Shuffle `indices` and deal them into `hands` parts whose sizes differ by one at most."""
    shuffled = list(indices)
    source.shuffle(shuffled)
    parts = [shuffled[start::hands] for start in range(hands)]
    source.shuffle(parts)
    return parts
