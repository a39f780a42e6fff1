"""Which of what is said in a group is for the bot. Pure.

Knows nothing of who may talk. What is not for the bot is not even stored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from adapters.base import Inbound, Message
from bots import intent
from bots.intent import Choice

AFTER_NAME = re.compile(r"^[\s,，、:：!！。.~～]+")


@dataclass(frozen=True)
class Hearing:
    """`names` are what the bot can be called by at the start of a message; none: only the platform's own ways."""

    names: Sequence[str] = ()

    def of(self, inbound: Inbound) -> Inbound | None:
        """`inbound` as the bot is to take it, or None when it is not for the bot."""
        if not isinstance(inbound, Message):
            return inbound
        if not inbound.group or inbound.addressed:
            return inbound
        called = self._without_name(inbound.text)
        if called is not None:
            return replace(inbound, text=called, addressed=True)
        return inbound if may_answer_an_offer(inbound.text) else None

    def _without_name(self, text: str) -> str | None:
        """What follows the bot's name, when `text` begins with it."""
        start = text.lstrip()
        for name in sorted(filter(None, self.names), key=len, reverse=True):
            rest = start[len(name) :]
            if start[: len(name)].casefold() == name.casefold() and (not rest or AFTER_NAME.match(rest)):
                return AFTER_NAME.sub("", rest)
        return None


def may_answer_an_offer(text: str) -> bool:
    """Whether words that address nobody could still be a person's answer to what the bot offered them."""
    return isinstance(intent.parse(text, offer_pending=True), Choice)
