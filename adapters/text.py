"""Cuts text to what a platform takes, and writes an offer as one message. Knows no platform."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator

from adapters.base import Reply

# What belongs to the character before it beside combining marks: joiners, skin tones, tags, the second half of
# some Thai, Lao and half-width Japanese characters, and the vowels and endings of decomposed Korean.
_JOINS = re.compile(
    "[\u200c\u200d\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f\u0e33\u0eb3\uff9e\uff9f\u1160-\u11ff\ud7b0-\ud7fb]"
)
_JOINER = "\u200d"
_VIRAMA = 9  # the combining class of marks that join an Indic consonant to the next one
_FLAG = re.compile("[\U0001f1e6-\U0001f1ff]")
_ENDS = ("\n", "。", "！", "？", ". ", "! ", "? ", "；", "; ", "，", ", ", " ")
_FULL, _HALF, _CLOSING = "，。！？；～\n", ",.!?;~", "”’」』）】》"
# Where a clause ends. A half-width mark between half-width characters is inside a number or an address.
_CLAUSE_END = re.compile(
    f"(?:[{_HALF}]*[{_FULL}][{_FULL}{_HALF}]*|(?<![!-~])[{_HALF}]+|[{_HALF}]+(?![!-~]))[{_CLOSING}]*"
)
_MARKS = "，,。；;\n "


def utf16_length(text: str) -> int:
    """How many UTF-16 units `text` has, as some platforms count."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def chunks(text: str, limit: int, length: Callable[[str], int] = len) -> list[str]:
    """Cut `text` into parts of at most `limit` (as `length` counts), where a line, a sentence or a word ends.

    Joined again they give `text`; no character is broken, however many code points it is made of, unless it
    is longer than `limit` itself.
    """
    parts, rest = [], text
    while length(rest) > limit:
        at = _cut(rest, limit, length)
        parts.append(rest[:at])
        rest = rest[at:]
    return [*parts, rest] if rest or not parts else parts


def clauses(text: str, shortest: int = 4) -> list[str]:
    """Cut `text` after its commas and stops, as people send what they type: the marks that a pause replaces go."""
    found: list[str] = []
    for part in _split(text):
        if found and len(found[-1].strip(_MARKS)) < shortest:
            found[-1] += part
        else:
            found.append(part)
    stripped = (part.strip().rstrip("，,；;、") for part in found)
    return [part for part in stripped if part] or [text]


def offer_text(offer: Reply) -> str:
    """Both candidates in one message, under the question that introduces them."""
    assert offer.candidates is not None
    first, second = offer.candidates
    return f"{offer.text}\n\n1. {first}\n\n2. {second}"


def _split(text: str) -> Iterator[str]:
    start = 0
    for end in _CLAUSE_END.finditer(text):
        yield text[start : end.end()]
        start = end.end()
    if start < len(text):
        yield text[start:]


def _cut(text: str, limit: int, length: Callable[[str], int]) -> int:
    """Where to cut so that what comes before is at most `limit` long: the last good end, else between characters."""
    at = used = 0
    allowed = set()
    for character in _characters(text):
        used += length(character)
        if used > limit:
            break
        at += len(character)
        allowed.add(at)
    if not at:
        return _cut_character(text, limit, length)
    for end in _ENDS:
        found = text[:at].rfind(end)
        if found >= at // 2 and found + len(end) in allowed:
            return found + len(end)
    return at


def _cut_character(text: str, limit: int, length: Callable[[str], int]) -> int:
    """Where to cut in a character that is longer than `limit`: a platform that refuses it would never get the rest."""
    at = 1
    while length(text[: at + 1]) <= limit:
        at += 1
    return at


def _characters(text: str) -> Iterator[str]:
    """The characters that a person sees, each with all its code points."""
    start = 0
    while start < len(text):
        end = start + 1
        if _FLAG.match(text[start]) and end < len(text) and _FLAG.match(text[end]):
            end += 1
        while end < len(text) and _belongs(text[end], text[end - 1]):
            end += 1
        yield text[start:end]
        start = end


def _belongs(character: str, before: str) -> bool:
    """Whether `character` is part of the one that ends with `before`. Rather too often than too seldom."""
    return (
        unicodedata.category(character).startswith("M")
        or _JOINS.match(character) is not None
        or before == _JOINER
        or unicodedata.combining(before) == _VIRAMA
        or before + character == "\r\n"
    )
