"""How a night trains: the recipe and what it resolves to for a model's size.

Knows nothing of torch, platforms or the store.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

# LoRA's best learning rate falls with the model's size; each ladder goes from gentle to strong.
TINY_PARAMETERS = 50_000_000
TINY_LADDER = (1e-3, 2e-3)
LARGE_LADDER = (5e-6, 2e-5, 5e-5)
TINY_ROOM, LARGE_ROOM = 160, 1024  # tokens of a row: a tiny model uses little but the last turns of a long chat


@dataclass(frozen=True)
class Recipe:
    """One objective over pairs and single replies, always against the anchor.

    `learning_rates` go from gentle to strong (empty: by the model's size). One is trained, and the
    largest of `shares` of the way from the anchor to it whose canaries hold is the candidate; only
    when all of the next gentler rate's way would go farther is that trained as well.
    `batch_size` counts pairs per optimiser step, `micro_batch_size` those per forward pass.
    """

    learning_rates: tuple[float, ...] = ()
    shares: tuple[float, ...] = (0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
    epochs: float = 3
    min_steps: int = 50
    max_steps: int = 600
    batch_size: int = 16
    micro_batch_size: int = 16
    warmup: float = 0.1
    max_grad_norm: float = 1.0
    beta: float = 0.1
    label_smoothing: float = 0.1
    pair_weight: float = 1.0
    sft_weight: float = 1.0
    rating_weight: float = 0.3
    tie_weight: float = 0.3
    tie_alpha: float = 1.1  # ν = e^α is about 3: two replies of equal odds are called equal every other time
    half_life: float = 0.0  # days after which a record counts half, beside the newest; 0: age counts nothing
    quarantine: int = 10  # choices and ratings after which a new teacher's word counts in full
    quarantine_weight: float = 0.25
    replay_weight: float = 4.0
    replay: int = 512
    replay_batch: int = 16
    replay_tokens: int = 160  # longer prompts are not replayed to, where there are shorter ones
    rounds: int = 3  # of practice: in each, replies are drawn anew
    drawn: int = 128  # prompts that replies are drawn to in a round; 0: people's records alone
    drawn_each: int = 4
    drawn_share: float = 0.5  # of a step's pairs
    rank: int = 16
    alpha: int = 32
    max_tokens: int = 0  # of a prompt and its longest reply, older turns are cut; 0: by the model's size
    canary_drop: float = 0.0075  # a candidate holds when canaries fall by no more: within the gate's
    sampled_within: float = 0.6  # of the gate's `sampled_drop`: by so much may a candidate's sampled canaries fall
    whole_until: int = 5000  # records; with more, a night goes on from the champion
    portion: int = 1000  # records of a night that goes on: all that are new, and older ones beside them
    folds: int = 5  # every record is judged by a reward that did not see it, fitted to the other folds
    gradient_checkpointing: bool = False

    def ladder(self, parameters: int) -> tuple[float, ...]:
        """Return the learning rates to try for a model of so many parameters."""
        if self.learning_rates:
            return tuple(sorted(self.learning_rates))
        return TINY_LADDER if parameters <= TINY_PARAMETERS else LARGE_LADDER

    def part(self, rounds: int) -> Recipe:
        """Return the recipe of one of so many rounds, which together make this one's steps."""
        return replace(
            self,
            min_steps=math.ceil(self.min_steps / rounds),
            max_steps=math.ceil(self.max_steps / rounds),
            epochs=self.epochs / rounds,
        )

    def room(self, parameters: int) -> int:
        """How many tokens a prompt and its longest reply may have together."""
        if self.max_tokens:
            return self.max_tokens
        return TINY_ROOM if parameters <= TINY_PARAMETERS else LARGE_ROOM

    def start(self, parameters: int) -> int:
        """The index of the rung to train first: the strongest for a tiny model, else the middle."""
        rungs = len(self.ladder(parameters))
        return rungs - 1 if parameters <= TINY_PARAMETERS else rungs // 2
