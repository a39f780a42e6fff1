"""Holding on to what the anchor knows: its own replies to other prompts, and its odds at each token.

A preference moves how something is said; nothing in it says that what is said must stay. So every
step also sees replies that the anchor itself made to other prompts. Where the anchor was sure, the
policy pays for KL(anchor ‖ policy); where it was not, people may decide, but only among what the anchor
might have said: the policy pays for probability that it puts anywhere else. Knows nothing of
preferences or records.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from learner.training.logprobs import ROWS_AT_ONCE, Row, grouped, moved, packed, scored_logps

TOP = 64  # tokens whose odds are kept one by one; the others are kept as one sum
SUPPORT = 1e-3  # a token that the anchor gives less is nothing that it might have said


@dataclass(frozen=True)
class Kept:
    """One anchor's reply: its row, and at each of its tokens the anchor's likeliest tokens."""

    row: Row
    tokens: Tensor  # [length, TOP]
    logps: Tensor  # [length, TOP]


@torch.no_grad()
def keep(model: Any, rows: Sequence[Row]) -> list[Kept]:
    """Note the anchor's odds along each row; the anchor's weights must be in the model."""
    found: list[Kept | None] = [None] * len(rows)
    device = next(model.parameters()).device
    for group in grouped(rows, 2 * ROWS_AT_ONCE):
        logps = scored_logps(model, moved(packed([rows[i] for i in group]), device))
        top = logps.topk(min(TOP, logps.shape[1]), dim=1)
        lengths = [sum(map(len, rows[i][1])) for i in group]
        parts = zip(group, top.indices.cpu().split(lengths), top.values.cpu().split(lengths), strict=True)
        for i, tokens, values in parts:
            found[i] = Kept(rows[i], tokens, values)
    return [kept for kept in found if kept is not None]


def divergence(logps: Tensor, tokens: Tensor, anchor: Tensor) -> Tensor:
    """What a step pays for leaving the anchor, per token: KL where it was sure, straying where it was not.

    A token's likeliest choice says how sure: 2p − 1 of it, nothing at even odds or below.
    """
    own = logps.gather(1, tokens)
    sure = (2 * anchor[:, 0].exp() - 1).clamp(min=0)
    return _mean(_kl(own, anchor), sure) + _mean(_straying(own, anchor), 1 - sure)


def _kl(own: Tensor, anchor: Tensor) -> Tensor:
    """KL(anchor ‖ policy) at each token. All but the listed tokens are one outcome: merging can only lower a KL."""
    listed = (anchor.exp() * (anchor - own)).sum(dim=1)
    rest, own_rest = _rest(anchor), _rest(own)
    return listed + rest * (rest.log() - own_rest.log())


def _straying(own: Tensor, anchor: Tensor) -> Tensor:
    """−log of the probability that the policy leaves to what the anchor might have said, at each token.

    KL(anchor ‖ policy) hardly sees this: it does not ask where the policy's other probability goes.
    """
    supported = own.exp() * (anchor > math.log(SUPPORT))
    return -supported.sum(dim=1).clamp(1e-6, 1.0).log()


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (weights * values).sum() / weights.sum().clamp(min=1)


def _rest(logps: Tensor) -> Tensor:
    """The probability that is left for the tokens that are not listed."""
    return (1 - logps.exp().sum(dim=1)).clamp(min=1e-6)
