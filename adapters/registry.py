"""Finds a platform adapter by name: ours, and those that other packages bring.

Knows nothing of what an adapter needs to be built; bots/app.py passes it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points

GROUP = "nightschool.adapters"
ADAPTERS = {
    "console": "adapters.console:ConsoleAdapter",
    "web": "adapters.web.adapter:WebAdapter",
    "memory": "adapters.memory:MemoryAdapter",
}


class UnknownAdapter(Exception):
    """No adapter has that name."""


def known() -> list[str]:
    """The names that can stand in a bot's `adapters`."""
    return sorted({*ADAPTERS, *(point.name for point in entry_points(group=GROUP))})


def load(name: str) -> type:
    """Import and return the adapter's class. Raises UnknownAdapter."""
    if name in ADAPTERS:
        module, _, attribute = ADAPTERS[name].partition(":")
        return getattr(import_module(module), attribute)
    for point in entry_points(group=GROUP, name=name):
        return point.load()
    raise UnknownAdapter(f"no adapter is called {name!r}; there are {', '.join(known())}")
