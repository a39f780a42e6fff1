"""Log-probabilities of given replies under a model, in batches of like length.

Knows nothing of losses, records or LoRAs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from learner.training.examples import Tokens

Row = tuple[Tokens, Tokens]  # prompt, reply
Score = Callable[[nn.Module, "Padded"], Tensor]


@dataclass(frozen=True)
class Padded:
    """Rows padded on the right; `reply_mask[i, t]` says that token t of row i is of the reply."""

    input_ids: Tensor
    attention_mask: Tensor
    reply_mask: Tensor


def padded(rows: Sequence[Row], pad: int) -> Padded:
    """Pad prompt + reply of every row to the longest."""
    width = max(len(prompt) + len(reply) for prompt, reply in rows)
    shape = (len(rows), width)
    ids, attention = torch.full(shape, pad), torch.zeros(shape, dtype=torch.long)
    replies = torch.zeros(shape, dtype=torch.long)
    for i, (prompt, reply) in enumerate(rows):
        end = len(prompt) + len(reply)
        ids[i, :end] = torch.tensor([*prompt, *reply])
        attention[i, :end] = 1
        replies[i, len(prompt) : end] = 1
    return Padded(ids, attention, replies)


def token_logps(model: Any, batch: Padded) -> Tensor:
    """log π of every reply token, zero elsewhere, shape [rows, width − 1].

    Needs the head that TRL's `add_fused_lm_head` puts on the model: it scores without ever
    holding all logits.
    """
    labels = batch.input_ids.masked_fill(batch.reply_mask == 0, -100)
    scored = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        use_cache=False,
        labels=labels,
        fused_lm_head=True,
    )
    return scored.log_probs


@torch.no_grad()
def reply_logps(model: Any, rows: Sequence[Row], pad: int, batch_size: int = 64) -> list[float]:
    """log π(reply | prompt) of every row, in the order given."""
    device = next(model.parameters()).device
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
    found = [0.0] * len(rows)
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        batch = padded([rows[i] for i in part], pad)
        batch = Padded(batch.input_ids.to(device), batch.attention_mask.to(device), batch.reply_mask.to(device))
        for i, value in zip(part, token_logps(model, batch).sum(dim=1).tolist(), strict=True):
            found[i] = value
    return found
