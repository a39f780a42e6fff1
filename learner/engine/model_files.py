"""Finds a base model's folder, and says everything that is missing or broken in it.

Knows nothing of torch; models named by an id are fetched by their hub's own client.
"""

from __future__ import annotations

import json
from pathlib import Path

from learner.engine.base import ModelUnusable
from learner.engine.weight_files import weight_files, whole

MODELSCOPE = "modelscope:"
WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.tiktoken"]
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


def resolve(name: str) -> Path:
    """The folder of a model: a folder itself, a Hugging Face id, or `modelscope:ID`."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if name.startswith(MODELSCOPE):
        return _from_modelscope(name.removeprefix(MODELSCOPE))
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1 or "\\" in name:
        raise ModelUnusable(
            f"model.name: there is no folder {name}; give a model's folder, a Hugging Face id (owner/name),"
            " or modelscope:owner/name"
        )
    return _from_hugging_face(name)


def _from_hugging_face(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=WANTED))
    except Exception as exc:
        raise ModelUnusable(
            f"model.name: neither a folder {name} nor the Hugging Face model of that id could be opened"
            f" ({type(exc).__name__}: {exc}); check the name and the network"
            " (where huggingface.co cannot be reached, set HF_ENDPOINT to a mirror), or give a folder"
        ) from exc


def _from_modelscope(name: str) -> Path:
    try:
        from modelscope import snapshot_download
    except ImportError as exc:
        raise ModelUnusable(
            f"model.name: {MODELSCOPE}{name} needs the package modelscope: pip install modelscope"
        ) from exc
    try:
        return Path(snapshot_download(name, allow_patterns=WANTED))
    except Exception as exc:
        raise ModelUnusable(
            f"model.name: ModelScope did not give {name} ({type(exc).__name__}: {exc}); check the id and the network"
        ) from exc


def check(folder: Path) -> None:
    """Raise ModelUnusable naming everything that keeps this folder from being loaded."""
    problems = [*_config_problems(folder), *_weight_problems(folder)]
    if not any((folder / name).is_file() for name in TOKENIZERS):
        problems.append(f"no tokenizer ({' or '.join(TOKENIZERS)})")
    if problems:
        raise ModelUnusable(
            f"the model in {folder} cannot be used: {'; '.join(problems)}."
            " Copy or download the folder again, or set model.name to another one"
        )


def _config_problems(folder: Path) -> list[str]:
    path = folder / "config.json"
    if not path.is_file():
        return ["config.json is missing"]
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return ["config.json is no valid JSON"]
    return [] if isinstance(config, dict) and "model_type" in config else ["config.json names no model_type"]


def _weight_problems(folder: Path) -> list[str]:
    try:
        expected = _indexed(folder) or weight_files(folder)
    except (ValueError, KeyError, AttributeError, TypeError):
        return ["model.safetensors.index.json cannot be read"]
    if not expected:
        return ["no weights (model.safetensors)"]
    return [problem for path in expected if (problem := whole(path)) is not None]


def _indexed(folder: Path) -> list[Path]:
    """The files that a sharded model's index names."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return []
    names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    return [folder / name for name in sorted(set(names))]
