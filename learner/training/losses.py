"""The preference losses, as pure functions of log-ratios against the anchor.

A log-ratio is log π(reply|prompt) − log π_anchor(reply|prompt), summed over the reply's tokens.
Knows nothing of models, batches or records.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def pair_loss(chosen: Tensor, rejected: Tensor, beta: float, smoothing: Tensor | float) -> Tensor:
    """Conservative DPO, one value a pair: −(1−ε)·log σ(βΔ) − ε·log σ(−βΔ).

    Eq. (7) of DPO (2305.18290) with labels believed wrong with probability ε, which bounds the
    margin that is asked for at Δ = log((1−ε)/ε)/β.
    """
    margin = beta * (chosen - rejected)
    return -(1 - smoothing) * F.logsigmoid(margin) - smoothing * F.logsigmoid(-margin)


def rating_loss(ratio: Tensor, desirable: Tensor, beta: float) -> Tensor:
    """KTO's value loss with its reference point at the anchor (z = 0), one value a reply.

    Eq. (7) of KTO (2402.01306) as APO-zero unpaired has it (2408.06266): 1 − σ(±β·ratio). It is
    bounded, so that a reply already pushed down stops pulling.
    """
    sign = torch.where(desirable, 1.0, -1.0)
    return 1 - torch.sigmoid(sign * beta * ratio)


def tie_loss(first: Tensor, second: Tensor, beta: float, alpha: float) -> Tensor:
    """Rao–Kupper's −log P(tie), one value a pair: −log(ν² − 1) − log σ(Δ − α) − log σ(−Δ − α) with ν = e^α.

    Δ = β·(first − second); after 2409.17431. It is least at Δ = 0, so it pulls the two together.
    """
    margin = beta * (first - second)
    return -math.log(math.expm1(2 * alpha)) - F.logsigmoid(margin - alpha) - F.logsigmoid(-margin - alpha)


def token_nll(logps: Tensor, lengths: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Mean negative log-likelihood per token: the SFT term on chosen replies, each with its weight."""
    return -(weight * logps).sum() / lengths.sum().clamp(min=1)
