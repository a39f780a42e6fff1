"""Tells what we sent from what the account's owner typed on the phone: both come back as the account's own.

Knows nothing of wechaty. A gateway gives few ids for what it sent, so that texts are compared.
"""

from __future__ import annotations

import html
from collections import OrderedDict, deque
from collections.abc import Callable

KEPT = 2000
MEMORY = 15 * 60.0  # seconds in which a message that we sent may come back


class Echoes:
    """What we sent lately and has not come back, and the ids of what did."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sent: deque[tuple[float, str, str]] = deque(maxlen=KEPT)
        self._ids: OrderedDict[str, None] = OrderedDict()

    def expect(self, chat: str, text: str) -> None:
        """We are sending `text`; it may come back before the gateway says that it went out."""
        self._sent.append((self._clock(), chat, _plain(text)))

    def forget(self, chat: str, text: str) -> None:
        """It was refused: the same words may be the owner's."""
        self._take(chat, _plain(text))

    def sent_as(self, message: str, chat: str, text: str) -> None:
        """What we sent has the id `message`, as far as the gateway tells."""
        if message and message not in self._ids:
            self._take(chat, _plain(text))
            self._know(message)

    def is_ours(self, message: str, chat: str, text: str) -> bool:
        """Is this own message one that we sent? It may come more than once."""
        if message in self._ids:
            return True
        if self._take(chat, _plain(text)):
            self._know(message)
            return True
        return False

    def _know(self, message: str) -> None:
        self._ids[message] = None
        while len(self._ids) > KEPT:
            self._ids.popitem(last=False)

    def _take(self, chat: str, text: str) -> bool:
        while self._sent and self._sent[0][0] < self._clock() - MEMORY:
            self._sent.popleft()
        for entry in self._sent:
            if entry[1:] == (chat, text):
                self._sent.remove(entry)
                return True
        return False


def _plain(text: str) -> str:
    """`text` without what gateways change on its way: entities and white space."""
    return " ".join(html.unescape(text).split())
