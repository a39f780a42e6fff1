"""The starter model's shape, its files, and one training step on several one-thread workers.

Knows nothing of intents or chats. A worker a core, each with its own half of the batch, waits for the
others once a step; torch's own threads wait at every operation, which is slow on a busy machine.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GenerationConfig, PreTrainedTokenizerBase, Qwen3Config, Qwen3ForCausalLM

from tokens import CONTEXT, VOCABULARY

PEAK_RATE, LAST_RATE, WARMUP = 5e-3, 3e-5, 0.03
Batch = tuple[Tensor, Tensor]  # token ids, and which of them are learned


def new_network(tokenizer: PreTrainedTokenizerBase) -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=448,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="eager",  # for chats this short it trains faster than fused attention on a CPU
    )
    return Qwen3ForCausalLM(config)


def network_in(folder: Path) -> Qwen3ForCausalLM:
    """The network that was saved in `folder`, in 32 bits, to be trained further."""
    return Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")


def save(network: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the network in 16 bits beside its tokenizer, each file moved into `folder` when complete."""
    building = folder.with_name(folder.name + ".building")
    halved = Qwen3ForCausalLM(network.config).half()
    halved.load_state_dict(network.state_dict())
    halved.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.9,
        top_p=0.95,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    halved.save_pretrained(building)
    tokenizer.save_pretrained(building, save_jinja_files=False)
    folder.mkdir(parents=True, exist_ok=True)
    for file in building.iterdir():
        file.chmod(0o644)
        os.replace(file, folder / file.name)
    shutil.rmtree(building)


def rate_at(progress: float, peak: float = PEAK_RATE) -> float:
    """The learning rate when `progress` (0 to 1) of the run is done: a short warm-up, then half a cosine."""
    if progress < WARMUP:
        return peak * max(progress, 1e-3) / WARMUP
    along = min(1.0, (progress - WARMUP) / (1 - WARMUP))
    return LAST_RATE + (peak - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * along))


def loss_sum(network: Qwen3ForCausalLM, batch: Batch) -> Tensor:
    """The summed cross-entropy of the learned tokens; the vocabulary is only computed where they stand."""
    ids, learned = batch
    hidden = network.model(input_ids=ids, use_cache=False).last_hidden_state
    wanted = learned[:, 1:]
    logits = network.lm_head(hidden[:, :-1][wanted]).float()
    return F.cross_entropy(logits, ids[:, 1:][wanted], reduction="sum")


@dataclass
class Trainer:
    """Muon for the matrices, AdamW for the rest, on 32-bit weights; the workers read a copy in `dtype`.

    Muon needs about half as many steps here as AdamW alone.
    """

    network: Qwen3ForCausalLM
    workers: int
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        self.pools = [ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) for _ in range(self.workers)]
        matrices = [p for n, p in self.network.named_parameters() if p.ndim > 1 and "embed" not in n]
        others = [p for n, p in self.network.named_parameters() if p.ndim < 2 or "embed" in n]
        self.optimizers = [
            torch.optim.Muon(matrices, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
        ]
        self.use(self.dtype)

    def use(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.copy = Qwen3ForCausalLM(self.network.config).to(dtype)
        self._refresh()

    def compile(self, batches: Sequence[Batch]) -> None:
        """Compile the layers, where a C++ compiler is at hand: 1.6 times as fast. Give batches of several shapes."""
        if not (shutil.which("g++") or shutil.which("clang++")):
            return
        for layer in self.copy.model.layers:
            layer.compile(dynamic=True)
        for pool in self.pools:  # one after the other: two threads must not compile at once
            for batch in batches:
                pool.submit(self.gradients, batch).result()

    def _gradients_of(self, batches: Sequence[Batch]) -> list[tuple[float, list[Tensor]]]:
        """Each worker's loss and gradients of its own batch, at the same time."""
        started = [pool.submit(self.gradients, batch) for pool, batch in zip(self.pools, batches, strict=True)]
        return [one.result() for one in started]

    def gradients(self, batch: Batch) -> tuple[float, list[Tensor]]:
        loss = loss_sum(self.copy, batch)
        return loss.item(), list(torch.autograd.grad(loss, list(self.copy.parameters())))

    def step(self, batches: list[Batch], rate: float) -> float:
        """Learn from one batch a worker; return the mean loss a token."""
        results = self._gradients_of(batches)
        count = sum(int(learned[:, 1:].sum()) for _, learned in batches)
        for index, weight in enumerate(self.network.parameters()):
            weight.grad = sum(grads[index].float() for _, grads in results) / count
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        self._refresh()
        return sum(loss for loss, _ in results) / count

    def faster_dtype(self, batches: list[Batch], rounds: int = 3) -> tuple[torch.dtype, dict[str, float]]:
        """Return the dtype whose gradients take less time here, and the seconds of each."""
        seconds = {}
        for dtype in (torch.float32, torch.bfloat16):
            self.use(dtype)
            self._gradients_of(batches)
            start = time.perf_counter()
            for _ in range(rounds):
                self._gradients_of(batches)
            seconds[dtype] = (time.perf_counter() - start) / rounds
        return min(seconds, key=seconds.get), {str(dtype): round(taken, 3) for dtype, taken in seconds.items()}

    @torch.no_grad()
    def _refresh(self) -> None:
        for copied, weight in zip(self.copy.parameters(), self.network.parameters(), strict=True):
            copied.copy_(weight)
