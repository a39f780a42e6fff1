"""How many threads torch takes where nobody said."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from learner import threads


@pytest.fixture(autouse=True)
def three() -> Iterator[None]:
    """Torch's own choice, whatever the machine; as it was, afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("wanted", "parameters", "taken"), [(0, 3_000_000, 1), (0, 600_000_000, 3), (2, 3_000_000, 2)])
def test_a_tiny_model_takes_one_thread_unless_told_otherwise(wanted: int, parameters: int, taken: int) -> None:
    assert threads.settle(wanted, parameters) == taken
    assert torch.get_num_threads() == taken
