"""What the local engine is to run, and how much of the machine it may take. Knows nothing of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LocalSettings:
    """What to run and how much of the machine to take.

    `model` is a folder, a Hugging Face id or `modelscope:ID`; `anchor` the folder of a LoRA that stands where the
    base alone would. `max_batch` candidates are decoded at once,
    `max_queue` requests may wait. `threads` None: one for tiny models, else torch's default.
    `weight_copy`: on CPU in fp32, decode from 16-bit copies of weights that are 16-bit numbers anyway
    (half the memory to read per token; half as much memory again, taken only where a quarter of it is free).
    `template`: one of learner/engine/templates.py instead of the tokenizer's own chat template.
    `thinking`: let a template that can ask for thoughts do so. Thoughts are no part of replies unless `show_thoughts`.
    """

    model: str
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    quantisation: Literal["none", "nf4"] = "none"
    max_batch: int = 8
    max_queue: int = 32
    kv_cache_bytes: int = 2**30
    threads: int | None = None
    context_length: int | None = None
    prefill_chunk: int = 512
    weight_copy: Literal["auto", "off"] = "auto"
    forward: Literal["auto", "general"] = "auto"
    anchor: str = ""
    template: str = "auto"
    thinking: bool = False
    show_thoughts: bool = False
