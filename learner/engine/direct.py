"""A lean forward pass for models built like Llama (Qwen2, Qwen3, Llama, Mistral …), over their own modules.

Knows nothing of requests. It skips what transformers' forward does in Python around each layer (masks,
caches, hooks), which is a third of a decoding step on CPU; `agrees` compares the two before it is trusted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from learner.engine.kv import KVBlock

Apply = Callable[[Tensor], Tensor]
# Cosines and (signed) sines of positions, [rows, n, 1, size].
Turns = tuple[Tensor, Tensor]

# Rope kinds whose angles depend on the position alone, so that they can be tabulated.
TABULATED = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True)
class _Norm:
    weight: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, self.weight.shape, self.weight, self.eps)


@dataclass(frozen=True)
class _Layer:
    before_attention: _Norm
    query: Apply
    key: Apply
    value: Apply
    query_norm: _Norm | None
    key_norm: _Norm | None
    out: Apply
    before_mlp: _Norm
    mlp: Apply


def supports(model: Any) -> bool:
    """Whether `model` is put together as this forward pass assumes, by the names of its parts."""
    inner, config = getattr(model, "model", None), getattr(model, "config", None)
    if inner is None or set(dict(inner.named_children())) != {"embed_tokens", "layers", "norm", "rotary_emb"}:
        return False
    if "sliding_attention" in (getattr(config, "layer_types", None) or []):
        return False
    if getattr(config, "sliding_window", None) and not getattr(config, "layer_types", None):
        return False
    return getattr(inner.rotary_emb, "rope_type", None) in TABULATED and all(map(_layer_fits, inner.layers))


def _layer_fits(layer: Any) -> bool:
    if set(dict(layer.named_children())) != {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}:
        return False
    parts = set(dict(layer.self_attn.named_children()))
    needed = {"q_proj", "k_proj", "v_proj", "o_proj"}
    norms = {"q_norm", "k_norm"}
    if parts - norms != needed or (parts & norms and not norms <= parts):
        return False
    return not parts & norms or layer.self_attn.q_norm.weight.shape == (layer.self_attn.head_dim,)


class DirectDecoder:
    """Computes the logits of the last position; keys and values go to and come from a KVBlock."""

    def __init__(self, model: Any, positions: int) -> None:
        inner = model.model
        attention = inner.layers[0].self_attn
        self._embed = inner.embed_tokens.forward
        self._layers = [_layer(layer) for layer in inner.layers]
        self._norm = _norm(inner.norm)
        self._head = model.lm_head.forward
        self._rotary, self._positions = inner.rotary_emb, positions
        self._head_size, self._scale = attention.head_dim, attention.scaling
        self._dtype = inner.embed_tokens.weight.dtype
        self._angles: tuple[Tensor, Tensor] | None = None

    def forward(self, ids: Tensor, positions: Tensor, block: KVBlock, mask: Tensor | None) -> Tensor:
        """Logits [rows, vocabulary] after `ids` [rows, n] at `positions`; moves the block's end.

        `mask` [rows, 1, 1, columns] says which columns are a row's own; None where all are.
        """
        rows, count = ids.shape
        hidden = self._embed(ids).view(rows * count, -1)
        turns = self._turns(positions, block.end - block.start + count)
        mask, causal = self._mask(mask, block, count)
        for index, layer in enumerate(self._layers):
            normed = layer.before_attention(hidden)
            keys, values = self._remember(index, layer, normed, block, turns)
            if index == len(self._layers) - 1 and count > 1:
                # Nothing after this needs the other positions.
                hidden, normed = (x.view(rows, count, -1)[:, -1] for x in (hidden, normed))
                turns, mask, causal = (turns[0][:, -1:], turns[1][:, -1:]), None, False
            query = self._query(layer, normed, turns)
            hidden = hidden + layer.out(self._attend(query, keys, values, mask, causal))
            hidden = hidden + layer.mlp(layer.before_mlp(hidden))
        block.advance(count)
        return self._head(self._norm(hidden))

    def _query(self, layer: _Layer, x: Tensor, turns: Turns) -> Tensor:
        """Queries [rows, n, heads, size], turned by their positions."""
        query = layer.query(x).reshape(*turns[0].shape[:2], -1, self._head_size)
        return _turn(query if layer.query_norm is None else layer.query_norm(query), turns)

    def _remember(self, index: int, layer: _Layer, x: Tensor, block: KVBlock, turns: Turns) -> tuple[Tensor, Tensor]:
        """Add the keys (turned by their positions) and values of x to the block; returns all that it holds."""
        shape = (*turns[0].shape[:2], -1, self._head_size)
        key, value = layer.key(x).reshape(shape), layer.value(x).reshape(shape)
        key = _turn(key if layer.key_norm is None else layer.key_norm(key), turns)
        return block.append(index, key.transpose(1, 2), value.transpose(1, 2))

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        """Attention's output, flattened to [rows * n, heads * size]."""
        rows, count, heads, size = query.shape
        attention = functional.scaled_dot_product_attention
        if count == 1:
            # The heads that share keys become queries of one head: nothing is repeated.
            packed = query.view(rows, keys.shape[1], -1, size)
            mixed = attention(packed, keys, values, attn_mask=mask, scale=self._scale)
            return mixed.reshape(rows, -1)
        turned, grouped = query.transpose(1, 2), heads != keys.shape[1]
        mixed = attention(turned, keys, values, mask, is_causal=causal, scale=self._scale, enable_gqa=grouped)
        return mixed.transpose(1, 2).reshape(rows * count, -1)

    def _mask(self, mask: Tensor | None, block: KVBlock, count: int) -> tuple[Tensor | None, bool]:
        if count == 1:
            return mask, False
        past = block.end - block.start
        assert mask is None, "several tokens at once are for blocks of equally long sequences"
        if past == 0:
            return None, True
        square = torch.ones(count, past + count, dtype=torch.bool, device=block.layout.device)
        return square.tril_(past), False

    def _turns(self, positions: Tensor, upto: int) -> Turns:
        """The turns of the positions, from tables that grow."""
        if self._angles is None or self._angles[0].shape[0] < upto:
            self._angles = self._table(min(max(1024, 2 * upto), max(self._positions, upto)), positions.device)
        cos, sin = self._angles
        return cos[positions].unsqueeze(2), sin[positions].unsqueeze(2)

    def _table(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        like = torch.empty(1, dtype=self._dtype, device=device)
        cos, sin = self._rotary(like, torch.arange(length, device=device).unsqueeze(0))
        half = sin.shape[-1] // 2
        return cos[0].contiguous(), torch.cat((-sin[0, :, :half], sin[0, :, half:]), -1)


def _turn(x: Tensor, turns: Turns) -> Tensor:
    """Rotary embedding: x cos + rotate_half(x) sin, with rotate_half's sign moved into `sin`."""
    cos, sin = turns
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


def _layer(layer: Any) -> _Layer:
    attention = layer.self_attn
    normed = hasattr(attention, "q_norm")
    return _Layer(
        _norm(layer.input_layernorm),
        attention.q_proj.forward,
        attention.k_proj.forward,
        attention.v_proj.forward,
        _norm(attention.q_norm) if normed else None,
        _norm(attention.k_norm) if normed else None,
        attention.o_proj.forward,
        _norm(layer.post_attention_layernorm),
        _mlp(layer.mlp),
    )


def _mlp(mlp: Any) -> Apply:
    if set(dict(mlp.named_children())) != {"gate_proj", "up_proj", "down_proj", "act_fn"}:
        return lambda x: mlp(x.unsqueeze(0)).squeeze(0)
    gate, up, down, activation = mlp.gate_proj.forward, mlp.up_proj.forward, mlp.down_proj.forward, mlp.act_fn.forward
    return lambda x: down(activation(gate(x)) * up(x))


def _norm(norm: Any) -> _Norm:
    eps = getattr(norm, "variance_epsilon", None)
    return _Norm(norm.weight, float(eps if eps is not None else norm.eps))
