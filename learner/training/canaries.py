"""Canaries: known prompts whose replies can be checked for content, language, ending, repetition.

Pure. Knows nothing of models or of how replies are made.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from learner.engine.base import ChatMessage

HAN = re.compile(r"[\u3400-\u9fff]")
LATIN = re.compile(r"[A-Za-z]+")
LOOP = re.compile(r"(.{2,24}?)\1{3,}", re.DOTALL)  # the same piece four times in a row


@dataclass(frozen=True)
class Canary:
    """A prompt, what a right reply holds (any of; empty: not checked) and its language (or None).

    The owner's own are always asked, and none that was answered rightly may be lost.
    """

    prompt: tuple[ChatMessage, ...]
    any_of: tuple[str, ...]
    language: str | None
    own: bool = False


@dataclass(frozen=True)
class Reply:
    """A generated reply: its text without thoughts, its tokens, whether it ended itself, whether it holds a thought."""

    text: str
    tokens: tuple[int, ...]
    ended: bool
    thought: bool = False


@dataclass(frozen=True)
class CanaryFigures:
    """Shares of canaries that passed each check; `right` passed all of them. `own`: which of the owner's did."""

    count: int
    right: float
    content: float
    language: float
    ended: float
    unrepeated: float
    own: tuple[bool, ...] = ()


def figures(canaries: Sequence[Canary], replies: Sequence[Reply]) -> CanaryFigures:
    """Check every reply against its canary."""
    rows = [_checks(canary, reply) for canary, reply in zip(canaries, replies, strict=True)]
    count = len(rows)
    if not count:
        return CanaryFigures(0, 1.0, 1.0, 1.0, 1.0, 1.0)
    shares = [sum(column) / count for column in zip(*rows, strict=True)]
    own = tuple(all(row) for canary, row in zip(canaries, rows, strict=True) if canary.own)
    content, language, ended, unrepeated = shares
    return CanaryFigures(count, sum(map(all, rows)) / count, content, language, ended, unrepeated, own)


def apart(canaries: Sequence[Canary], replies: Sequence[Reply], different: int) -> float | None:
    """How often a canary's first two replies differ in being right; the same canary comes again after `different`."""
    flags = [right(canary, reply) for canary, reply in zip(canaries, replies, strict=True)][: 2 * different]
    twice = list(zip(flags, flags[different:], strict=False))
    return sum(first != second for first, second in twice) / len(twice) if twice else None


def right(canary: Canary, reply: Reply) -> bool:
    """Whether `reply` passes every check of `canary`."""
    return all(_checks(canary, reply))


def sample(canaries: Iterable[Canary], most: int) -> tuple[Canary, ...]:
    """At most `most` canaries, the owner's first, always the same ones, whatever the order of the file."""
    return tuple(sorted(canaries, key=lambda canary: (not canary.own, _place(canary)))[:most])


def _checks(canary: Canary, reply: Reply) -> tuple[bool, bool, bool, bool]:
    return (
        holds_any(reply.text, canary.any_of),
        in_language(reply.text, canary.language),
        reply.ended and bool(reply.text.strip()),
        not LOOP.search(reply.text),
    )


def holds_any(text: str, wanted: Sequence[str]) -> bool:
    """Whether `text` holds one of `wanted`, in any case; nothing wanted is always held."""
    lowered = text.lower()
    return not wanted or any(part.lower() in lowered for part in wanted)


def in_language(text: str, language: str | None) -> bool:
    """Whether `text` is mostly of `language`: "zh" by its characters, "en" by their absence.

    Names of the other language may stand in it: a Chinese character counts as much as a word.
    """
    han, words = len(HAN.findall(text)), len(LATIN.findall(text))
    if language == "zh":
        return han > words
    if language == "en":
        return words > han
    return True


def strayed(replies: Sequence[Reply], others: Sequence[Reply]) -> float:
    """How many of `replies` are mostly Chinese where the other reply to the same prompt is not, or the reverse."""
    apart = [_script(one.text) * _script(other.text) < 0 for one, other in zip(replies, others, strict=True)]
    return sum(apart) / max(1, len(apart))


def _script(text: str) -> int:
    """1: mostly Chinese, −1: mostly other words, 0: neither."""
    return int(in_language(text, "zh")) - int(in_language(text, "en"))


def _place(canary: Canary) -> bytes:
    text = "\x1f".join(f"{message.role}:{message.content}" for message in canary.prompt)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
