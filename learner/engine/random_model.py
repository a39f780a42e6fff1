"""Writes folders with models and LoRAs of random weights, for tests and benches: a shape without a mind.

Knows nothing of the engine but what its files look like.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from learner.engine.fingerprint import fingerprint
from learner.engine.templates import CHATML

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

TINY: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}

QWEN3_06B: dict[str, Any] = {
    "vocab_size": 151936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    "tie_word_embeddings": True,
}

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def write_model(
    folder: Path, kind: str = "qwen3", seed: int = 0, spread: float = 0.05, rounded: bool = False, **shape: Any
) -> Path:
    """Save a model of `kind` with normal weights of standard deviation `spread`, and a byte tokenizer.

    `rounded`: the weights are bf16 numbers (written in fp32), as those of published models are.
    """
    tokenizer = byte_tokenizer()
    ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0}
    config = AutoConfig.for_model(kind, **{"initializer_range": spread, **ids, **shape})
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    if rounded:
        model = model.to(torch.bfloat16).float()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are the bytes, after three special ones, with the ChatML template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=SPECIAL[2], pad_token=SPECIAL[0], additional_special_tokens=[SPECIAL[1]]
    )
    fast.chat_template = CHATML
    return fast


def write_lora(
    folder: Path,
    base: Path,
    model: PreTrainedModel,
    seed: int,
    rank: int = 8,
    targets: Sequence[str] = LINEARS,
    spread: float = 0.05,
) -> Path:
    """Save a LoRA for `model` (loaded from `base`) with PEFT, its B random too; `model` is left as it was."""
    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(targets), task_type="CAUSAL_LM")
    peft_model = get_peft_model(model, config)
    for name, parameter in peft_model.named_parameters():
        if ".lora_" in name:
            torch.nn.init.normal_(parameter, std=spread)
    peft_model.save_pretrained(folder)
    peft_model.unload()
    write_card(folder, base, rank, 2 * rank, targets)
    return folder


def write_card(folder: Path, base: Path, rank: int, alpha: int, targets: Sequence[str]) -> None:
    """Write the LoRA's nightschool.json."""
    card = {
        "version": folder.name,
        "base": fingerprint(base),
        "rank": rank,
        "alpha": alpha,
        "target_modules": sorted(targets),
        "parent": None,
        "mind": "default",
        "records": {},
        "recipe": {},
        "run": 0,
    }
    (folder / "nightschool.json").write_text(json.dumps(card, indent=2), encoding="utf-8")
