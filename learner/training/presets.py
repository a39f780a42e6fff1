"""What to train with on a machine of so much memory. Knows nothing of torch; `estimate` says whether it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from learner.training.tuning import TrainingRefused

# For a model of about seven billion parameters, which is what people have; a smaller one has room to spare.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "8gb": {
        "method": "qlora", "max_length": 512, "micro_batch": 1, "gradient_checkpointing": True, "memory_gb": 8.0,
    },
    "16gb": {
        "method": "qlora", "max_length": 1024, "micro_batch": 2, "gradient_checkpointing": True, "memory_gb": 16.0,
    },
    "24gb": {
        "method": "qlora", "max_length": 2048, "micro_batch": 2, "gradient_checkpointing": True, "memory_gb": 24.0,
    },
    "80gb": {
        "method": "lora", "max_length": 4096, "micro_batch": 4, "gradient_checkpointing": True, "memory_gb": 80.0,
    },
    "cpu": {"method": "lora", "max_length": 512, "micro_batch": 4, "gradient_checkpointing": False},
}  # fmt: skip
NAMES = ("auto", *PRESETS)


def preset(name: str, gpu_bytes: int) -> Mapping[str, Any]:
    """The preset `name`; "auto" is the largest that a GPU of `gpu_bytes` (0: none) holds. Raises TrainingRefused."""
    if name == "auto":
        name = fitting(gpu_bytes)
    if name not in PRESETS:
        raise TrainingRefused(f"no preset is called {name!r}; there are {', '.join(NAMES)}")
    return PRESETS[name]


def fitting(gpu_bytes: int) -> str:
    """The name of the largest preset for a GPU of `gpu_bytes`; a card of "8 GB" may have a little less."""
    sized = [(float(values["memory_gb"]), name) for name, values in PRESETS.items() if "memory_gb" in values]
    held = [one for one in sized if one[0] * 2**30 <= gpu_bytes * 1.08]
    return max(held)[1] if held else "8gb" if gpu_bytes else "cpu"
