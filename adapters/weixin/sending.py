"""Sends replies, which are scarce here: whole, with ids that stay the same at a retry, and never into a closed window.

Knows nothing of receiving or of the login. Weixin takes about 10 messages after each one of a person, within a day.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from adapters.base import DeliveryFailed, Reply, Sent
from adapters.text import chunks, offer_text, utf16_length
from adapters.weixin.pauses import Doubling
from adapters.weixin.state import Contact, State
from adapters.weixin.wire import Ilink, IlinkError, StaleLogin, Throttled

MAX_CHARS = 4000
WINDOW = 24 * 3600.0
WINDOW_RETRY = 600.0  # a look costs nothing: nothing is called until the person has written
THROTTLE, LONGEST_THROTTLE = 60.0, 3600.0
NOTES = 200  # replies whose first parts went out, remembered so that they don't go twice


@dataclass
class _Throttle:
    """Weixin refused what was sent under `context_token`; nothing is tried before `until`."""

    context_token: str
    pauses: Doubling
    until: float = 0.0


class Sender:
    """Delivers replies to the persons that `state` can reach."""

    def __init__(self, state: State, bot: str, clock: Callable[[], float]) -> None:
        self._state, self._bot, self._clock = state, bot, clock
        self._throttles: dict[str, _Throttle] = {}
        self._begun: dict[str, tuple[str, ...]] = {}

    async def send(self, ilink: Ilink, reply: Reply) -> Sent:
        """Deliver `reply` in as few messages as it fits into. Raises DeliveryFailed."""
        contact = self._contact(reply.chat)
        self._wait_for_throttle(reply.chat, contact)
        text = reply.text if reply.candidates is None else offer_text(reply)
        parts = chunks(text, MAX_CHARS, utf16_length) if text else []
        ids = self._begun.get(reply.id, ())
        for number in range(len(ids), len(parts)):
            ids = (*ids, await self._part(ilink, reply, contact, number, parts[number]))
            self._note(reply.id, ids if number + 1 < len(parts) else ())
        self._throttles.pop(reply.chat, None)
        return Sent(tuple(one for one in ids if one))

    async def _part(self, ilink: Ilink, reply: Reply, contact: Contact, number: int, text: str) -> str:
        try:
            return await ilink.send(reply.chat, text, self._client_id(reply.id, number), contact.context_token)
        except Throttled as error:
            raise self._throttled(reply.chat, contact, error) from error
        except StaleLogin as error:
            raise DeliveryFailed("Weixin ended the login; log in again by the code that is shown") from error
        except IlinkError as error:
            raise DeliveryFailed(f"the reply was not delivered: {error}") from error

    def _contact(self, person: str) -> Contact:
        """What is needed to reach `person`; Weixin lets a bot only answer, and only for a day."""
        contact = self._state.contacts.get(person)
        if contact is None:
            reason = "Weixin lets a bot only answer: this person has not written to it since it logged in"
            raise DeliveryFailed(reason, retry_after=WINDOW_RETRY, until_written=True)
        if self._clock() - contact.wrote > WINDOW:
            reason = "the person last wrote more than 24 hours ago; Weixin delivers again once they write"
            raise DeliveryFailed(reason, retry_after=WINDOW_RETRY, until_written=True)
        return contact

    def _wait_for_throttle(self, person: str, contact: Contact) -> None:
        """A message of the person opens the way at once; else nothing is called before the pause is over."""
        throttle = self._throttles.get(person)
        if throttle is None:
            return
        if throttle.context_token != contact.context_token:
            del self._throttles[person]
            return
        left = throttle.until - self._clock()
        if left > 0:
            reason = f"Weixin takes no more for this person yet; waiting {left:.0f} s"
            raise DeliveryFailed(reason, retry_after=left, until_written=True)

    def _throttled(self, person: str, contact: Contact, error: Throttled) -> DeliveryFailed:
        new = _Throttle(contact.context_token, Doubling(THROTTLE, LONGEST_THROTTLE))
        throttle = self._throttles.setdefault(person, new)
        pause = throttle.pauses.next()
        throttle.until = self._clock() + pause
        reason = f"{error}: it takes about 10 replies after each message of a person; waiting {pause:.0f} s"
        return DeliveryFailed(reason, retry_after=pause, until_written=True)

    def _note(self, reply: str, ids: tuple[str, ...]) -> None:
        self._begun.pop(reply, None)
        if ids:
            self._begun[reply] = ids
        while len(self._begun) > NOTES:
            del self._begun[next(iter(self._begun))]

    def _client_id(self, reply: str, number: int) -> str:
        """The same at every retry, so that Weixin shows the message once."""
        return "nightschool-" + hashlib.sha256(f"{self._bot}\n{reply}\n{number}".encode()).hexdigest()[:32]
