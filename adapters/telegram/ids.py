"""The ids of chats, messages and buttons as text, and back. Knows nothing of what is said."""

from __future__ import annotations

import re
from dataclasses import dataclass

from adapters.base import Verdict

BUTTON_BYTES = 64  # Telegram's limit of what a button carries
_PAIR = re.compile(r"(-?\d+):(\d+)")
_CHAT = re.compile(r"(-?\d+)(?::(\d+))?")
_SIGNS: dict[Verdict, str] = {"1": "1", "2": "2", "both_bad": "0", "good": "+", "bad": "-", "retract": "~"}
_VERDICTS = {sign: verdict for verdict, sign in _SIGNS.items()}


@dataclass(frozen=True)
class Address:
    """Where a message goes: a chat, or a topic of one."""

    chat: int
    thread: int | None = None

    @property
    def private(self) -> bool:
        """Only persons have positive ids."""
        return self.chat > 0


def chat_id(chat: int, thread: int | None = None) -> str:
    """The chat's id as text; a topic is a chat of its own."""
    return f"{chat}" if thread is None else f"{chat}:{thread}"


def address(chat: str) -> Address | None:
    """Where `chat` is; None when that is no chat of Telegram's."""
    found = _CHAT.fullmatch(chat)
    return Address(int(found[1]), int(found[2]) if found[2] else None) if found else None


def message_id(chat: int, message: int) -> str:
    """A message's id; Telegram's own numbers are unique in a chat only."""
    return f"{chat}:{message}"


def message_number(message: str, chat: int) -> int | None:
    """Telegram's number of a message of `chat`; None when it names no message there."""
    found = _PAIR.fullmatch(message)
    return int(found[2]) if found and int(found[1]) == chat else None


def button(exchange: str, verdict: Verdict) -> str | None:
    """What a button carries; None when the exchange's id is too long for it."""
    packed = f"{_SIGNS[verdict]}{exchange}"
    return packed if len(packed.encode()) <= BUTTON_BYTES else None


def pressed(packed: str | None) -> tuple[str, Verdict] | None:
    """The exchange and the verdict that a button carries; None when it is none of ours."""
    if not packed or packed[0] not in _VERDICTS or not packed[1:]:
        return None
    return packed[1:], _VERDICTS[packed[0]]
