"""One inbound thing while it is being answered: where, by whom, and how to say something back.

Knows nothing of what it means.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from adapters.base import Person, Reply
from bots.phrases import Phrases
from learner.store.rows import ChatState, InboxRow, Known, Place


@dataclass(frozen=True)
class Call:
    """One inbound thing being answered: where, by whom, and how to say something back."""

    row: InboxRow
    known: Known
    phrases: Phrases
    trusted: bool = False  # whether their word trains
    group: bool = False
    chat: ChatState = field(default_factory=ChatState)

    @property
    def place(self) -> Place:
        """The chat."""
        return self.row.inbound.place

    @property
    def arrived(self) -> float:
        """When it was stored, unix seconds."""
        return self.row.inbound.at

    @property
    def teacher(self) -> str:
        """The person as the learner knows them."""
        return f"{self.place.platform}:{self.known.person}"

    @property
    def unproved(self) -> str | None:
        """The person, where their word trains by what is found of it: an owner's always does."""
        return self.teacher if self.trusted and not self.known.owner else None

    @property
    def addressee(self) -> Person | None:
        """Whom the answer is for, in a group."""
        return Person(self.known.person, self.known.name) if self.group else None

    def notice(self, key: str, **values: object) -> Reply:
        """A sentence of the bot's own, answering this."""
        return self.words(self.phrases.say(key, **values))

    def words(self, text: str) -> Reply:
        """`text` answering this, about no exchange."""
        return Reply(f"{self.row.id}-0", self.place.chat, text, answers=self.row.inbound.external_id, to=self.addressee)
