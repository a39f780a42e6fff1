"""How long a prompt is where no tokenizer can tell: an estimate that is rather too high. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from learner.engine.base import ChatMessage

AROUND_A_MESSAGE = 6  # tokens that a template writes around one
WIDE = 0x2E80  # from here on Chinese, Japanese and Korean stand: about a token a character in most vocabularies


def estimated_tokens(messages: Sequence[ChatMessage]) -> int:
    """About how many tokens `messages` are as a prompt: one for 3 bytes of Latin text, one for a wide character."""
    return sum(AROUND_A_MESSAGE + _of(message.content) for message in messages)


def _of(text: str) -> int:
    wide = sum(ord(character) >= WIDE for character in text)
    return wide + (len(text) - wide + 2) // 3
