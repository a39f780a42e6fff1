"""Writes a LoRA as llama.cpp reads it: a GGUF file of the type "adapter".

The layers' names are those that llama.cpp gives them. Knows nothing of torch, training or the base's weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learner import lora_folder
from learner.engine.fingerprint import fingerprint
from learner.engine.model_files import resolve
from learner.training.tuning import TrainingRefused

PREFIX = "base_model.model."
ENDINGS = {".lora_A.weight": ".lora_a", ".lora_B.weight": ".lora_b"}
# By transformers' model_type: llama.cpp's name, and whether it stores queries and keys in pairs of neighbours.
ARCHITECTURES = {
    "qwen3": ("qwen3", False),
    "qwen2": ("qwen2", False),
    "llama": ("llama", True),
    "mistral": ("llama", True),
}


def write(base: str, lora: Path, output: Path) -> int:
    """Write the LoRA in `lora` to the file `output`, in fp32; the number of its tensors.

    Raises TrainingRefused for an architecture that is not among `ARCHITECTURES`, LoraUnfit, ModelUnusable.
    """
    library = _library()
    folder = resolve(base)
    shape = lora_folder.check_anchor(lora, fingerprint(folder))
    config = json.loads((folder / "config.json").read_text("utf-8"))
    name, paired = _architecture(config)
    tensors = _tensors(library, lora, name, config, paired)
    unfinished = output.with_name(f".{output.name}.part")
    writer = library.GGUFWriter(unfinished, name)
    writer.add_type(library.GGUFType.ADAPTER)
    writer.add_string(library.Keys.Adapter.TYPE, "lora")
    writer.add_float32(library.Keys.Adapter.LORA_ALPHA, float(shape.alpha))
    writer.add_name(lora.name)
    for tensor, numbers in tensors.items():
        writer.add_tensor(tensor, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    unfinished.replace(output)
    return len(tensors)


def _architecture(config: dict[str, Any]) -> tuple[str, bool]:
    kind = config["model_type"]
    if kind not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise TrainingRefused(f"a LoRA for {kind} can't be written as GGUF yet; {known} can. Or merge it")
    return ARCHITECTURES[kind]


def _tensors(
    library: Any, lora: Path, name: str, config: dict[str, Any], paired: bool
) -> dict[str, NDArray[np.float32]]:
    """llama.cpp's names and the numbers: A is [rank, in], B [out, rank], as PEFT has them."""
    from safetensors.numpy import load_file

    architecture = next(key for key, value in library.MODEL_ARCH_NAMES.items() if value == name)
    names = library.get_tensor_name_map(architecture, config["num_hidden_layers"])
    heads = {"q_proj": config["num_attention_heads"]}
    heads["k_proj"] = config.get("num_key_value_heads") or heads["q_proj"]
    found: dict[str, NDArray[np.float32]] = {}
    for key, numbers in sorted(load_file(lora / lora_folder.WEIGHTS_FILE).items()):
        ending = next(one for one in ENDINGS if key.endswith(one))
        layer = key.removeprefix(PREFIX).removesuffix(ending)
        theirs = names.get_name(f"{layer}.weight", try_suffixes=(".weight",))
        if theirs is None:
            raise TrainingRefused(f"llama.cpp has no name for the layer {layer}, which the LoRA in {lora} is for")
        short = layer.rpartition(".")[2]
        if paired and ending.startswith(".lora_B") and short in heads:
            numbers = neighbours(numbers, heads[short])
        found[theirs + ENDINGS[ending]] = np.ascontiguousarray(numbers, np.float32)
    return found


def neighbours(rows: NDArray[Any], heads: int) -> NDArray[Any]:
    """The rows of each head with its two halves interleaved: how llama.cpp turns the queries and keys of a Llama."""
    out = rows.shape[0]
    return rows.reshape(heads, 2, out // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape)


def _library() -> Any:
    try:
        import gguf
    except ImportError as exc:
        raise TrainingRefused('writing GGUF needs the package gguf: pip install "nightschool[gguf]"') from exc
    return gguf
