"""Adds a LoRA to its base model's weights, so that plain transformers loads both as one.

Knows nothing of training or of who speaks with what comes of it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from learner import lora_folder
from learner.engine.fingerprint import fingerprint
from learner.engine.model_files import resolve
from learner.training.model import CONFIG_FILE, ChatRenderer, ModelSource, load_base, read_weights, write_model
from learner.training.tuning import TrainingRefused

PREFIX = "base_model.model."
A, B = ".lora_A.weight", ".lora_B.weight"
MERGED = "merged.json"


def merge(base: str, lora: Path, output: Path) -> None:
    """Write `base` with `lora` added to `output`, in the base's number type, whole or not at all.

    Raises LoraUnfit, ModelUnusable or TrainingRefused.
    """
    if output.exists():
        raise TrainingRefused(f"{output} exists already; name another --output, or remove it")
    folder, card = resolve(base), lora_folder.read(lora)
    lora_folder.check_anchor(lora, fingerprint(folder))
    network = load_base(ModelSource(base, device="cpu", dtype="fp32"))
    with torch.no_grad():
        for layer, delta in deltas(lora):
            linear = network.get_submodule(layer)
            assert isinstance(linear, nn.Linear)
            linear.weight += delta
    built = output.with_name(f".{output.name}.part")
    shutil.rmtree(built, ignore_errors=True)
    built.mkdir(parents=True)
    write_model(built, network, ChatRenderer.of_folder(folder, card.template or "auto"), folder)
    told = {"base": card.shape.base, "lora": lora_folder.anchor_id(lora), "version": card.version}
    (built / MERGED).write_text(json.dumps(told, indent=2) + "\n", "utf-8")
    built.rename(output)


def deltas(lora: Path) -> Iterator[tuple[str, Tensor]]:
    """What a LoRA adds to the weight of each layer, [out, in], by the layer's name."""
    weights = read_weights(lora)
    scale = scale_of(lora)
    for name in sorted(weights):
        if name.endswith(A):
            layer = name.removesuffix(A)
            yield layer.removeprefix(PREFIX), scale * (weights[layer + B].float() @ weights[name].float())


def scale_of(lora: Path) -> float:
    """The factor of a LoRA's output."""
    config = json.loads((lora / CONFIG_FILE).read_text("utf-8"))
    return float(config["lora_alpha"]) / float(config["r"])
