"""The commands that train on one's own data, merge what came of it and write it for other tools.

Knows nothing of how anything is trained; several processes (`accelerate launch`, `torchrun`) run the same command.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bots.settings import Settings, resolve_model
from learner import loras
from learner.engine.templates import TEMPLATES
from learner.training import presets
from learner.training.tuning import TrainingRefused, TuningSettings

if TYPE_CHECKING:
    from learner.training.estimate import Estimate
    from learner.training.tune import Told, Tuned, Tuning

Arguments = argparse.Namespace
Add = Callable[..., Any]
GB = 2**30
BAR = 24


def add_commands(commands: Any, add: Add) -> None:
    """`train`, `merge` and `export`."""
    train = commands.add_parser("train", help="train on your own data").add_subparsers(required=True)
    _options(add(train, "sft", tune, "train on dialogues: what the assistant says in them is learned"), "sft")
    _options(add(train, "pretrain", tune, "train on texts, before dialogues or without them"), "pretrain")
    merged = add(commands, "merge", merge, "write the model and a LoRA as one model")
    merged.add_argument("--lora", required=True, help="a LoRA's folder, a version as 0007, or: active")
    merged.add_argument("--base", help="the model that it was trained on (default: config.toml's model.name)")
    merged.add_argument("--output", required=True, type=Path, metavar="DIR")
    export_ = add(commands, "export", export, "write a LoRA or dialogues for another tool")
    export_.add_argument("--to", required=True, choices=("llamafactory", "gguf-lora"))
    export_.add_argument("--data", nargs="+", type=Path, metavar="FILE", help="llamafactory: files of dialogues")
    export_.add_argument("--lora", help="gguf-lora: a LoRA's folder, a version as 0007, or: active")
    export_.add_argument("--base", help="the model that it was trained on (default: config.toml's model.name)")
    export_.add_argument("--output", required=True, type=Path, metavar="FILE")
    for command in (merged, export_):
        command.add_argument("--mind", default="", help="whose active version (default: the first bot's)")


def _options(command: Any, kind: str) -> None:
    """What a training can be told; what is not said comes from the preset, then from the defaults."""
    command.set_defaults(kind=kind)
    command.add_argument("--data", nargs="+", required=True, metavar="FILE", help="JSONL, one dialogue or text a line")
    command.add_argument("--output", required=True, metavar="DIR", help="where the LoRA or the model is written")
    command.add_argument("--base", help="the model to train (default: config.toml's model.name)")
    command.add_argument("--start", default="", metavar="LORA", help="a LoRA folder to go on from")
    command.add_argument("--method", choices=("qlora", "lora", "full"))
    command.add_argument("--quantisation", choices=("nf4", "int8"), help="of the base, with qlora (default: nf4)")
    command.add_argument("--preset", choices=presets.NAMES, default="auto", help="what fits so much memory")
    for name, of, text in (
        ("rank", int, "of the LoRA"),
        ("alpha", int, "of the LoRA"),
        ("epochs", float, "how often everything is read"),
        ("max-steps", int, "instead of epochs"),
        ("learning-rate", float, "the highest (default: by method and size)"),
        ("batch", int, "packed rows in a step, over all processes"),
        ("micro-batch", int, "rows in the model at once"),
        ("max-length", int, "tokens of a row"),
        ("held-out", float, "share of the dialogues that is only measured on"),
        ("eval-every", int, "steps between two looks at the held-out part"),
        ("patience", int, "looks without a better one before it stops; 0: never"),
        ("seed", int, "of everything that is drawn"),
        ("threads", int, "CPU threads of torch; 0: torch's choice"),
    ):
        command.add_argument(f"--{name}", type=of, help=text)
    command.add_argument("--memory", type=float, dest="memory_gb", metavar="GB", help="what it may take")
    command.add_argument("--device", choices=("auto", "cpu", "cuda"))
    command.add_argument("--dtype", choices=("auto", "fp32", "bf16", "fp16"))
    command.add_argument("--gradient-checkpointing", action=argparse.BooleanOptionalAction, help="less memory, slower")
    command.add_argument("--packing", action=argparse.BooleanOptionalAction, help="several dialogues in one row")
    command.add_argument("--probe", action="append", dest="probes", metavar="TEXT", help="ask this while training")
    command.add_argument("--keep-thinking", action="store_true", default=None, help="learn <think> blocks too")
    command.add_argument("--template", choices=sorted(TEMPLATES), help="a chat template instead of the base's own")
    command.add_argument("--dry-run", action="store_true", help="say what it will take, and train nothing")
    command.add_argument("--restart", action="store_true", help="do not go on with a run that was cut short")
    command.add_argument("--json", action="store_true", help="one JSON object a line")


def tune(settings: Settings, arguments: Arguments) -> int:
    """Estimate, then train."""
    shown = _shown(arguments)
    try:
        from learner.training.tune import Tuning

        tuning = Tuning(tuning_settings(settings, arguments), shown.told)
        estimate = tuning.estimated()
        shown.estimate(tuning, estimate)
        if not estimate.fits and not _say_what_fits(tuning, shown):
            return 1
        if arguments.dry_run:
            return 0
        shown.done(tuning.run(arguments.restart))
    except TrainingRefused as refused:
        print(f"nightschool: {refused}", file=sys.stderr)
        return 1
    return 0


def tuning_settings(settings: Settings, arguments: Arguments) -> TuningSettings:
    """What config.toml, the preset and the command line say together; the command line has the last word."""
    names = {one.name for one in dataclasses.fields(TuningSettings)} - {"kind", "data", "base", "output"}
    said = {name: value for name, value in vars(arguments).items() if name in names and value is not None}
    if "probes" in said:
        said["probes"] = tuple(said["probes"])
    if said.get("start"):
        said["start"] = str(Path(said["start"]).resolve())
    base = _base(settings, arguments)
    chosen = dict(presets.preset(arguments.preset, _gpu_bytes(arguments)))
    if said.get("quantisation") and "method" not in said:
        said["method"] = "qlora"
    common = {"device": settings.model.device, "dtype": settings.model.dtype}
    data = tuple(str(Path(name).resolve()) for name in arguments.data)
    return TuningSettings(
        kind=arguments.kind, data=data, base=base, output=str(Path(arguments.output).resolve()),
        **{**common, **chosen, **said},
    )  # fmt: skip


# What came of it ----------------------------------------------------------------------------


def merge(settings: Settings, arguments: Arguments) -> int:
    """Write model and LoRA as one model."""

    def merged() -> str:
        lora = _lora(settings, arguments)
        from learner.training.merge import merge as write  # torch takes seconds to load

        write(_base(settings, arguments), lora, arguments.output)
        return f"{arguments.output}: set model.name to it, or load it with transformers"

    return _refusable(merged)


def export(settings: Settings, arguments: Arguments) -> int:
    """Write a LoRA as GGUF, or dialogues for LLaMA-Factory."""
    return _refusable(lambda: (_gguf if arguments.to == "gguf-lora" else _llamafactory)(settings, arguments))


def _gguf(settings: Settings, arguments: Arguments) -> str:
    from learner.training.gguf import write

    if not arguments.lora:
        raise TrainingRefused("--to gguf-lora needs --lora: a LoRA's folder, a version as 0007, or: active")
    count = write(_base(settings, arguments), _lora(settings, arguments), arguments.output)
    return f"{count} tensors in {arguments.output}; llama.cpp loads it with --lora"


def _llamafactory(settings: Settings, arguments: Arguments) -> str:
    from learner.corpus.dialogues import read
    from learner.formats.export import export_dialogues

    if not arguments.data:
        raise TrainingRefused("--to llamafactory needs --data: files of dialogues")
    count, parts = export_dialogues((one for path in arguments.data for one in read(path)), arguments.output)
    cut = f"; of {parts} only the beginning, or nothing: LLaMA-Factory would learn all their replies" if parts else ""
    return f"{count} dialogues in {arguments.output}, named {arguments.output.stem} in dataset_info.json{cut}"


def _refusable(write: Callable[[], str]) -> int:
    from learner.formats.export import FormatError

    try:
        print(write())
    except (TrainingRefused, FormatError, ValueError) as refused:
        print(f"nightschool: {refused}", file=sys.stderr)
        return 1
    return 0


def _base(settings: Settings, arguments: Arguments) -> str:
    return resolve_model(arguments.base, Path.cwd()) if arguments.base else settings.model.name


def _lora(settings: Settings, arguments: Arguments) -> Path:
    """The folder that the command line means: a folder itself, a version, or the one that speaks."""
    name = arguments.lora
    if Path(name).is_dir():
        return Path(name)
    if name != "active":
        return loras.show(settings.loras_dir, name).folder
    folder = loras.active_folder(settings.loras_dir, arguments.mind or settings.bots[0].mind)
    if folder is None and not settings.model.lora:
        raise TrainingRefused("the base model speaks, without any LoRA; name one by its folder or version")
    return folder or Path(settings.model.lora)


def _gpu_bytes(arguments: Arguments) -> int:
    """The memory of the GPU that will be used; 0 where there is none."""
    import torch

    if arguments.device == "cpu" or not torch.cuda.is_available():
        return 0
    return int(torch.cuda.get_device_properties(0).total_memory)


def _say_what_fits(tuning: Tuning, shown: Shown) -> bool:
    """Tell that the training does not fit and what would; False, as it is not to begin."""
    from learner.training.estimate import what_fits

    found = what_fits(tuning.settings, tuning.source, tuning.corpus.rows, tuning.processes, tuning.base_folder)
    said = f"this would: {' '.join(found[0])} ({found[1].peak_bytes / GB:.1f} GB)" if found else "nothing here would"
    shown.say({"fits": False, "would": found[0] if found else None}, f"it does not fit; {said}")
    return False


def _shown(arguments: Arguments) -> Shown:
    """The first process speaks for all."""
    return Shown(arguments.json, quiet=os.environ.get("RANK", "0") != "0")


class Shown:
    """Shows a training on the terminal, or as JSON lines."""

    def __init__(self, as_json: bool, quiet: bool = False) -> None:
        self._json, self._quiet, self._last = as_json, quiet, 0.0

    def say(self, row: dict[str, Any], text: str) -> None:
        """One line, in either form."""
        if not self._quiet:
            print(json.dumps(row, ensure_ascii=False) if self._json else text, flush=True)

    def told(self, told: Told) -> None:
        """Where the training stands; steps of a terminal overwrite one another, and a log gets some of them."""
        row = {name: value for name, value in dataclasses.asdict(told).items() if value not in (None, "")}
        if self._json or told.phase != "train":
            self.say(row, f"{told.phase}: {_figures(told)}")
        elif not self._quiet and (sys.stderr.isatty() or time.monotonic() - self._last > 10):
            self._last = time.monotonic()
            bar = ("#" * round(told.step / max(1, told.steps) * BAR)).ljust(BAR, ".")
            ends = {"end": "", "flush": True} if sys.stderr.isatty() else {"flush": True}
            print(f"\r[{bar}] {_figures(told)}".ljust(79), file=sys.stderr, **ends)

    def estimate(self, tuning: Tuning, estimate: Estimate) -> None:
        """What the training will take."""
        settings, counts = tuning.settings, dict(tuning.corpus.counts)
        row = {**dataclasses.asdict(estimate), "fits": estimate.fits, "method": settings.method, "counts": counts}
        quantised = f" on {tuning.source.quantisation}" if tuning.source.quantisation != "none" else ""
        self.say(
            row,
            f"{counts['read']} read, {counts.get('dropped', 0)} dropped, {counts['held_out']} held out;"
            f" {settings.method}{quantised}: {estimate.steps} steps, {estimate.tokens} tokens"
            f" ({estimate.learned_tokens} learned), about {_time(estimate.seconds)}"
            f" and {estimate.peak_bytes / GB:.2f} of {estimate.limit_bytes / GB:.1f} GB",
        )
        for fault in tuning.corpus.faults:
            self.say({"fault": fault}, f"  left out: {fault}")

    def done(self, tuned: Tuned) -> None:
        """What came of it, and the estimate beside what it took."""
        row = {"phase": "done", **dataclasses.asdict(tuned), "output": str(tuned.output)}
        held = ""
        if tuned.before and tuned.after:
            row |= {"perplexity_before": tuned.before.perplexity, "perplexity": tuned.after.perplexity}
            held = f" held-out perplexity {tuned.before.perplexity:.2f} -> {tuned.after.perplexity:.2f};"
        took = f"{_time(tuned.seconds)} and {tuned.peak_bytes / GB:.2f} GB"
        if tuned.estimate:
            took += f" (estimated {_time(tuned.estimate.seconds)} and {tuned.estimate.peak_bytes / GB:.2f} GB)"
        self.say(row, f"{tuned.output}:{held} {tuned.steps} steps, the best {tuned.best_step}; {took}")


def _figures(told: Told) -> str:
    parts = [told.detail] if told.detail else []
    parts += [f"step {told.step} of {told.steps}"] if told.steps else []
    parts += [f"loss {told.loss:.3f}"] if told.loss is not None else []
    parts += [f"{_time(told.seconds_left)} left"] if told.seconds_left is not None else []
    return ", ".join(parts)


def _time(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 3600} h {whole // 60 % 60} min" if whole >= 3600 else f"{whole // 60} min {whole % 60} s"
