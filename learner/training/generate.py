"""Generates many replies in batches of like length, for judging a LoRA.

The engine speaks to people; this only measures. Knows nothing of canaries or gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from learner.engine.thinking import OPEN, TAG_TOKENS, ThoughtFilter
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
    source = torch.Generator(model.device).manual_seed(decoding.seed)
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), prompts[i]))
    found: dict[int, Reply] = {}
    for start in range(0, len(order), decoding.batch_size):
        part = order[start : start + decoding.batch_size]
        made = _batch(model, renderer, [prompts[i] for i in part], decoding, source)
        found.update(zip(part, made, strict=True))
    return [found[i] for i in range(len(prompts))]


def _batch(
    model: Any, renderer: ChatRenderer, prompts: Sequence[Tokens], decoding: Decoding, source: torch.Generator
) -> list[Reply]:
    """Decode until every row has ended; rows that have are dropped, as most replies are short.

    A prompt that several rows share is read once.
    """
    made: list[list[int]] = [[] for _ in prompts]
    rows, cache = list(range(len(prompts))), DynamicCache(config=model.config)
    different = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
    ids, mask = _left_padded(tuple(different), renderer.tokenizer.pad_token_id, model.device)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    shared = torch.tensor([different[prompt] for prompt in prompts], device=model.device)
    for step in range(decoding.max_tokens):
        output = model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
            logits_to_keep=1,
        )  # fmt: skip
        logits = output.logits[:, -1].float()
        if step == 0 and len(different) < len(prompts):
            cache.batch_select_indices(shared)
            logits, mask, positions = logits[shared], mask[shared], positions[shared]
        drawn = _drawn(logits, decoding, source)
        for row, token in zip(rows, drawn.tolist(), strict=True):
            made[row].append(token)
        going = [k for k, row in enumerate(rows) if made[row][-1] not in renderer.ends]
        if not going:
            break
        if len(going) < len(rows):
            rows, keep = [rows[k] for k in going], torch.tensor(going, device=model.device)
            cache.batch_select_indices(keep)
            drawn, mask, positions = drawn[keep], mask[keep], positions[keep]
        ids, positions = drawn[:, None], positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
    return [told(renderer, prompt, tokens) for prompt, tokens in zip(prompts, made, strict=True)]


def told(renderer: ChatRenderer, prompt: Tokens, tokens: Sequence[int]) -> Reply:
    """What was generated after `prompt`, as people would see it."""
    thoughts = ThoughtFilter(renderer.text(prompt[-TAG_TOKENS:]).rstrip().endswith(OPEN))
    text = thoughts.push(renderer.text(tokens)) + thoughts.finish()
    return Reply(text, tuple(tokens), tokens[-1] in renderer.ends, thoughts.hid or thoughts.stray)


def _left_padded(prompts: Sequence[Tokens], pad: int, device: Any) -> tuple[Tensor, Tensor]:
    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    return ids, mask


def _drawn(logits: Tensor, decoding: Decoding, source: torch.Generator) -> Tensor:
    """The next token of every row: the likeliest, or one drawn from the smallest set that holds `top_p`.

    A token drawn from outside that set is drawn again, which takes a fraction of the time that sorting would.
    """
    if decoding.temperature <= 0:
        return logits.argmax(dim=-1)
    probabilities = (logits / decoding.temperature).softmax(dim=-1)
    reached = probabilities.cumsum(dim=-1)
    tokens = _inverted(reached, source)
    while decoding.top_p < 1:
        likelier = probabilities > probabilities.gather(1, tokens)
        outside = (probabilities * likelier).sum(dim=-1, keepdim=True) >= decoding.top_p
        if not outside.any():
            break
        tokens = torch.where(outside, _inverted(reached, source), tokens)
    return tokens[:, 0]


def _inverted(reached: Tensor, source: torch.Generator) -> Tensor:
    """A draw from each row's cumulative probabilities, [rows, 1]."""
    uniform = torch.rand(len(reached), 1, generator=source, device=reached.device)
    return torch.searchsorted(reached, uniform * reached[:, -1:], right=True).clamp(max=reached.shape[1] - 1)
