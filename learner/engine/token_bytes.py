"""What a single token writes, as bytes: for those who look at log-probabilities token by token.

Knows nothing of generating. Byte-level BPE spells bytes as printable characters (GPT-2's `bytes_to_unicode`),
SentencePiece a space as "▁" and a byte that it has no piece for as "<0x0A>".
"""

from __future__ import annotations

import json
import re
from typing import Any

SPACE = "▁"
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _spellings() -> dict[str, int]:
    """Which byte each character of a byte-level vocabulary stands for."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + at): byte for at, byte in enumerate(others)}


SPELLINGS = _spellings()


class TokenBytes:
    """Reads a tokenizer's vocabulary token by token."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._special = frozenset(tokenizer.all_special_ids)
        self._byte_level = "ByteLevel" in _decoder_of(tokenizer)

    def __call__(self, token: int) -> bytes:
        """What `token` writes; nothing for a special or unknown one."""
        piece = None if token in self._special else self._tokenizer.convert_ids_to_tokens(token)
        if not isinstance(piece, str):
            return b""
        if self._byte_level and all(character in SPELLINGS for character in piece):
            return bytes(SPELLINGS[character] for character in piece)
        if (byte := _BYTE.fullmatch(piece)) is not None:
            return bytes([int(byte[1], 16)])
        return piece.replace(SPACE, " ").encode("utf-8", "replace")


def _decoder_of(tokenizer: Any) -> str:
    """The description of the tokenizer's decoder; empty where it has none."""
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    return json.dumps(json.loads(decoder.__getstate__())) if decoder is not None else ""
