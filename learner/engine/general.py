"""The forward pass of any causal model of transformers that keeps plain attention's keys and values.

Knows nothing of requests. Slower per step than `direct`, but it makes no assumption on the layers:
the model builds its own masks (sliding windows included) from a cache that lays its rows out as ours.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import (
    Cache,
    CacheLayerMixin,
    DummyLayer,
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
)

from learner.engine.base import ModelUnusable
from learner.engine.kv import KVBlock, KVLayout, LayerShape


class _BlockLayer(CacheLayerMixin):
    """One layer's view of the block that is being decoded."""

    is_sliding = False

    def __init__(self, owner: _BlockCache, index: int) -> None:
        super().__init__()
        self._owner, self._index = owner, index
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do: the block is there."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        return self._owner.block.append(self._index, key_states, value_states)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        return self._owner.block.end - self._owner.block.start

    def get_max_length(self) -> int:
        return -1


class _BlockCache(Cache):
    """A transformers cache over a KVBlock. A layer with a window keeps all: the model masks what is outside."""

    block: KVBlock

    def __init__(self, layout: KVLayout) -> None:
        layers = [DummyLayer() if s is None else _BlockLayer(self, i) for i, s in enumerate(layout.layers)]
        super().__init__(layers=layers)


class GeneralDecoder:
    """Computes the logits of the last position through the model's own forward."""

    def __init__(self, model: Any, layout: KVLayout) -> None:
        self._model, self._cache = model, _BlockCache(layout)
        takes = inspect.signature(model.forward).parameters
        self._extra = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}

    def forward(self, ids: Tensor, positions: Tensor, block: KVBlock, mask: Tensor | None) -> Tensor:
        """Logits [rows, vocabulary] after `ids` [rows, n] at `positions`; moves the block's end."""
        self._cache.block = block
        out = self._model(
            input_ids=ids,
            position_ids=positions,
            past_key_values=self._cache,
            attention_mask=None if mask is None else mask[:, 0, 0],
            use_cache=True,
            **self._extra,
        )
        block.advance(ids.shape[1])
        return out.logits[:, -1]


def layout_of(model: Any, device: torch.device) -> KVLayout:
    """What the model keeps per token, seen from a forward pass over two tokens."""
    cache = DynamicCache(config=model.config)
    logits = model(input_ids=torch.zeros(1, 2, dtype=torch.long, device=device), past_key_values=cache).logits
    shapes: list[LayerShape | None] = []
    for layer in cache.layers:
        if isinstance(layer, DummyLayer):
            shapes.append(None)
        elif type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) and layer.keys is not None:
            shapes.append(LayerShape(layer.keys.shape[1], layer.keys.shape[3], layer.values.shape[3]))
        else:
            raise ModelUnusable(
                f"{type(model).__name__} keeps a {type(layer).__name__}, and the local engine serves models whose"
                " layers keep keys and values only; serve this one with vLLM or SGLang, or choose another"
            )
    kept = next((layer for layer in cache.layers if getattr(layer, "keys", None) is not None), None)
    return KVLayout(tuple(shapes), logits.dtype if kept is None else kept.keys.dtype, device)
