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
from learner.training.logprobs import Padded, Row, padded, reply_logps, token_logps
from learner.training.losses import pair_loss, rating_loss, token_nll
from learner.training.model import Weights, restore, snapshot
from learner.training.recipe import Recipe

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
    """A planned step -> the padded replies of its examples and their anchor log-probabilities."""

    def __init__(self, examples: Sequence[Example], reference: Sequence[tuple[float, ...]], pad: int) -> None:
        self.examples, self.reference, self.pad = examples, reference, pad

    def __call__(self, steps: list[dict[str, list[int]]]) -> dict[str, Tensor]:
        indices = [index for step in steps for index in step["examples"]]
        pairs = [i for i in indices if self.examples[i].kind == "pair"]
        singles = [i for i in indices if self.examples[i].kind != "pair"]
        places = [(i, 0) for i in pairs] + [(i, 1) for i in pairs] + [(i, 0) for i in singles]
        batch = padded([(self.examples[i].prompt, self.examples[i].replies[k]) for i, k in places], self.pad)
        return {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
            "reply_mask": batch.reply_mask,
            "reference": torch.tensor([self.reference[i][k] for i, k in places]),
            "pairs": torch.tensor(len(pairs)),
            "desirable": torch.tensor([self.examples[i].kind == "good" for i in singles], dtype=torch.bool),
        }


class PreferenceTrainer(DPOTrainer):
    """DPOTrainer whose rows are planned steps of tokens as the model saw and made them.

    The reference is always the anchor: its log-probabilities come with the batch, so that TRL
    neither copies last night's LoRA as a reference nor runs one.
    """

    def __init__(self, recipe: Recipe, **kwargs: Any) -> None:
        self.recipe = recipe
        super().__init__(**kwargs)

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset  # tokenised already: rendering again could give other tokens than were made

    def _send_telemetry(self) -> None:
        return None

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool) -> Tensor:
        recipe, pairs = self.recipe, int(inputs["pairs"])
        logps = token_logps(model, Padded(inputs["input_ids"], inputs["attention_mask"], inputs["reply_mask"]))
        ratio = logps.sum(dim=1) - inputs["reference"]
        loss = ratio.sum() * 0.0
        if pairs:
            chosen, rejected = ratio[:pairs], ratio[pairs : 2 * pairs]
            loss = loss + pair_loss(chosen, rejected, recipe.beta, recipe.label_smoothing).mean()
            loss = loss + recipe.sft_weight * token_nll(logps[:pairs], inputs["reply_mask"][:pairs, 1:])
        if len(ratio) > 2 * pairs:
            rated = rating_loss(ratio[2 * pairs :], inputs["desirable"], recipe.beta)
            loss = loss + recipe.rating_weight * rated.mean()
        return loss


class StepReport(TrainerCallback):
    """Tells how far a training is, and stops nothing."""

    def __init__(self, on_step: OnStep) -> None:
        self.on_step = on_step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.on_step(state.global_step / max(1, state.max_steps))


def reference_logps(model: nn.Module, examples: Sequence[Example], pad: int) -> list[tuple[float, ...]]:
    """The anchor's log-probability of every reply, once, before the first step."""
    rows: list[Row] = [(example.prompt, reply) for example in examples for reply in example.replies]
    values = iter(reply_logps(model, rows, pad))
    return [tuple(next(values) for _ in example.replies) for example in examples]


def train(
    model: PeftModel,
    tokenizer: Any,
    examples: Sequence[Example],
    reference: Sequence[tuple[float, ...]],
    anchor: Weights,
    recipe: Recipe,
    rung: Rung,
    scratch: str,
    on_step: OnStep,
) -> Trained:
    """Train the LoRA from `anchor` at one learning rate and return its weights.

    `reference` holds the anchor's log-probability of each example's replies; `scratch` is where
    the trainer may write, though it saves nothing.
    """
    steps = plan.batches(examples, recipe, rung.seed)
    trainer = PreferenceTrainer(
        recipe,
        model=model,
        args=_arguments(recipe, rung, scratch, str(model.device)),
        processing_class=tokenizer,
        train_dataset=Dataset.from_dict({"prompt": [""] * len(steps), "examples": steps}),
        data_collator=PreferenceCollator(examples, reference, tokenizer.pad_token_id),
        callbacks=[StepReport(on_step)],
    )
    _undo_copies(model)
    restore(model, anchor)
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
