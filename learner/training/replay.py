"""Holding on to what the anchor knows: its own replies to other prompts, and its odds at each token.

A preference moves how something is said; nothing in it says that what is said must stay. So every
step also sees replies that the anchor itself made to prompts nobody was asked about, and pays for
KL(anchor ‖ policy) there. Knows nothing of preferences or records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from learner.training.logprobs import ROWS_AT_ONCE, Row, grouped, moved, packed, scored_logps

TOP = 64  # tokens whose odds are kept one by one; the others are kept as one sum


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
    """Mean KL(anchor ‖ policy) over the tokens that the anchor was sure of.

    Where it was sure it knew something; where it was undecided people may decide, so a token counts
    by how far its likeliest choice was above even odds. All but the listed tokens are one outcome:
    merging outcomes can only lower a KL.
    """
    own = logps.gather(1, tokens)
    listed = (anchor.exp() * (anchor - own)).sum(dim=1)
    rest, own_rest = _rest(anchor), _rest(own)
    charged = listed + rest * (rest.log() - own_rest.log())
    sure = (2 * anchor[:, 0].exp() - 1).clamp(min=0)
    return (sure * charged).sum() / sure.sum().clamp(min=1)


def _rest(logps: Tensor) -> Tensor:
    """The probability that is left for the tokens that are not listed."""
    return (1 - logps.exp().sum(dim=1)).clamp(min=1e-6)
