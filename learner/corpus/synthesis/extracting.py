"""Finds the JSON in what a model says: in fences, in chatter, with its commonest slips mended. Never evaluates it.

Knows nothing of what the JSON should hold.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)
FENCE = re.compile(r"```[\w-]*[ \t]*\n?(.*?)```", re.DOTALL)
BEGINNING = re.compile(r"[\[{]")
LOOSE = re.compile(r",\s*[\]}]")
LOOSE_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[\]}])', re.DOTALL)
STARTS = 32  # brackets tried in one text; what matters begins early
LONGEST = 200_000  # characters that are looked at


def values(text: str) -> Iterator[Any]:
    """Every list and object found in `text`, likeliest first; the caller takes the first that has the right shape.

    Thoughts (<think>…</think>) are passed over. Line breaks inside strings and commas before a closing bracket are
    borne with; anything else that is not JSON is not guessed at.
    """
    said = THOUGHT.sub("", text[:LONGEST])
    said = said.rpartition("</think>")[2]  # the opening tag stands in some templates, not in the answer
    for part in (*FENCE.findall(said), said):
        yield from _values_in(part)


def _values_in(text: str) -> Iterator[Any]:
    at = tried = 0
    while tried < STARTS and (found := BEGINNING.search(text, at)):
        tried += 1
        value, end = _value_at(text, found.start())
        if end:
            yield from _unwrapped(value)
        at = end or found.end()


def _unwrapped(value: Any, depth: int = 3) -> Iterator[Any]:
    """A value, then what it holds under its names: models like to wrap what was asked for in {"result": …}."""
    yield value
    if isinstance(value, dict) and depth:
        for inner in value.values():
            if isinstance(inner, dict | list):
                yield from _unwrapped(inner, depth - 1)


def _value_at(text: str, start: int) -> tuple[Any, int]:
    """The value that begins at `start`, and where it ends; 0 when there is none."""
    decoder = json.JSONDecoder(strict=False)
    try:
        value, end = decoder.raw_decode(text, start)
        return _written(value), end
    except RecursionError:
        return None, 0
    except ValueError:
        pass
    if not LOOSE.search(text, start):
        return None, 0
    try:
        value, _ = decoder.raw_decode(LOOSE_COMMA.sub(lambda found: found[1] or "", text[start:]))
    except (ValueError, RecursionError):
        return None, 0
    return _written(value), len(text)  # where it ended in the text as it was is no longer known


def _written(value: Any) -> Any:
    """The value as UTF-8 can write it: JSON's escapes can name halves of characters."""
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
