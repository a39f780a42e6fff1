"""A tiny random model, records about it, and a LoRA on disk: what the tests of a night need."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path

from learner.engine.base import ChatMessage
from learner.records import PreferencePair, PreferenceRecords, Provenance, RatedReply
from learner.training.canaries import Canary

END, PAD = "<|im_end|>", "<|endoftext|>"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_model(folder: Path, seed: int = 0) -> Path:
    """Write a random Qwen3 of a hundred thousand parameters with a byte-level tokenizer."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    alphabet = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (PAD, "<|im_start|>", END)])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=END)
    wrapped.chat_template = TEMPLATE
    wrapped.save_pretrained(folder)
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(wrapped),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        tie_word_embeddings=True,
        eos_token_id=wrapped.eos_token_id,
        pad_token_id=wrapped.pad_token_id,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder


def pair(number: int, chosen: str = "yes, dear", rejected: str = "no") -> PreferencePair:
    """A choice between two texts that have no tokens yet."""
    return PreferencePair(
        prompt=(ChatMessage("user", f"question {number}"),),
        prompt_ids=(),
        chosen=chosen,
        rejected=rejected,
        chosen_ids=None,
        rejected_ids=None,
        source="choice",
        provenance=provenance(number),
    )


def rating(number: int, desirable: bool = False, text: str = "no") -> RatedReply:
    """A reply that somebody rated."""
    return RatedReply(
        prompt=(ChatMessage("user", f"remark {number}"),),
        prompt_ids=(),
        completion=text,
        completion_ids=None,
        desirable=desirable,
        source="rating",
        provenance=provenance(1000 + number),
    )


def provenance(number: int) -> Provenance:
    return Provenance(f"x{number}", "chat", "console:owner", "s", 1.0 * number, (None, None))


def some_records(pairs: int = 30, ratings: int = 10) -> PreferenceRecords:
    """Pairs that always prefer one text, and ratings that agree with them."""
    return PreferenceRecords(
        tuple(pair(number) for number in range(pairs)),
        tuple(rating(number, number % 2 == 0, "yes, dear" if number % 2 == 0 else "no") for number in range(ratings)),
        ties=3,
        left_out={"untrusted": 1},
    )


def some_canaries(count: int = 6) -> tuple[Canary, ...]:
    """Canaries that anything passes but for its ending."""
    return tuple(Canary((ChatMessage("user", f"canary {number}"),), (), None) for number in range(count))


@dataclass(frozen=True)
class FakeLora:
    """A LoRA folder without a model: one layer, rank 4."""

    version: str = "0001"
    mind: str = "default"
    base: str = "base-fingerprint"
    rank: int = 4
    alpha: int = 8
    targets: tuple[str, ...] = ("q_proj",)
    parent: str | None = None
    extra: dict[str, object] = field(default_factory=dict)

    def write(self, folder: Path, poison: float | None = None) -> Path:
        """Write it; `poison` replaces one weight."""
        import numpy
        from safetensors.numpy import save_file

        folder.mkdir(parents=True)
        source = random.Random(0)
        weights = {
            "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": (self.rank, 6),
            "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": (5, self.rank),
        }
        arrays = {
            name: numpy.array([[source.random() for _ in range(shape[1])] for _ in range(shape[0])], dtype="float32")
            for name, shape in weights.items()
        }
        if poison is not None:
            next(iter(arrays.values()))[0, 0] = poison
        save_file(arrays, folder / "adapter_model.safetensors")
        config = {"r": self.rank, "lora_alpha": self.alpha, "target_modules": list(self.targets)}
        (folder / "adapter_config.json").write_text(json.dumps(config), "utf-8")
        card = {
            "version": self.version,
            "mind": self.mind,
            "base": self.base,
            "rank": self.rank,
            "alpha": self.alpha,
            "target_modules": list(self.targets),
            "parent": self.parent,
            "records": {"pairs": 1, "ratings": 0, "exchanges": ["x1"]},
            "recipe": {},
            "run": int(self.version),
            **self.extra,
        }
        (folder / "nightschool.json").write_text(json.dumps(card), "utf-8")
        return folder
