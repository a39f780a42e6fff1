"""A short name for what a base model IS, so that a LoRA made for another one is refused.

Knows nothing of torch or of LoRAs.
"""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

from learner.engine.model_files import resolve
from learner.engine.weight_files import weight_files

# Files up to this size are hashed whole; of larger ones, SAMPLES evenly spaced blocks (a different
# training changes every tensor, and reading 16 GB at each start would take longer than loading).
WHOLE_UP_TO = 64 * 2**20
SAMPLES = 64
BLOCK = 64 * 2**10

# What says how a config.json was written, not what the model is.
VOLATILE = ("transformers_version", "_name_or_path", "dtype", "torch_dtype", "use_cache")


def fingerprint(model: Path | str) -> str:
    """The base's fingerprint: SHA-256 over config.json and the weight files' sizes and contents.

    `model` is a folder, or the id of a model that is on this machine already.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        folder = resolve(str(model))
    stamps = tuple((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in _files(folder))
    return _fingerprint(folder.resolve(), stamps)


def _files(folder: Path) -> list[Path]:
    return [folder / "config.json", *weight_files(folder)]


@functools.lru_cache(maxsize=8)
def _fingerprint(folder: Path, stamps: tuple[tuple[str, int, int], ...]) -> str:
    """`stamps` (name, size, time of change) are part of the cache's key: a changed file is read again."""
    digest = hashlib.sha256()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kept = {key: value for key, value in config.items() if key not in VOLATILE}
    digest.update(json.dumps(kept, sort_keys=True).encode())
    for name, size, _ in stamps[1:]:
        digest.update(f"\n{size}\n".encode())
        _add_contents(digest, folder / name, size)
    return digest.hexdigest()


def _add_contents(digest: hashlib._Hash, path: Path, size: int) -> None:
    with path.open("rb") as file:
        if size <= WHOLE_UP_TO:
            while block := file.read(2**20):
                digest.update(block)
            return
        for sample in range(SAMPLES):
            file.seek((size - BLOCK) * sample // (SAMPLES - 1))
            digest.update(file.read(BLOCK))
