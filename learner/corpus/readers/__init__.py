"""The readers of other tools' files, one for each family of formats, by name.

Knows nothing of what becomes of the rows. A reader yields exactly one value for each row of its source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import tzinfo
from importlib import import_module
from pathlib import Path
from typing import cast

from learner.corpus.media import Language
from learner.corpus.rows import Row

CHATS = {"memotrace": "memotrace", "weclone": "weclone", "telegram": "telegram"}
DATASETS = {
    "alpaca": "pairs",
    "styled": "pairs",
    "sharegpt": "turns",
    "xtuner": "turns",
    "character": "turns",
    "rolebench": "rolebench",
    "text": "plain",
}
FORMATS = (*CHATS, *DATASETS)


class Unreadable(ValueError):
    """A file that can't be read at all: it is not there, or not in the format that it should be in."""


@dataclass(frozen=True)
class Reading:
    """What a reader is told: who I am, by all my names; the zone of written times (None: this machine's); the
    profiles of roles by name, and which roles are wanted (none: all)."""

    me: tuple[str, ...] = ()
    zone: tzinfo | None = None
    language: Language = "zh"
    profiles: tuple[tuple[str, str], ...] = ()
    roles: tuple[str, ...] = ()


Read = Callable[[Path, Reading], Iterator[Row]]


def reader(format: str) -> Read:
    """The function that reads files of `format`. Raises Unreadable for a name that is none."""
    module = (CHATS | DATASETS).get(format)
    if module is None:
        raise Unreadable(f"no format is called {format!r}: there are {', '.join(FORMATS)}, and auto")
    found = import_module(f"learner.corpus.readers.{module}")
    return cast(Read, getattr(found, f"read_{format}"))


def detect(path: Path) -> str:
    """The format of `path` by what is in it. Raises Unreadable where it is in none."""
    from learner.corpus.readers.detecting import format_of

    return format_of(path)
