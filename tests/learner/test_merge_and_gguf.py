"""A LoRA for other tools: merged for plain transformers, and as llama.cpp reads it, to the same greedy tokens."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from learner import lora_folder
from learner.engine.fingerprint import fingerprint
from learner.engine.random_model import write_card, write_lora
from learner.training import gguf
from learner.training.merge import merge
from learner.training.model import linear_names
from learner.training.tuning import TrainingRefused

STARTER = Path(__file__).resolve().parents[2] / "data" / "starter"
END = 2
PROMPTS = ("你好", "What is your name?", "今天星期几", "tell me a joke", "天空是什么颜色", "who wrote Hamlet?")

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA on the starter that changes what it says."""
    base = AutoModelForCausalLM.from_pretrained(STARTER, dtype=torch.float32)
    folder = tmp_path_factory.mktemp("loras") / "person"
    return write_lora(folder, STARTER, base, 7, rank=4, targets=linear_names(base), spread=0.06)


def prompts() -> list[list[int]]:
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    turns = ([{"role": "user", "content": one}] for one in PROMPTS)
    texts = [tokenizer.apply_chat_template(one, add_generation_prompt=True, tokenize=False) for one in turns]
    return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]


@torch.inference_mode()
def greedy(model: torch.nn.Module, count: int = 12) -> list[list[int]]:
    """The likeliest tokens after each prompt, to its end."""
    found = []
    for ids in prompts():
        made = list(ids)
        for _ in range(count):
            made.append(int(model(torch.tensor([made])).logits[0, -1].argmax()))
        found.append(before_the_end(made[len(ids) :]))
    return found


def before_the_end(tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(END)] if END in tokens else tokens


def with_lora(lora: Path) -> torch.nn.Module:
    base = AutoModelForCausalLM.from_pretrained(STARTER, dtype=torch.float32)
    return PeftModel.from_pretrained(base, lora).eval()


def test_what_is_merged_says_the_same_in_plain_transformers(lora: Path, tmp_path: Path) -> None:
    merge(str(STARTER), lora, tmp_path / "one")
    one = AutoModelForCausalLM.from_pretrained(tmp_path / "one")
    assert one.dtype == torch.float16  # the base's own
    alone = AutoModelForCausalLM.from_pretrained(STARTER, dtype=torch.float32)
    assert greedy(one.float()) == greedy(with_lora(lora)) != greedy(alone)
    assert AutoTokenizer.from_pretrained(tmp_path / "one").chat_template
    assert (tmp_path / "one" / "canaries.jsonl").is_file()
    assert fingerprint(tmp_path / "one") != fingerprint(STARTER)
    assert json.loads((tmp_path / "one" / "merged.json").read_text("utf-8"))["lora"] == lora_folder.anchor_id(lora)
    with pytest.raises(TrainingRefused, match="one exists already"):
        merge(str(STARTER), lora, tmp_path / "one")


def test_a_lora_of_another_base_is_not_merged(lora: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    AutoModelForCausalLM.from_pretrained(STARTER, dtype=torch.float32).save_pretrained(other)
    AutoTokenizer.from_pretrained(STARTER).save_pretrained(other)
    with pytest.raises(lora_folder.LoraUnfit, match="its base is"):
        merge(str(other), lora, tmp_path / "one")
    assert not (tmp_path / "one").exists()


def test_the_gguf_file_holds_the_lora_under_llama_cpps_names(lora: Path, tmp_path: Path) -> None:
    library = pytest.importorskip("gguf")
    count = gguf.write(str(STARTER), lora, tmp_path / "lora.gguf")
    reader = library.GGUFReader(tmp_path / "lora.gguf")
    told = {name: reader.get_field(name).contents() for name in reader.fields if not name.startswith("GGUF.")}
    assert told["general.architecture"] == "qwen3"
    assert (told["general.type"], told["adapter.type"], told["adapter.lora.alpha"]) == ("adapter", "lora", 8.0)
    tensors = {one.name: np.array(one.data) for one in reader.tensors}
    ours = load_file(lora / lora_folder.WEIGHTS_FILE)
    assert len(tensors) == count == len(ours) == 4 * 7 * 2
    layers = {"attn_q": "self_attn.q_proj", "attn_output": "self_attn.o_proj", "ffn_down": "mlp.down_proj"}
    for theirs, layer in layers.items():
        for end, part in (("lora_a", "lora_A"), ("lora_b", "lora_B")):
            own = ours[f"base_model.model.model.layers.3.{layer}.{part}.weight"]
            np.testing.assert_array_equal(tensors[f"blk.3.{theirs}.weight.{end}"], own)


def test_a_llamas_queries_and_keys_are_turned_as_its_weights_are(tmp_path: Path) -> None:
    library = pytest.importorskip("gguf")
    base = tmp_path / "llama"
    config = LlamaConfig(
        vocab_size=4096, hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(base)
    lora = write_lora(tmp_path / "person", base, model, 3, rank=2, targets=linear_names(model))
    gguf.write(str(base), lora, tmp_path / "lora.gguf")
    tensors = {one.name: np.array(one.data) for one in library.GGUFReader(tmp_path / "lora.gguf").tensors}
    own = load_file(lora / lora_folder.WEIGHTS_FILE)["base_model.model.model.layers.0.self_attn.k_proj.lora_B.weight"]
    turned = tensors["blk.0.attn_k.weight.lora_b"]
    # transformers turns feature i with i + 8 of a head, llama.cpp 2 i with 2 i + 1
    for head, i in ((0, 0), (0, 5), (1, 7)):
        np.testing.assert_array_equal(turned[head * 16 + 2 * i], own[head * 16 + i])
        np.testing.assert_array_equal(turned[head * 16 + 2 * i + 1], own[head * 16 + i + 8])
    value = load_file(lora / lora_folder.WEIGHTS_FILE)["base_model.model.model.layers.0.self_attn.v_proj.lora_B.weight"]
    np.testing.assert_array_equal(tensors["blk.0.attn_v.weight.lora_b"], value)


def test_an_architecture_that_is_not_known_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text('{"model_type": "mamba"}', "utf-8")
    (base / "model.safetensors").write_bytes(b"12345678")
    lora = tmp_path / "person"
    model = AutoModelForCausalLM.from_pretrained(STARTER, dtype=torch.float32)
    write_lora(lora, STARTER, model, 1, rank=2, targets=["q_proj"])
    write_card(lora, base, 2, 4, ["q_proj"])
    with pytest.raises(TrainingRefused, match="a LoRA for mamba can't be written as GGUF yet"):
        gguf.write(str(base), lora, tmp_path / "lora.gguf")
    assert not (tmp_path / "lora.gguf").exists()


@pytest.mark.slow
def test_llama_cpp_says_the_same(lora: Path, tmp_path: Path) -> None:
    llama = pytest.importorskip("xllamacpp")
    pytest.importorskip("gguf")
    from gguf_base import write_base

    gguf.write(str(STARTER), lora, tmp_path / "lora.gguf")
    base = write_base(STARTER, tmp_path / "base.gguf")
    plain = AutoModelForCausalLM.from_pretrained(STARTER, dtype=torch.float32).eval()
    assert asked(llama, base, None) == greedy(plain)
    assert asked(llama, base, tmp_path / "lora.gguf") == greedy(with_lora(lora)) != greedy(plain)


def asked(llama: object, base: Path, lora: Path | None, count: int = 12) -> list[list[int]]:
    """What llama.cpp generates greedily after each prompt."""
    params = llama.CommonParams()  # type: ignore[attr-defined]
    params.model.path = str(base)
    params.n_ctx, params.n_parallel, params.cpuparams.n_threads = 512, 1, 1
    params.warmup = False
    if lora is not None:
        adapter = llama.CommonAdapterLoraInfo()  # type: ignore[attr-defined]
        adapter.path, adapter.scale = str(lora), 1.0
        params.lora_adapters = [adapter]
    server = llama.Server(params)  # type: ignore[attr-defined]
    found = []
    for ids in prompts():
        wanted = {"prompt": ids, "n_predict": count, "temperature": 0.0, "return_tokens": True, "cache_prompt": False}
        told = httpx.post(f"{server.listening_address}/completion", json=wanted, timeout=60, trust_env=False).json()
        found.append(before_the_end(told["tokens"]))
    return found
