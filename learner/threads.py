"""How many threads torch computes with, where nobody said. Knows nothing of engines or nights."""

from __future__ import annotations

import torch

# Below this many parameters a second thread costs more to wake than it saves: a night of 160 records on the starter
# takes 36 s with one thread and 52 s with two, on two cores with nothing else to do.
ONE_THREAD_BELOW = 20_000_000


def settle(wanted: int | None, parameters: int) -> int:
    """Set and return torch's threads for a model of so many parameters; without `wanted` the choice is ours."""
    torch.set_num_threads(wanted or (1 if parameters < ONE_THREAD_BELOW else torch.get_num_threads()))
    return torch.get_num_threads()
