"""What a training on one's own data is asked to do: its settings, and what makes two of them the same run.

Knows nothing of torch, of the data itself or of how anything is trained.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["sft", "pretrain"]
Method = Literal["qlora", "lora", "full"]
Quantisation = Literal["none", "nf4", "int8"]

TINY_PARAMETERS = 50_000_000
# By method: for a model of a few million parameters, and for one of a billion or more.
RATES: dict[Method, tuple[float, float]] = {"qlora": (2e-3, 2e-4), "lora": (2e-3, 2e-4), "full": (5e-4, 1e-5)}

# What may differ between a run and the one that goes on with it.
FREE = ("output", "micro_batch", "threads", "memory_gb")


class TrainingRefused(Exception):
    """A training cannot begin or go on; the message says why and what to do."""


@dataclass(frozen=True)
class TuningSettings:
    """One training. `base` is a model's name as in config.toml, `data` files of dialogues (sft) or texts (pretrain).

    `batch` counts packed rows of `max_length` tokens in an optimiser step, over all processes together; as many as
    `micro_batch` go through the model at once in each. `start` is a LoRA folder to go on from. `memory_gb` is how much
    a training may take (0: all there is). 0 and "auto" mean:
    by the model's size and the machine.
    """

    kind: Kind
    data: tuple[str, ...]
    base: str
    output: str
    method: Method = "lora"
    quantisation: Quantisation = "none"
    start: str = ""
    device: str = "auto"
    dtype: str = "auto"
    rank: int = 16
    alpha: int = 32
    epochs: float = 3.0
    max_steps: int = 0
    learning_rate: float = 0.0
    warmup: float = 0.05
    weight_decay: float = 0.0
    batch: int = 8
    micro_batch: int = 0
    max_length: int = 1024
    packing: bool = True
    gradient_checkpointing: bool = False
    held_out: float = 0.1
    most_held_out: int = 500
    evaluations: int = 10
    eval_every: int = 0
    patience: int = 3
    keep_thinking: bool = False
    template: str = "auto"
    probes: tuple[str, ...] = ()
    seed: int = 0
    threads: int = 0
    memory_gb: float = 0.0

    def rate(self, parameters: int) -> float:
        """The learning rate for a model of so many parameters."""
        tiny, large = RATES[self.method]
        return self.learning_rate or (tiny if parameters <= TINY_PARAMETERS else large)

    def identity(self, data: str, base: str, start: str) -> dict[str, Any]:
        """What must be the same for a run to go on: all settings, and what the files hold by their digests."""
        kept = {name: value for name, value in dataclasses.asdict(self).items() if name not in FREE}
        kept |= {"data": data, "base": base, "start": start, "probes": list(self.probes)}
        return kept


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names of the settings in which two identities differ, each with both values."""
    names = sorted({*one, *other})
    return [
        f"{name}: {one.get(name)!r} then, {other.get(name)!r} now" for name in names if one.get(name) != other.get(name)
    ]
