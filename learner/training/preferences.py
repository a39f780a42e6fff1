"""Preference training with TRL: pairs, ratings and the SFT term in ONE objective.

TRL's DPOTrainer runs the loop; the batches (pairs and single replies together), the loss and the
reference are ours. Knows nothing of runs, gates or files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL reports every trainer it builds

import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor, nn
from transformers import TrainerCallback
from trl import DPOConfig, DPOTrainer

from learner.training import plan
from learner.training.examples import Example
from learner.training.logprobs import Packed, branch_logps, grouped, packed, reply_logps, scored_logps
from learner.training.losses import pair_loss, rating_loss, tie_loss, token_nll
from learner.training.model import Weights, restore, snapshot
from learner.training.plan import KINDS
from learner.training.recipe import Recipe
from learner.training.replay import Kept, divergence
from learner.training.trace import Trace

Logps = Sequence[tuple[float, ...]]
OnStep = Callable[[float], None]


@dataclass(frozen=True)
class Trained:
    """What one training gave."""

    weights: Weights
    learning_rate: float
    steps: int
    loss: float


@dataclass(frozen=True)
class Rung:
    """One training to run: which rate, which seed."""

    learning_rate: float
    seed: int


class PreferenceCollator:
    """A planned step -> its examples packed in groups of like length, with the anchor's log-probabilities."""

    def __init__(self, examples: Sequence[Example], reference: Logps, kept: Sequence[Kept]) -> None:
        self.examples, self.reference, self.kept = examples, reference, kept
        self.weights = plan.relative_weights(examples)

    def __call__(self, steps: list[dict[str, list[int]]]) -> dict[str, Any]:
        indices = [index for step in steps for index in step["examples"]]
        chosen = [self.examples[index] for index in indices]
        groups = grouped([(example.prompt, example.replies) for example in chosen])
        replayed = [self.kept[index] for step in steps for index in step["replay"]]
        return {
            "groups": [self._group([indices[i] for i in group]) for group in groups],
            "replay": [_replay_group(replayed)] if replayed else [],
        }

    def _group(self, indices: Sequence[int]) -> dict[str, Tensor | int]:
        members = [self.examples[index] for index in indices]
        batch = packed([(example.prompt, example.replies) for example in members])
        most = max(len(example.replies) for example in members)
        fill = [(0.0,) * (most - len(example.replies)) for example in members]
        return {
            **vars(batch),
            "reference": torch.tensor([(*self.reference[i], *rest) for i, rest in zip(indices, fill, strict=True)]),
            "lengths": torch.tensor([[*map(len, one.replies), *rest] for one, rest in zip(members, fill, strict=True)]),
            "kind": torch.tensor([KINDS.index(example.kind) for example in members]),
            "doubt": torch.tensor([example.doubt for example in members]),
            "weight": torch.tensor([self.weights[i] for i in indices]),
        }


class PreferenceTrainer(DPOTrainer):
    """DPOTrainer whose rows are planned steps of tokens as the model saw and made them.

    The reference is always the anchor: its log-probabilities come with the batch, so that TRL
    neither copies last night's LoRA as a reference nor runs one.
    """

    def __init__(self, recipe: Recipe, trace: Trace, **kwargs: Any) -> None:
        self.recipe, self.trace = recipe, trace
        super().__init__(**kwargs)

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset  # tokenised already: rendering again could give other tokens than were made

    def _send_telemetry(self) -> None:
        return None

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool) -> Tensor:
        parts = [_scored(model, group) for group in inputs["groups"]]
        logps, reference, lengths, kind, doubt, weight = (_joined([part[k] for part in parts]) for k in range(6))
        loss = objective(logps, reference, lengths, kind, doubt, weight, self.recipe)
        for group in inputs["replay"]:
            own = scored_logps(model, _packed(group))
            loss = loss + self.recipe.replay_weight * divergence(own, group["tokens"], group["anchor"])
        self.trace.seen(loss.item(), record_margins(logps, reference, kind, self.recipe.beta))
        return loss


def objective(
    logps: Tensor, reference: Tensor, lengths: Tensor, kind: Tensor, doubt: Tensor, weight: Tensor, recipe: Recipe
) -> Tensor:
    """The loss of a step. `logps`, `reference` and `lengths` are [examples, replies], zero where there is one.

    `kind`, `doubt` and `weight` are [examples]; weights have mean 1 over a training.
    """
    ratio, shown = logps - reference, lengths > 0
    pairs = (kind == KINDS.index("pair")) | (kind == KINDS.index("drawn"))
    loss = ratio.sum() * 0.0
    if pairs.any():
        chosen, rejected = ratio[pairs, 0], ratio[pairs, 1]
        smoothing = doubt[pairs].clamp(min=recipe.label_smoothing)
        preferred = (weight[pairs] * pair_loss(chosen, rejected, recipe.beta, smoothing)).mean()
        loss = loss + recipe.pair_weight * preferred
        loss = loss + recipe.sft_weight * token_nll(logps[pairs, 0], lengths[pairs, 0], weight[pairs])
    ties = kind == KINDS.index("tie")
    if ties.any():
        tied = tie_loss(ratio[ties, 0], ratio[ties, 1], recipe.beta, recipe.tie_alpha)
        loss = loss + recipe.tie_weight * (weight[ties] * tied).mean()
    rated = shown & ~(pairs | ties)[:, None]
    if rated.any():
        desirable = (kind == KINDS.index("good"))[:, None].expand_as(ratio)
        counts = weight[:, None].expand_as(ratio)[rated]
        judged = rating_loss(ratio[rated], desirable[rated], recipe.beta)
        loss = loss + recipe.rating_weight * (counts * judged).mean()
    return loss


@torch.no_grad()
def record_margins(logps: Tensor, reference: Tensor, kind: Tensor, beta: float) -> list[float]:
    """β·(log-ratio chosen − log-ratio rejected) of each pair that somebody chose; drawn pairs are nobody's."""
    ratio = (logps - reference)[kind == KINDS.index("pair")]
    return (beta * (ratio[:, 0] - ratio[:, 1])).tolist() if len(ratio) else []


def _scored(model: nn.Module, group: dict[str, Any]) -> list[Tensor]:
    names = ("reference", "lengths", "kind", "doubt", "weight")
    return [branch_logps(model, _packed(group)), *(group[name] for name in names)]


def _packed(group: dict[str, Any]) -> Packed:
    return Packed(**{name: group[name] for name in ("ids", "positions", "branch", "labels", "keep")})


def _replay_group(kept: Sequence[Kept]) -> dict[str, Any]:
    return {
        **vars(packed([one.row for one in kept])),
        "tokens": torch.cat([one.tokens for one in kept]),
        "anchor": torch.cat([one.logps for one in kept]),
    }


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Groups one after the other; those of single replies get a second, empty column."""
    if parts[0].dim() == 1:
        return torch.cat(list(parts))
    most = max(part.shape[1] for part in parts)
    return torch.cat([nn.functional.pad(part, (0, most - part.shape[1])) for part in parts])


class StepReport(TrainerCallback):
    """Tells how far a training is, and stops nothing."""

    def __init__(self, on_step: OnStep, trace: Trace) -> None:
        self.on_step, self.trace = on_step, trace

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trace.step()
        self.on_step(state.global_step / max(1, state.max_steps))


def reply_logps_of(model: nn.Module, examples: Sequence[Example]) -> list[tuple[float, ...]]:
    """log π of every reply of every example; with the anchor's weights, the reference."""
    return reply_logps(model, [(example.prompt, example.replies) for example in examples])


def train(
    model: PeftModel,
    tokenizer: Any,
    examples: Sequence[Example],
    reference: Logps,
    start: Weights,
    recipe: Recipe,
    rung: Rung,
    scratch: str,
    on_step: OnStep,
    kept: Sequence[Kept] = (),
    trace: Trace | None = None,
) -> Trained:
    """Train the LoRA from `start` at one learning rate and return its weights.

    `reference` holds the anchor's log-probability of each example's replies; `scratch` is where
    the trainer may write, though it saves nothing.
    """
    trace = trace or Trace()
    steps = plan.batches(examples, recipe, rung.seed)
    replay = plan.replayed(len(kept), len(steps), recipe, rung.seed)
    trainer = PreferenceTrainer(
        recipe,
        trace,
        model=model,
        args=_arguments(recipe, rung, scratch, str(model.device)),
        processing_class=tokenizer,
        train_dataset=Dataset.from_dict({"prompt": [""] * len(steps), "examples": steps, "replay": replay}),
        data_collator=PreferenceCollator(examples, reference, kept),
        callbacks=[StepReport(on_step, trace)],
    )
    _undo_copies(model)
    restore(model, start)
    result = trainer.train()
    model.eval()
    return Trained(snapshot(model), rung.learning_rate, result.global_step, result.training_loss)


def _arguments(recipe: Recipe, rung: Rung, scratch: str, device: str) -> DPOConfig:
    """TRL's settings; several defaults are wrong for us, see "Traps" in the design notes."""
    return DPOConfig(
        output_dir=scratch,
        learning_rate=rung.learning_rate,
        seed=rung.seed,
        num_train_epochs=1,  # the plan holds all epochs
        per_device_train_batch_size=1,  # a row of the plan is a whole step
        gradient_accumulation_steps=plan.accumulation(recipe),
        train_sampling_strategy="sequential",
        lr_scheduler_type="linear",
        warmup_steps=recipe.warmup,
        max_grad_norm=recipe.max_grad_norm,
        adam_beta2=0.99,  # a night has few steps
        bf16=False,  # the model's own dtype; autocast on a CPU is 2.8 times slower
        gradient_checkpointing=recipe.gradient_checkpointing,
        use_cpu=device == "cpu",
        remove_unused_columns=False,
        precompute_ref_log_probs=False,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        max_length=None,
    )


def _undo_copies(model: PeftModel) -> None:
    """Drop the "ref" LoRA that TRL adds, and make trainable weights fp32 again.

    TRL casts them to bf16 on a quantised base, where small updates vanish.
    """
    if "ref" in model.peft_config:
        model.delete_adapter("ref")
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
