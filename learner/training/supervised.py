"""Training on rows with TRL: packed without seeing each other, loss on what is learned, held-out loss by token.

TRL's SFTTrainer runs the loop; batches, packing and the held-out measure are ours. Knows nothing of files or runs.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL reports every trainer it builds

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from learner.training.corpus import Row
from learner.training.packing import pack
from learner.training.runs import COMPLETE
from learner.training.tuning import TuningSettings

IGNORED = -100


@dataclass(frozen=True)
class Measured:
    """What the model makes of the held-out part: the mean loss of a token in nats, and how many tokens."""

    loss: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """e to the loss."""
        return math.exp(min(self.loss, 700.0))


@dataclass(frozen=True)
class Plan:
    """Rows in bins, and how many steps a training takes over them."""

    bins: list[list[int]]
    steps: int
    micro_batch: int
    accumulation: int
    every: int  # steps between two looks at the held-out part; a checkpoint is written as often


class Collator:
    """Bins of rows -> ids, positions and labels, [bins, width] each; every row's positions begin at 0.

    Without an attention mask the model lets no token see beyond where positions begin anew: neighbours in a bin
    and the padding are strangers to each other.
    """

    def __init__(self, rows: Sequence[Row], padding: int) -> None:
        self.rows, self.padding = rows, padding

    def __call__(self, bins: Sequence[dict[str, list[int]]]) -> dict[str, Tensor]:
        parts = [[self.rows[row] for row in one["rows"]] for one in bins]
        width = max(sum(map(len, rows)) for rows in parts)
        ids = torch.full((len(parts), width), self.padding, dtype=torch.long)
        positions = torch.zeros((len(parts), width), dtype=torch.long)
        labels = torch.full((len(parts), width), IGNORED, dtype=torch.long)
        for line, rows in enumerate(parts):
            at = 0
            for row in rows:
                end = at + len(row)
                tokens = torch.from_numpy(row.tokens).long()
                ids[line, at:end], positions[line, at:end] = tokens, torch.arange(len(row))
                labels[line, at:end] = torch.where(torch.from_numpy(row.learned), tokens, IGNORED)
                at = end
            positions[line, at:] = torch.arange(width - at)
        return {"input_ids": ids, "position_ids": positions, "labels": labels}


class SupervisedTrainer(SFTTrainer):
    """SFTTrainer over planned bins, whose evaluation is the mean loss of a held-out token, however it is batched."""

    def __init__(self, held: Sequence[dict[str, list[int]]], held_rows: Sequence[Row], **kwargs: Any) -> None:
        self._held, self._held_collator = held, Collator(held_rows, kwargs["data_collator"].padding)
        self.measured: Measured | None = None
        self.control: Any
        super().__init__(**kwargs)

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset  # tokens already

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """None: a checkpoint is nobody's model."""

    def _send_telemetry(self) -> None:
        return None

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The held-out loss and perplexity; every process measures its share."""
        self.measured = found = self.measure()
        metrics = {"eval_loss": found.loss, "eval_perplexity": found.perplexity, "epoch": self.state.epoch or 0.0}
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    @torch.no_grad()
    def measure(self) -> Measured:
        """What the model makes of the held-out part now."""
        model = self.model
        was_training = model.training
        model.eval()
        size, sums = self.args.per_device_train_batch_size, torch.zeros(2, dtype=torch.float64)
        mine = self._held[self.accelerator.process_index :: self.accelerator.num_processes]
        for start in range(0, len(mine), size):
            batch = self._held_collator(mine[start : start + size])
            moved = {name: tensor.to(self.args.device) for name, tensor in batch.items()}
            output = model(**moved, use_cache=False, fused_lm_head=True)
            sums += torch.tensor([-output.log_probs.double().sum().item(), output.label_mask.sum().item()])
        model.train(was_training)
        total, tokens = self.accelerator.reduce(sums.to(self.args.device).float(), "sum").tolist()
        return Measured(total / max(1.0, tokens), int(tokens))


class Watch(TrainerCallback):
    """Tells of steps and looks, and marks checkpoints that were written whole."""

    def __init__(self, on_step: Callable[[int, int, float], None], on_look: Callable[[int, float], None]) -> None:
        """`on_step` hears the step, of how many, and the loss; `on_look` the step and the held-out loss."""
        self._on_step, self._on_look, self._loss = on_step, on_look, math.nan

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self._loss = (logs or {}).get("loss", self._loss)
        self._on_step(state.global_step, state.max_steps, self._loss)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
        self._on_look(state.global_step, metrics["eval_loss"])

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE).touch()


def plan(rows: Sequence[Row], settings: TuningSettings, micro_batch: int, processes: int) -> Plan:
    """How `rows` are trained on: the steps are the same for any number of processes and any micro batch."""
    bins = binned(rows, settings)
    each = max(1, min(micro_batch, settings.batch // processes))
    accumulation = max(1, round(settings.batch / (each * processes)))
    an_epoch = math.ceil(len(bins) / (each * processes) / accumulation)
    steps = settings.max_steps or max(1, math.ceil(an_epoch * settings.epochs))
    every = settings.eval_every or max(1, steps // max(1, settings.evaluations))
    return Plan(bins, steps, each, accumulation, every)


def binned(rows: Sequence[Row], settings: TuningSettings) -> list[list[int]]:
    """Rows in bins of `max_length` tokens, or each in one of its own."""
    lengths = [len(row) for row in rows]
    return pack(lengths, settings.max_length) if settings.packing else [[row] for row in range(len(rows))]


def filled_share(planned: Plan, rows: Sequence[Row], settings: TuningSettings) -> float:
    """How full the bins are, beside the fullest."""
    sizes = [sum(len(rows[row]) for row in one) for one in planned.bins]
    return sum(sizes) / (len(sizes) * max(sizes))


def trainer(
    model: nn.Module,
    tokenizer: Any,
    rows: Sequence[Row],
    held: Sequence[Row],
    planned: Plan,
    settings: TuningSettings,
    rate: float,
    folder: Path,
    watch: Watch,
) -> SupervisedTrainer:
    """What trains `model` as planned; checkpoints go to `folder`."""
    bins = Dataset.from_dict({"rows": planned.bins})
    made = SupervisedTrainer(
        held=[{"rows": one} for one in binned(held, settings)],
        held_rows=held,
        model=model,
        args=_arguments(planned, settings, rate, folder, next(model.parameters()).device.type, bool(held)),
        processing_class=tokenizer,
        train_dataset=bins,
        eval_dataset=bins.select(range(1)) if held else None,  # `evaluate` reads its own
        data_collator=Collator(rows, tokenizer.pad_token_id),
        callbacks=[watch, *([EarlyStoppingCallback(settings.patience)] if held and settings.patience else [])],
    )
    made.remove_callback(PrinterCallback)
    whole_numbers(model)
    return made


def whole_numbers(model: nn.Module) -> None:
    """Make trainable weights fp32 again: TRL casts them to bf16 on a quantised base, where small updates vanish."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def keeps_rows_apart(model: Any, padding: int, vocabulary: int) -> bool:
    """Whether the model's logits are those of rows alone when two share a bin; not every model heeds positions."""
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randint(0, vocabulary, (n,), generator=generator) for n in (7, 9))
    learned = [Row(part.int().numpy(), torch.ones(len(part), dtype=torch.bool).numpy()) for part in (one, other)]
    batch = Collator(learned, padding)([{"rows": [0, 1]}])
    device = next(model.parameters()).device
    model.eval()
    with torch.no_grad():
        both = model(
            input_ids=batch["input_ids"].to(device), position_ids=batch["position_ids"].to(device), use_cache=False
        ).logits[0, 7:]
        alone = model(input_ids=other[None].to(device), use_cache=False).logits[0]
    return bool((both - alone).abs().max() <= 0.02 * alone.abs().max() + 1e-4)


def optimiser(device: str) -> str:
    """Paged 8-bit AdamW where there is a GPU and bitsandbytes, else AdamW in fp32."""
    from importlib.util import find_spec

    return "paged_adamw_8bit" if device == "cuda" and find_spec("bitsandbytes") else "adamw_torch"


def _arguments(
    planned: Plan, settings: TuningSettings, rate: float, folder: Path, device: str, looks: bool
) -> SFTConfig:
    """TRL's settings; a look and a checkpoint fall on the same step, so that the best can be gone back to."""
    mixed = device == "cuda" and settings.method == "full"
    return SFTConfig(
        output_dir=str(folder),
        max_steps=planned.steps,
        per_device_train_batch_size=planned.micro_batch,
        gradient_accumulation_steps=planned.accumulation,
        learning_rate=rate,
        lr_scheduler_type="cosine",
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        max_grad_norm=1.0,
        adam_beta2=0.99,
        optim=optimiser(device),
        seed=settings.seed,
        bf16=mixed,  # weights in fp32, products in 16 bits; a LoRA's base has its own dtype
        gradient_checkpointing=settings.gradient_checkpointing,
        use_cpu=device == "cpu",
        ddp_backend="gloo" if device == "cpu" and int(os.environ.get("WORLD_SIZE", "1")) > 1 else None,
        ddp_find_unused_parameters=False,
        remove_unused_columns=False,
        max_length=None,
        packing=False,  # done already
        eval_strategy="steps" if looks else "no",
        eval_steps=planned.every,
        save_strategy="steps",
        save_steps=planned.every,
        save_total_limit=2,
        load_best_model_at_end=looks,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        restore_callback_states_from_checkpoint=True,
        logging_strategy="steps",
        logging_steps=max(1, min(10, planned.every)),
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
