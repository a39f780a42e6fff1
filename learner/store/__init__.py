"""What is remembered, and how it is kept. `Store` is the only door.

Knows nothing of platforms or torch.
"""

from __future__ import annotations

from learner.store.errors import (
    ExchangeNotReady,
    StoreError,
    StoreFromNewerVersion,
    StoreUnusable,
    UnknownExchange,
)
from learner.store.store import Store

__all__ = [
    "ExchangeNotReady",
    "Store",
    "StoreError",
    "StoreFromNewerVersion",
    "StoreUnusable",
    "UnknownExchange",
]
