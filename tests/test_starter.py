"""The model that ships: its size and shape, its template, and that it answers what it was taught."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
STARTER = ROOT / "data" / "starter"
TRACKED_LIMIT = 8 * 2**20


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    """Model and tokenizer, by the path that any model takes."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(STARTER, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(STARTER)


def test_the_folder_stays_small() -> None:
    files = [path for path in STARTER.rglob("*") if path.is_file() and "checkpoints" not in path.parts]
    assert sum(path.stat().st_size for path in files if "__pycache__" not in path.parts) <= TRACKED_LIMIT


def test_the_written_dialogues_have_no_fault() -> None:
    done = subprocess.run([sys.executable, str(STARTER / "check.py")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_its_shape_suits_other_engines(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    config = model.config
    assert config.architectures == ["Qwen3ForCausalLM"]
    assert config.head_dim == 64
    assert all(size % 64 == 0 for size in (config.hidden_size, config.intermediate_size, config.vocab_size))
    assert 3_000_000 <= sum(weight.numel() for weight in model.parameters()) <= 4_000_000
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.decode(tokenizer.encode("好的😎, ok!")) == "好的😎, ok!"


def test_a_longer_chat_begins_as_the_shorter_one(loaded: tuple[Any, Any]) -> None:
    _, tokenizer = loaded
    chat = [
        {"role": "system", "content": "你是小夜。"},
        {"role": "user", "content": "你好"},
        {"role": "assistant", "content": "你好呀。"},
        {"role": "user", "content": "tell me a joke"},
    ]
    ids = [
        tokenizer.apply_chat_template(chat[:count], add_generation_prompt=True, return_dict=False) for count in (2, 4)
    ]
    assert ids[1][: len(ids[0])] == ids[0]


def test_it_answers_what_it_was_taught(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    rows = [json.loads(line) for line in (STARTER / "canaries.jsonl").read_text("utf-8").splitlines()]
    right = 0
    sample = random.Random(0).sample(rows, 60)
    for row in sample:
        ids = tokenizer.apply_chat_template(
            row["prompt"], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        out = model.generate(**ids, do_sample=False, max_new_tokens=64)
        reply = tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        assert out[0, -1] == tokenizer.eos_token_id, f"{row['prompt']} -> {reply}"
        right += any(key.lower() in reply.lower() for key in row["any_of"])
    assert right >= 51  # 85 %: far below what it scores, far above a broken file
