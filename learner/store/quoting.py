"""Whether a text holds what somebody said, and taking it out. Pure.

Knows nothing of tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# A shorter text ("好") is a quote only as a whole line: inside a longer one it is anybody's word.
QUOTE_LENGTH = 8
SEPARATORS = (": ", "：", "> ")
GONE = "…"


def quotes(content: str, texts: Iterable[str]) -> bool:
    """Whether `content` holds one of `texts`: anywhere if it is long, as a whole line if short."""
    lines = {line.strip() for line in content.splitlines()}
    lines |= {line.split(mark, 1)[1].strip() for mark in SEPARATORS for line in lines if mark in line}
    whole = _squeezed(content)
    return any(text in lines if _is_short(text) else _squeezed(text) in whole for text in texts)


def _is_short(text: str) -> bool:
    """Whether `text` is so little that anybody may have said it; several lines are not."""
    return len(text) < QUOTE_LENGTH and "\n" not in text


def _squeezed(text: str) -> str:
    """`text` with every run of blanks as one: a prompt may break and indent lines otherwise."""
    return " ".join(text.split())


def scrub(value: Any, texts: Iterable[str]) -> Any:
    """`value` (text, or JSON) with every long one of `texts` replaced by "…"."""
    if isinstance(value, str):
        for text in sorted(texts, key=len, reverse=True):
            if len(text) >= QUOTE_LENGTH:
                value = value.replace(text, GONE)
        return value
    if isinstance(value, list):
        return [scrub(one, texts) for one in value]
    if isinstance(value, dict):
        return {scrub(key, texts): scrub(one, texts) for key, one in value.items()}
    return value
