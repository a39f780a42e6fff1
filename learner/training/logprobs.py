"""Log-probabilities of given replies under a model; replies to one prompt share its forward pass.

A row is one sequence: the prompt but its last token (the trunk), then a branch for every reply,
which begins with that last token again. A branch sees the trunk and itself. So a pair costs
P + 2C tokens instead of 2(P + C). Knows nothing of losses, records or LoRAs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from learner.training.examples import Tokens

Row = tuple[Tokens, tuple[Tokens, ...]]  # a prompt and the replies to it
ROWS_AT_ONCE = 8  # rows of like length go together, so that little is padding
IGNORED = -100
TRUNK, PADDING = 0, -1


@dataclass(frozen=True)
class Packed:
    """Rows padded on the left. `branch` is 0 in the trunk, k in the k-th reply, −1 in the padding.

    `labels[t]` is the token that position t has to predict, −100 outside the branches; only the
    last `keep` positions have any.
    """

    ids: Tensor
    positions: Tensor
    branch: Tensor
    labels: Tensor
    keep: int


def packed(rows: Sequence[Row]) -> Packed:
    """Lay every row out as one sequence and pad them to the longest."""
    laid = [_laid_out(row) for row in rows]
    width = max(len(columns[0]) for columns in laid)
    fills = (0, 0, PADDING, IGNORED)
    ids, positions, branch, labels = (
        torch.tensor([[fill] * (width - len(columns[k])) + columns[k] for columns in laid])
        for k, fill in enumerate(fills)
    )
    keep = max(sum(len(reply) + 1 for reply in replies) for _, replies in rows)
    return Packed(ids, positions, branch, labels, keep)


def grouped(rows: Sequence[Row], at_once: int = ROWS_AT_ONCE) -> list[list[int]]:
    """Indices of `rows` in groups of like length."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + sum(map(len, rows[i][1])))
    return [order[start : start + at_once] for start in range(0, len(order), at_once)]


def branch_logps(model: Any, batch: Packed) -> Tensor:
    """Σ log π of every reply, shape [rows, most replies]; zero where a row has fewer."""
    labels, branch = batch.labels[:, -batch.keep :], batch.branch[:, -batch.keep :]
    scored = labels != IGNORED
    logps = -functional.cross_entropy(_scored_logits(model, batch), labels[scored], reduction="none")
    in_place = logps.new_zeros(labels.shape).masked_scatter(scored, logps)
    most = max(1, int(batch.branch.max()))
    return torch.stack([(in_place * (branch == k)).sum(dim=1) for k in range(1, most + 1)], dim=1)


def scored_logps(model: Any, batch: Packed) -> Tensor:
    """log π of the whole vocabulary at every reply token, row after row, [tokens, vocabulary]."""
    return _scored_logits(model, batch).log_softmax(dim=-1)


@torch.no_grad()
def reply_logps(model: Any, rows: Sequence[Row]) -> list[tuple[float, ...]]:
    """log π(reply | prompt) of every reply of every row, in the order given."""
    device = next(model.parameters()).device
    found: list[tuple[float, ...]] = [()] * len(rows)
    for group in grouped(rows, 2 * ROWS_AT_ONCE):
        sums = branch_logps(model, moved(packed([rows[i] for i in group]), device)).tolist()
        for i, values in zip(group, sums, strict=True):
            found[i] = tuple(values[: len(rows[i][1])])
    return found


def _scored_logits(model: Any, batch: Packed) -> Tensor:
    """Logits in fp32 where a token is predicted that counts, row after row, [tokens, vocabulary]."""
    output = model(
        input_ids=batch.ids,
        attention_mask=_mask(batch.branch, model.dtype),
        position_ids=batch.positions,
        use_cache=False,
        logits_to_keep=batch.keep,
    )
    return output.logits[batch.labels[:, -batch.keep :] != IGNORED].float()


class _Reached(Exception):
    """A forward pass has come to a layer; `states` are what goes into it."""

    def __init__(self, states: Tensor) -> None:
        self.states = states


def hidden_states(model: Any, batch: Packed) -> Tensor:
    """The middle layer's output at every position, [rows, T, hidden size].

    The layers above it are not run, where the model has its layers as most do.
    """
    inputs = {
        "input_ids": batch.ids, "attention_mask": _mask(batch.branch, model.dtype),
        "position_ids": batch.positions, "use_cache": False,
    }  # fmt: skip
    layers = getattr(model.get_decoder(), "layers", ())
    if len(layers) < 2:
        states = model(**inputs, output_hidden_states=True).hidden_states
        return states[len(states) // 2]

    def stop(_: Any, given: tuple[Tensor, ...], named: dict[str, Any]) -> None:
        raise _Reached(given[0] if given else named["hidden_states"])

    middle = layers[(len(layers) + 1) // 2].register_forward_pre_hook(stop, with_kwargs=True)
    try:
        model(**inputs)
    except _Reached as reached:
        return reached.states
    finally:
        middle.remove()
    raise TypeError(f"{type(model).__name__} does not run its layers one after the other")


def moved(batch: Packed, device: Any) -> Packed:
    """`batch` on another device."""
    return Packed(
        batch.ids.to(device), batch.positions.to(device), batch.branch.to(device), batch.labels.to(device), batch.keep
    )


def _laid_out(row: Row) -> tuple[list[int], list[int], list[int], list[int]]:
    """ids, positions, branch and labels of one row."""
    prompt, replies = row
    trunk, last = list(prompt[:-1]), prompt[-1]
    ids, positions = list(trunk), list(range(len(trunk)))
    branch, labels = [TRUNK] * len(trunk), [IGNORED] * len(trunk)
    for k, reply in enumerate(replies, start=1):
        ids += [last, *reply]
        positions += range(len(trunk), len(trunk) + len(reply) + 1)
        branch += [k] * (len(reply) + 1)
        labels += [*reply, IGNORED]
    return ids, positions, branch, labels


def _mask(branch: Tensor, dtype: torch.dtype) -> Tensor:
    """What each position may see, as an additive mask [rows, 1, T, T]."""
    width = branch.shape[1]
    earlier = torch.ones(width, width, dtype=torch.bool, device=branch.device).tril()
    mine = (branch[:, :, None] == branch[:, None, :]) | (branch[:, None, :] == TRUNK)
    seen = earlier & mine  # padding sees padding, so that no row of the softmax is empty
    zeros = torch.zeros(seen.shape, dtype=dtype, device=branch.device)
    return zeros.masked_fill(~seen, torch.finfo(dtype).min)[:, None]
