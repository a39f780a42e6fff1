"""One training on one's own data, from its settings to a LoRA or a model on disk; a killed one goes on.

Knows nothing of command lines, bots or nights.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel, get_peft_model
from transformers import PreTrainedModel, set_seed
from transformers.utils import logging as transformers_logging

from learner import lora_folder
from learner.engine.base import ModelUnusable
from learner.engine.fingerprint import fingerprint
from learner.engine.model_files import resolve
from learner.training import corpus, estimate, frozen_linear, model, supervised
from learner.training.corpus import Corpus, Reading
from learner.training.estimate import Estimate
from learner.training.generate import Decoding, replies
from learner.training.model import ChatRenderer, ModelSource
from learner.training.runs import CURVE, REPORT, SAMPLES, Run
from learner.training.supervised import Measured, Plan, SupervisedTrainer, Watch
from learner.training.tuning import TrainingRefused, TuningSettings

log = logging.getLogger(__name__)

Phase = Literal["read", "load", "estimate", "train", "held-out", "write", "done"]
SAMPLE_TOKENS = 64


@dataclass(frozen=True)
class Told:
    """Where a training stands: `done` of its steps, `loss` of the last, `held_out` loss of the last look."""

    phase: Phase
    detail: str = ""
    step: int = 0
    steps: int = 0
    loss: float | None = None
    held_out: float | None = None
    seconds_left: float | None = None


@dataclass(frozen=True)
class Tuned:
    """What a training came to; `before` and `after` are of the held-out part, None where nothing was held out."""

    output: Path
    before: Measured | None
    after: Measured | None
    steps: int
    best_step: int
    seconds: float
    peak_bytes: int
    estimate: Estimate | None
    counts: dict[str, int]
    faults: tuple[str, ...]


Tell = Callable[[Told], None]


class Tuning:
    """One training, ready to be estimated or run. Raises TrainingRefused or ModelUnusable."""

    def __init__(self, settings: TuningSettings, tell: Tell) -> None:
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        self.settings, self.tell = settings, tell
        self.processes, self.rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        self.run_folder = Run(Path(settings.output), writes=self.rank == 0)
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.source = source_of(settings)
        self.base_folder = resolve(settings.base)
        self.tokenizer_of = ChatRenderer.of_folder(self.base_folder, settings.template)
        self.corpus = self._read()
        self.plan = self._plan()
        self.estimate: Estimate | None = None

    def estimated(self) -> Estimate:
        """What the run will take, from trying one and two of the model's layers on this device."""
        self.tell(Told("estimate", "trying a step on the first layers"))
        self.estimate = estimate.of(self.settings, self.source, self.corpus.rows, self.plan, self.base_folder)
        return self.estimate

    def run(self, restart: bool = False) -> Tuned:
        """Train and write the result."""
        settings = self.settings
        identity = settings.identity(
            corpus.digest([Path(name) for name in settings.data]), fingerprint(self.base_folder), self._start_id()
        )
        resumed = self.run_folder.open(identity, restart)
        self.tell(Told("load", "loading the model"))
        set_seed(settings.seed)
        base = self._base()
        renderer = ChatRenderer.load(self.source, base)
        parameters = sum(parameter.numel() for parameter in base.parameters())
        network = self._with_lora(base)
        trainer = self._trainer(network, renderer, settings.rate(parameters))
        supervised.whole_numbers(network)
        before = self._before(trainer, resumed, renderer)
        began = time.monotonic()
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
        seconds = time.monotonic() - began
        after = trainer.measure() if self.corpus.held else None
        trainer.accelerator.wait_for_everyone()
        tuned = self._tuned(trainer, before, after, seconds)
        if self.rank == 0:
            self.tell(Told("write", "writing the result", trainer.state.global_step, self.plan.steps))
            self._write(trainer, renderer, tuned)
        trainer.accelerator.wait_for_everyone()
        return tuned

    # Before it ----------------------------------------------------------------------------------

    def _read(self) -> Corpus:
        settings = self.settings
        self.tell(Told("read", "reading the data"))
        reading = Reading(settings.kind, self.tokenizer_of, settings.max_length, settings.keep_thinking)
        paths = [Path(name) for name in settings.data]
        for path in paths:
            if not path.is_file():
                raise TrainingRefused(f"--data: there is no file {path}")
        found = corpus.read(
            paths, reading, settings.held_out, settings.most_held_out,
            lambda count: self.tell(Told("read", f"{count} lines read")),
        )  # fmt: skip
        for fault in found.faults:
            log.warning("left out: %s", fault)
        return found

    def _plan(self) -> Plan:
        micro = self.settings.micro_batch or self.settings.batch
        return supervised.plan(self.corpus.rows, self.settings, micro, self.processes)

    def _start_id(self) -> str:
        return lora_folder.anchor_id(Path(self.settings.start)) if self.settings.start else ""

    def _base(self) -> PreTrainedModel:
        base = model.load_base(self.source)
        vocabulary = base.get_input_embeddings().num_embeddings
        if self.settings.packing and not supervised.keeps_rows_apart(base, self.tokenizer_of.padding, vocabulary):
            raise TrainingRefused(f"{type(base).__name__} lets packed dialogues see each other; give --no-packing")
        if self.settings.method == "full":
            base.requires_grad_(True)
        return base

    def _with_lora(self, base: PreTrainedModel) -> Any:
        """The base with a fresh LoRA, or with the one to start from; for a full training the base itself."""
        settings = self.settings
        self.config = None
        if settings.method == "full":
            return base
        self.config = model.lora_config(base, settings.rank, settings.alpha)
        self.shape = lora_folder.Shape(
            fingerprint(self.base_folder), settings.rank, settings.alpha, tuple(sorted(self.config.target_modules))
        )
        if settings.start:
            self.shape = lora_folder.check_anchor(Path(settings.start), self.shape.base)
            self.config = model.lora_config(base, self.shape.rank, self.shape.alpha, self.shape.target_modules)
        frozen_linear.install(base)
        network = get_peft_model(base, self.config)
        if settings.start:
            model.restore(network, model.read_weights(Path(settings.start)))
        return network

    def _trainer(self, network: Any, renderer: ChatRenderer, rate: float) -> SupervisedTrainer:
        self.probes = [(one, renderer.prompt(one.messages)) for one in corpus.probes(self.corpus, self.settings.probes)]
        self._renderer, self._network, self._began = renderer, network, (0, time.monotonic())
        watch = Watch(self._stepped, self._looked)
        return supervised.trainer(
            network, renderer.tokenizer, self.corpus.rows, self.corpus.held, self.plan, self.settings, rate,
            self.run_folder.checkpoints, watch,
        )  # fmt: skip

    def _before(self, trainer: SupervisedTrainer, resumed: Path | None, renderer: ChatRenderer) -> Measured | None:
        """The held-out part before the first step; a run that goes on has it in its log."""
        if not self.corpus.held:
            return None
        known = self.run_folder.noted(CURVE)
        if resumed and known and known[0]["step"] == 0:
            self._began = (int(resumed.name.partition("-")[2]), time.monotonic())
            return Measured(known[0]["held_out"], known[0]["tokens"])
        found = trainer.measure()
        self.run_folder.note(CURVE, {"step": 0, "held_out": found.loss, "tokens": found.tokens})
        self._sample(0)
        self.tell(Told("held-out", f"perplexity {found.perplexity:.2f}", 0, self.plan.steps, held_out=found.loss))
        return found

    # During it ----------------------------------------------------------------------------------

    def _stepped(self, step: int, steps: int, loss: float) -> None:
        first, began = self._began
        left = (time.monotonic() - began) / max(1, step - first) * (steps - step)
        self.tell(Told("train", "", step, steps, loss=loss, seconds_left=left))
        self.run_folder.note(CURVE, {"step": step, "loss": loss, "probe": "loss"})

    def _looked(self, step: int, held_out: float) -> None:
        self.run_folder.note(CURVE, {"step": step, "held_out": held_out})
        self._sample(step)
        perplexity = Measured(held_out, 0).perplexity
        self.tell(Told("held-out", f"perplexity {perplexity:.2f}", step, self.plan.steps, held_out=held_out))

    def _sample(self, step: int) -> None:
        """Ask the probes and note what comes; a model in parts is not asked."""
        if self.rank or not self.probes or in_parts():
            return
        training = self._network.training
        self._network.eval()
        said = replies(
            self._network, self._renderer, [ids for _, ids in self.probes], Decoding(max_tokens=SAMPLE_TOKENS)
        )
        self._network.train(training)
        for (probe, _), reply in zip(self.probes, said, strict=True):
            asked = probe.messages[-1].content if probe.messages else ""
            self.run_folder.note(SAMPLES, {"step": step, "probe": asked, "reply": reply.text, "said": probe.said})

    # After it -----------------------------------------------------------------------------------

    def _tuned(
        self, trainer: SupervisedTrainer, before: Measured | None, after: Measured | None, seconds: float
    ) -> Tuned:
        state = trainer.state
        best = state.best_global_step or state.global_step
        return Tuned(
            self.run_folder.output, before, after, state.global_step, best, seconds, estimate.peak_bytes(),
            self.estimate, dict(self.corpus.counts), self.corpus.faults,
        )  # fmt: skip

    def _write(self, trainer: SupervisedTrainer, renderer: ChatRenderer, tuned: Tuned) -> None:
        built = self.run_folder.folder / "result"
        shutil.rmtree(built, ignore_errors=True)
        built.mkdir()
        if self.config is None:
            model.write_model(built, trainer.accelerator.unwrap_model(trainer.model), renderer, self.base_folder)
        else:
            network: PeftModel = trainer.accelerator.unwrap_model(trainer.model)
            model.write(built, model.snapshot(network), self.config, self.settings.base)
            _json(built / lora_folder.CARD_FILE, self._card(tuned, renderer))
        _json(built / REPORT, self._report(tuned, renderer))
        self.run_folder.publish(built)

    def _card(self, tuned: Tuned, renderer: ChatRenderer) -> dict[str, Any]:
        shape, settings = self.shape, self.settings
        return {
            "version": tuned.output.name,
            "mind": "",
            "base": shape.base,
            "rank": shape.rank,
            "alpha": shape.alpha,
            "target_modules": list(shape.target_modules),
            "parent": Path(settings.start).name if settings.start else None,
            "records": {"trained": settings.kind, **tuned.counts},
            "recipe": {"method": settings.method, "steps": tuned.best_step, "seed": settings.seed},
            "run": 0,
            "template": renderer.named_template,
        }

    def _report(self, tuned: Tuned, renderer: ChatRenderer) -> dict[str, Any]:
        row = dataclasses.asdict(tuned) | {"output": tuned.output.name}
        for name, measured in (("before", tuned.before), ("after", tuned.after)):
            row[name] = measured and {
                "loss": measured.loss,
                "perplexity": measured.perplexity,
                "tokens": measured.tokens,
            }
        row |= {"settings": dataclasses.asdict(self.settings), "template": renderer.named_template or "the model's own"}
        return row | {"curve": self.run_folder.noted(CURVE), "samples": self.run_folder.noted(SAMPLES)}


def source_of(settings: TuningSettings) -> ModelSource:
    """Where and how the base is loaded: each process on a device of its own, a full training in fp32."""
    quantisation = settings.quantisation
    if settings.method == "qlora" and quantisation == "none":
        quantisation = "nf4"
    if settings.method != "qlora" and quantisation != "none":
        raise TrainingRefused(
            f"--quantisation {quantisation} goes with --method qlora; {settings.method} trains without"
        )
    source = ModelSource(settings.base, settings.device, settings.dtype, quantisation, settings.template)
    device = source.resolved_device()
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelUnusable('--device is "cuda", but torch sees no CUDA device')
    dtype = "fp32" if settings.method == "full" else settings.dtype
    if device == "cuda" and (local := os.environ.get("LOCAL_RANK")):
        device = f"cuda:{local}"
    return dataclasses.replace(source, device="cpu" if in_parts() else device, dtype=dtype)


def in_parts() -> bool:
    """Whether accelerate spreads the model itself over processes (FSDP, DeepSpeed)."""
    names = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
    return any(os.environ.get(name, "false").lower() in ("true", "1") for name in names)


def _json(path: Path, row: dict[str, Any]) -> None:
    path.write_text(json.dumps(row, indent=2, ensure_ascii=False, default=str) + "\n", "utf-8")
