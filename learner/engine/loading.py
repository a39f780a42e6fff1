"""Loads a base model for decoding: device, number type, quantisation, and the fastest forward pass that agrees.

Knows nothing of requests.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from learner import lora_folder, threads
from learner.engine.base import LoraMismatch, ModelUnusable
from learner.engine.chat_text import ChatText
from learner.engine.direct import DirectDecoder, supports
from learner.engine.fingerprint import fingerprint
from learner.engine.general import GeneralDecoder, layout_of
from learner.engine.kv import KVBlock, KVLayout, single
from learner.engine.linear import EngineLinear, install
from learner.engine.local_settings import LocalSettings
from learner.engine.lora_files import BaseModel, read
from learner.engine.lora_slots import BASE_KEY, LoraSlot, Speaking
from learner.engine.model_files import check, resolve

logger = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Decoder(Protocol):
    """A forward pass over a KVBlock: see DirectDecoder and GeneralDecoder."""

    def forward(self, ids: Tensor, positions: Tensor, block: KVBlock, mask: Tensor | None) -> Tensor: ...


@dataclass(frozen=True)
class LoadedModel:
    """A base model ready to decode."""

    model: Any
    decoder: Decoder
    layout: KVLayout
    text: ChatText
    speaking: Speaking
    base: BaseModel
    anchor: LoraSlot | None
    vocabulary: int
    end_ids: frozenset[int]
    context_length: int
    device: str
    threads: int


def load(settings: LocalSettings) -> LoadedModel:
    """Load the model that `settings` names. Raises ModelUnusable. Sets this thread's number of threads."""
    folder = resolve(settings.model)
    check(folder)
    device, dtype = _device(settings.device), _dtype(settings)
    model = _model(folder, device, dtype, settings.quantisation)
    parameters = sum(p.numel() for p in model.parameters())
    computing = threads.settle(settings.threads, parameters)
    layout = layout_of(model, device)
    speaking = Speaking()
    linears = install(model, speaking, copy=settings.weight_copy == "auto")
    base = BaseModel(fingerprint(folder), _sizes(linears), layout.dtype, device)
    anchor = _anchor(settings, base)
    text = ChatText.load(folder, settings.thinking, _template(settings))
    return LoadedModel(
        model=model,
        decoder=_decoder(model, layout, settings),
        layout=layout,
        text=text,
        speaking=speaking,
        base=replace(base, anchor=lora_folder.anchor_id(Path(settings.anchor))) if anchor else base,
        anchor=anchor,
        vocabulary=model.get_input_embeddings().num_embeddings,
        end_ids=_end_ids(model, text),
        context_length=_context_length(model, settings),
        device=f"{device.type} {str(layout.dtype).removeprefix('torch.')}",
        threads=computing,
    )


def _anchor(settings: LocalSettings, base: BaseModel) -> LoraSlot | None:
    """The LoRA that stands where the base would, under the base's name. Raises ModelUnusable."""
    if not settings.anchor:
        return None
    try:
        return replace(read(Path(settings.anchor), replace(base, anchor=None)), version=BASE_KEY)
    except LoraMismatch as exc:
        raise ModelUnusable(f"model.lora: {exc}") from exc


def _template(settings: LocalSettings) -> str:
    """The template that config.toml names, or else the one that the anchor was trained in."""
    if settings.template != "auto" or not settings.anchor:
        return settings.template
    return lora_folder.read(Path(settings.anchor)).template or "auto"


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise ModelUnusable('model.device is "cuda", but torch sees no CUDA device; set it to "auto" or "cpu"')
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device("cuda", torch.cuda.current_device()) if name == "cuda" else torch.device("cpu")


def _dtype(settings: LocalSettings) -> torch.dtype:
    """fp32 on CPU (bf16 decodes no faster there and prefills three times slower), 16 bits on CUDA."""
    if settings.dtype != "auto":
        return DTYPES[settings.dtype]
    if _device(settings.device).type == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _model(folder: Path, device: torch.device, dtype: torch.dtype, quantisation: str) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    options: dict[str, Any] = {"dtype": dtype, "local_files_only": True, "output_loading_info": True}
    if quantisation == "nf4":
        options |= {"quantization_config": _nf4(dtype), "device_map": {"": device}}
    transformers_logging.disable_progress_bar()
    try:
        model, report = AutoModelForCausalLM.from_pretrained(folder, **options)
        model = model if quantisation == "nf4" else model.to(device)
    except Exception as exc:
        raise ModelUnusable(f"the model in {folder} cannot be loaded ({type(exc).__name__}: {exc})") from exc
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelUnusable(f"the weights in {folder} lack {len(missing)} tensors, {missing[0]} among them")
    return model.eval().requires_grad_(False)


def _nf4(dtype: torch.dtype) -> Any:
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as exc:
        raise ModelUnusable(
            'model.quantisation is "nf4", which needs the package bitsandbytes:'
            ' pip install bitsandbytes, or set it to "none"'
        ) from exc
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_use_double_quant=True,
    )


def _decoder(model: Any, layout: KVLayout, settings: LocalSettings) -> Decoder:
    general = GeneralDecoder(model, layout)
    if settings.forward == "general" or not supports(model):
        return general
    direct = DirectDecoder(model, model.config.max_position_embeddings)
    # NF4's kernels round activations to 16 bits, whatever the model's number type is.
    exact = layout.dtype == torch.float32 and settings.quantisation == "none"
    try:
        if agree(direct, general, layout, model.get_input_embeddings().num_embeddings, 1e-3 if exact else 5e-2):
            return direct
    except (RuntimeError, ValueError, TypeError):
        logger.debug("the lean forward pass does not fit", exc_info=True)
    logger.info("the lean forward pass does not agree with %s's own; using the model's", type(model).__name__)
    return general


@torch.inference_mode()
def agree(one: Decoder, other: Decoder, layout: KVLayout, vocabulary: int, tolerance: float) -> bool:
    """Whether two decoders give the same logits after a prompt, after more of it, and after a token."""
    ids = (torch.arange(13, device=layout.device) * 7919 % vocabulary).unsqueeze(0)
    pairs = ((one, single(layout, 16)), (other, single(layout, 16)))
    for start, end in ((0, 8), (8, 12), (12, 13)):
        positions = torch.arange(start, end, device=layout.device).unsqueeze(0)
        a, b = (d.forward(ids[:, start:end], positions, k, None).float() for d, k in pairs)
        if not float((a - b).abs().max()) <= tolerance * float(b.abs().max() + 1e-6):
            return False
    return True


def _sizes(linears: Mapping[str, EngineLinear]) -> dict[str, tuple[int, int]]:
    return {name: (linear.base.out_features, linear.base.in_features) for name, linear in linears.items()}  # type: ignore[misc]


def _end_ids(model: Any, text: ChatText) -> frozenset[int]:
    named = getattr(model.generation_config, "eos_token_id", None)
    ids = named if isinstance(named, list) else [named]
    return text.end_ids | {i for i in ids if i is not None}


def _context_length(model: Any, settings: LocalSettings) -> int:
    own = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 4096
    return min(own, settings.context_length or own)
