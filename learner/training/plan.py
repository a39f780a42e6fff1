"""Decides which examples each training step sees, and how much each counts. Pure and reproducible.

Knows nothing of torch or tokens.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence

from learner.training.examples import Example, Kind
from learner.training.recipe import Recipe

KINDS: tuple[Kind, ...] = ("pair", "good", "bad", "drawn", "tie")
PAIRS_A_TIE = 8  # a step has at least one tie beside so many pairs, while there are any
RATINGS_A_PAIR = 4  # so many single replies are worth a step's place of one pair


def batches(examples: Sequence[Example], recipe: Recipe, seed: int) -> list[list[int]]:
    """Return, per forward pass, the indices of its examples, every kind spread evenly.

    Pairs fill the batch and are gone through again until `min_steps` optimiser steps are made, because
    fifteen pairs for three epochs would be six steps. Single replies, of which there may be many more
    and which say less, come beside them as often as `epochs` wants, and at least a few in every step.
    """
    by_kind = {kind: [i for i, example in enumerate(examples) if example.kind == kind] for kind in KINDS}
    counts = {kind: len(indices) for kind, indices in by_kind.items()}
    passes = _steps(counts, recipe) * accumulation(recipe)
    planned: list[list[int]] = [[] for _ in range(passes)]
    for kind, rate in _rates(counts, passes, recipe).items():
        order = _round_and_round(by_kind[kind], math.ceil(rate * passes), random.Random(f"{seed}/{kind}"))
        for i, batch in enumerate(planned):
            batch += order[int(i * rate) : int((i + 1) * rate)]
    return planned


def replayed(count: int, passes: int, recipe: Recipe, seed: int) -> list[list[int]]:
    """Which of `count` kept replies each of so many forward passes sees, going round and round."""
    wanted = min(count, max(1, recipe.replay_batch // accumulation(recipe)))
    order = _round_and_round(range(count), wanted * passes, random.Random(f"{seed}/replay"))
    return [order[i * wanted : (i + 1) * wanted] for i in range(passes)]


def relative_weights(examples: Sequence[Example]) -> list[float]:
    """How much each example counts beside the others of its sort: their mean is 1, and equal ones are exactly 1.

    Over all examples rather than over those of a step, or a step of doubtful words alone would count in full.
    """
    sorts: dict[str, list[int]] = {}
    for i, example in enumerate(examples):
        sorts.setdefault("rated" if example.kind in ("good", "bad") else example.kind, []).append(i)
    found = [1.0] * len(examples)
    for members in sorts.values():
        weights = [examples[i].weight for i in members]
        if len(set(weights)) > 1:
            mean = statistics.fmean(weights)
            for i, weight in zip(members, weights, strict=True):
                found[i] = weight / mean
    return found


def accumulation(recipe: Recipe) -> int:
    """How many forward passes make one optimiser step."""
    return max(1, round(recipe.batch_size / recipe.micro_batch_size))


def _steps(counts: dict[Kind, int], recipe: Recipe) -> int:
    rated = counts["good"] + counts["bad"]
    an_epoch = max(counts["pair"], rated / RATINGS_A_PAIR) / recipe.batch_size
    return min(recipe.max_steps, max(recipe.min_steps, round(recipe.epochs * an_epoch)))


def _rates(counts: dict[Kind, int], passes: int, recipe: Recipe) -> dict[Kind, float]:
    """How many examples of each kind a forward pass sees, on average."""
    room = recipe.micro_batch_size
    rated = counts["good"] + counts["bad"]
    least = min(rated, room / RATINGS_A_PAIR if counts["pair"] else room)
    all_rated = max(least, recipe.epochs * rated / passes)
    drawn = min(counts["drawn"], recipe.drawn_share * room) if counts["pair"] else min(counts["drawn"], room)
    rates: dict[Kind, float] = {"pair": min(counts["pair"], room - drawn), "drawn": drawn}
    for kind in ("good", "bad"):
        rates[kind] = all_rated * counts[kind] / max(1, rated)
    rates["tie"] = max(min(counts["tie"], room / PAIRS_A_TIE), recipe.epochs * counts["tie"] / passes)
    return rates


def _round_and_round(indices: Sequence[int], count: int, source: random.Random) -> list[int]:
    """`count` of the indices, shuffled anew each time that all have had their turn."""
    order: list[int] = []
    while indices and len(order) < count:
        order += source.sample(indices, len(indices))
    return order[:count]
