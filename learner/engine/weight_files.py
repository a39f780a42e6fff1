"""Finds weight files and looks at them without loading them: are they whole, and what do they hold?

Knows nothing of models.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

# A header larger than this is refused by the safetensors library too.
LARGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class TensorEntry:
    """What a header says of one tensor: its number type ("F32"), shape, and place after the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def weight_files(folder: Path) -> list[Path]:
    """A model's weight files, by name."""
    found = sorted(p for p in folder.glob("*.safetensors") if not p.name.startswith("adapter_"))
    return found or sorted(folder.glob("pytorch_model*.bin"))


def safetensors_header(path: Path) -> dict[str, TensorEntry]:
    """The header's tensors by name. Raises ValueError saying what is wrong with a damaged file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, LARGEST_HEADER):
            raise ValueError(f"{path.name} is damaged or half-written: no whole header in its {size} bytes")
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            tensors = {name: _entry(**entry) for name, entry in header.items()}
        except (ValueError, TypeError, AttributeError) as exc:
            raise ValueError(f"{path.name} is damaged: its header cannot be read") from exc
    end = 8 + length + max((tensor.end for tensor in tensors.values()), default=0)
    if size != end:
        raise ValueError(f"{path.name} is half-written: {size} bytes where its header says {end}")
    return tensors


def _entry(dtype: str, shape: list[int], data_offsets: list[int]) -> TensorEntry:
    begin, end = data_offsets
    return TensorEntry(dtype, tuple(shape), begin, end)


def whole(path: Path) -> str | None:
    """What is wrong with a weight file, or None."""
    if not path.is_file():
        return f"{path.name} is missing"
    if path.suffix != ".safetensors":
        return f"{path.name} is empty" if path.stat().st_size == 0 else None
    try:
        safetensors_header(path)
    except (ValueError, OSError) as exc:
        return str(exc)
    return None
