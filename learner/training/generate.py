"""Generates many replies in batches of like length, for judging a LoRA.

The engine speaks to people; this only measures. Knows nothing of canaries or gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from learner.training.canaries import Reply
from learner.training.examples import Tokens
from learner.training.model import ChatRenderer


@dataclass(frozen=True)
class Decoding:
    """How replies are drawn; temperature 0 is greedy."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 128
    batch_size: int = 128
    seed: int = 0


@torch.inference_mode()
def replies(model: Any, renderer: ChatRenderer, prompts: Sequence[Tokens], decoding: Decoding) -> list[Reply]:
    """One reply to every prompt, in the order given; reproducible for a seed and batch size."""
    torch.manual_seed(decoding.seed)
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), prompts[i]))
    found: dict[int, Reply] = {}
    for start in range(0, len(order), decoding.batch_size):
        part = order[start : start + decoding.batch_size]
        made = _batch(model, renderer, [prompts[i] for i in part], decoding)
        found.update(zip(part, made, strict=True))
    return [found[i] for i in range(len(prompts))]


def _batch(model: Any, renderer: ChatRenderer, prompts: Sequence[Tokens], decoding: Decoding) -> list[Reply]:
    width, pad = max(map(len, prompts)), renderer.tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    drawn: dict[str, Any] = {"do_sample": False}
    if decoding.temperature > 0:
        drawn = {"do_sample": True, "temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": 0}
    output = model.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        max_new_tokens=decoding.max_tokens,
        eos_token_id=list(renderer.ends),
        pad_token_id=pad,
        **drawn,
    )
    return [_reply(row, renderer) for row in output[:, width:].tolist()]


def _reply(row: list[int], renderer: ChatRenderer) -> Reply:
    """Cut a generated row after its first end token."""
    stop = next((i for i, token in enumerate(row) if token in renderer.ends), None)
    tokens = tuple(row if stop is None else row[: stop + 1])
    return Reply(renderer.text(tokens), tokens, stop is not None)
