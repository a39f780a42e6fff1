"""Loads the base model with a fresh LoRA at the anchor, and writes a LoRA to disk.

The one place that calls PEFT. Knows nothing of records, losses or the gate.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedModel

from learner.engine.base import ChatMessage, ModelUnusable
from learner.engine.chat_text import ChatText
from learner.engine.model_files import check, resolve
from learner.training.examples import Tokens

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
CANARIES = "canaries.jsonl"
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class ModelSource:
    """Which model, and in what shape it is to be loaded."""

    model: str
    device: str = "auto"
    dtype: str = "auto"
    quantisation: str = "none"
    template: str = "auto"

    def resolved_device(self) -> str:
        """`auto` is the first GPU when there is one."""
        if self.device != "auto":
            return self.device
        return "cuda" if torch.cuda.is_available() else "cpu"

    def resolved_dtype(self) -> torch.dtype:
        """`auto` is bf16 on a GPU and fp32 on a CPU, where bf16 is 2.8 times slower."""
        named = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        if self.dtype != "auto":
            return named[self.dtype]
        return torch.bfloat16 if self.resolved_device().startswith("cuda") else torch.float32


class ChatRenderer:
    """Messages and replies as the model's tokens, just as the engine makes them. See `examples.Renderer`."""

    def __init__(self, tokenizer: Any, ends: Iterable[int] = (), template: str = "auto") -> None:
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.tokenizer, self._text = tokenizer, ChatText(tokenizer, template=template)
        if self._text.end is None:
            raise ModelUnusable("the model's tokenizer has no end token, and model.template names no other")
        self.named_template = self._text.named
        self.end = self._text.end
        self.ends = frozenset({self.end, *ends})

    @classmethod
    def load(cls, source: ModelSource, base: PreTrainedModel) -> ChatRenderer:
        """The tokenizer in the model's folder, with every token that ends a reply of `base`."""
        ends = base.generation_config.eos_token_id if base.generation_config else None
        known = ends if isinstance(ends, list) else [ends] if ends is not None else []
        return cls(AutoTokenizer.from_pretrained(resolve(source.model)), known, source.template)

    @classmethod
    def of_folder(cls, folder: Path, template: str = "auto") -> ChatRenderer:
        """The tokenizer in a model's folder alone."""
        return cls(AutoTokenizer.from_pretrained(folder), (), template)

    @property
    def padding(self) -> int:
        """The token that fills what a row lacks."""
        return int(self.tokenizer.pad_token_id)

    def prompt(self, messages: Sequence[ChatMessage]) -> Tokens:
        return self._text.render(messages)

    def reply(self, text: str) -> Tokens:
        return (*self._tokens(text), self.end)

    def plain(self, text: str) -> Tokens:
        """Tokens of a text of no chat, begun and ended as the model's own training did."""
        begin = self.tokenizer.bos_token_id
        return (*([] if begin is None else [begin]), *self._tokens(text), int(self.tokenizer.eos_token_id))

    def _tokens(self, text: str) -> list[int]:
        """No token that steers the model can be forged by what somebody wrote."""
        found: list[int] = self.tokenizer(self._text.harmless(text), add_special_tokens=False)["input_ids"]
        return found

    def text(self, tokens: Sequence[int]) -> str:
        """The words of `tokens`, without special tokens."""
        return self._text.decode(tokens)


def load_base(source: ModelSource, layers: int = 0) -> PreTrainedModel:
    """Load the frozen base model, in 4 or 8 bits when `quantisation` is "nf4" or "int8". Raises ModelUnusable.

    Only its first `layers` layers, where that is not 0: to see what one more of them takes.
    """
    folder = resolve(source.model)
    check(folder)
    device = source.resolved_device()
    options: dict[str, Any] = {"dtype": source.resolved_dtype()}
    if layers:
        options |= {"config": _cut(folder, layers)}
    if source.quantisation != "none":
        options |= {"quantization_config": _quantised(source), "device_map": {"": device}}
    model = AutoModelForCausalLM.from_pretrained(folder, **options)
    model.requires_grad_(False)
    return model if source.quantisation != "none" else model.to(device)


def _cut(folder: Path, layers: int) -> Any:
    """The model's config with so many layers only."""
    config = AutoConfig.from_pretrained(folder)
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None)
    text.num_hidden_layers = layers
    if kinds:
        text.layer_types = list(kinds[:layers])
    return config


def lora_config(base: nn.Module, rank: int, alpha: int, targets: Sequence[str] = ()) -> LoraConfig:
    """LoRA on all linear layers but the head, or on `targets`; dropout 0, the same every night."""
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
        target_modules=sorted(targets) or linear_names(base),
    )


def linear_names(base: nn.Module) -> list[str]:
    """The sorted last names of all linear layers that are not the output head."""
    output: Any = getattr(base, "get_output_embeddings", lambda: None)
    head = output()
    linear = [name for name, module in base.named_modules() if isinstance(module, nn.Linear) and module is not head]
    return sorted({name.rsplit(".", 1)[-1] for name in linear})


def snapshot(model: PeftModel) -> Weights:
    """A copy of the LoRA's weights on the CPU, in fp32 and a fixed order."""
    state = get_peft_model_state_dict(model)
    return {name: state[name].detach().to("cpu", torch.float32).clone() for name in sorted(state)}


def restore(model: PeftModel, weights: Weights) -> None:
    """Make `weights` the LoRA's."""
    set_peft_model_state_dict(model, weights)


def between(anchor: Weights, trained: Weights, share: float) -> Weights:
    """The LoRA that lies at `share` of the way from `anchor` to `trained`, weight by weight."""
    return {name: anchor[name] + share * (trained[name] - anchor[name]) for name in trained}


def read_weights(folder: Path) -> Weights:
    """The weights of a LoRA that PEFT or `write` saved."""
    return load_file(folder / WEIGHTS_FILE)


def write(folder: Path, weights: Weights, config: LoraConfig, base: str) -> None:
    """Write a LoRA as PEFT reads it, byte for byte the same for the same weights."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {key: value for key, value in config.to_dict().items() if not callable(value)}
    written["target_modules"] = sorted(config.target_modules or [])
    written |= {"base_model_name_or_path": base, "inference_mode": True, "peft_type": "LORA", "task_type": "CAUSAL_LM"}
    text = json.dumps(written, indent=2, sort_keys=True, default=_plain)
    (folder / CONFIG_FILE).write_text(text + "\n", "utf-8")
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / WEIGHTS_FILE, {"format": "pt"})


def write_model(folder: Path, network: PreTrainedModel, renderer: ChatRenderer, base: Path) -> None:
    """Write a whole model as plain transformers loads it, in the base's number type, with its tokenizer."""
    kept = json.loads((base / "config.json").read_text("utf-8")).get("dtype") or "float32"
    network = network.to(getattr(torch, kept))
    network.save_pretrained(folder)
    renderer.tokenizer.save_pretrained(folder)
    if (base / CANARIES).is_file():
        shutil.copyfile(base / CANARIES, folder / CANARIES)


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else str(value)


def _quantised(source: ModelSource) -> BitsAndBytesConfig:
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as exc:
        needs = f'quantisation = "{source.quantisation}" needs bitsandbytes: pip install "nightschool[qlora]"'
        raise ModelUnusable(needs) from exc
    if source.quantisation == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=source.resolved_dtype(),
    )
