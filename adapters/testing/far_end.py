"""The platform's side of the wire, as a test of an adapter drives it. Knows no platform."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from adapters.base import Health, Person, PlatformAdapter, Verdict


@dataclass
class TestHost:
    """A Host that keeps what it is told."""

    __test__ = False

    bot: str
    folder: Path
    reports: list[Health] = field(default_factory=list)
    owners: list[Person] = field(default_factory=list)

    def report(self, health: Health) -> None:
        """Keep `health`."""
        self.reports.append(health)

    async def owned_by(self, person: Person) -> None:
        """Keep `person`."""
        self.owners.append(person)


@dataclass(frozen=True)
class Shown:
    """One message of the bot as people see it; `buttons` are the labels under it."""

    id: str
    text: str
    buttons: tuple[str, ...] = ()


class FarEnd(ABC):
    """The platform's side. `can` names what the platform has; tests of anything else are skipped.

    `can` may hold: press, rate, correct, react, quote, group, edit, recall, join, move, owner_writes, cut, acknowledge.
    `lacks` names what nearly every platform has and this one cannot have: cuts (long texts in pieces), own (the
    bot's messages come back), again (a message comes twice), unknown (other kinds than text), settle (the
    adapter, and not the page itself, shows what was chosen).
    Chats and people are named by short names ("alice", "club"); `chat_id` and `person_id` give the
    adapter's ids for them. A private chat has its person's name.
    """

    can: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()
    host: TestHost | None = None  # what the adapter was given, where it was given one
    limit_in: Callable[[str], int] = staticmethod(len)  # how the platform counts a message's length

    @abstractmethod
    def adapter(self) -> PlatformAdapter:
        """A new adapter, logged in or able to log in by itself, pointed at this far end."""

    @abstractmethod
    def chat_id(self, chat: str) -> str: ...

    @abstractmethod
    def person_id(self, person: str) -> str: ...

    @abstractmethod
    async def say(
        self, text: str, *, chat: str = "alice", person: str = "alice", mention: bool = False, quote: str | None = None
    ) -> str:
        """`person` writes; returns the platform's id of the message. Any other chat than one's own is a group."""

    async def again(self, message: str) -> None:
        """The platform delivers the message once more."""
        raise NotImplementedError

    async def own(self, text: str, *, chat: str = "alice") -> None:
        """A message that the bot itself sent comes back, as platforms do."""
        raise NotImplementedError

    async def unknown(self, *, chat: str = "alice", person: str = "alice") -> str:
        """`person` sends something of a kind that nobody has heard of."""
        raise NotImplementedError

    @abstractmethod
    def shown(self, chat: str = "alice") -> list[Shown]:
        """What people see of the bot in the chat, oldest first."""

    async def press(self, message: str, verdict: Verdict, *, chat: str = "alice", person: str = "alice") -> None:
        """`person` presses the button for `verdict` under the bot's message."""
        raise NotImplementedError

    async def correct(self, message: str, words: str, *, chat: str = "alice", person: str = "alice") -> None:
        """`person` fills in what the bot's message should have said."""
        raise NotImplementedError

    async def react(self, message: str, verdict: Verdict, *, chat: str = "alice", person: str = "alice") -> None:
        """`person` reacts with 👍 ("good") or 👎 ("bad"), or takes the reaction back ("retract")."""
        raise NotImplementedError

    async def edit(self, message: str, text: str, *, chat: str = "alice", person: str = "alice") -> None:
        """`person` changes their message."""
        raise NotImplementedError

    async def recall(self, message: str, *, chat: str = "alice", person: str = "alice") -> None:
        """`person` takes their message back."""
        raise NotImplementedError

    async def join(self, *, chat: str, person: str) -> None:
        """`person` joins the group, or becomes a friend where `chat` is their own."""
        raise NotImplementedError

    async def move(self, chat: str, to: str) -> None:
        """The chat goes on under another id."""
        raise NotImplementedError

    async def owner_writes(self, text: str, *, chat: str = "alice") -> None:
        """The owner writes from another device of the bot's account."""
        raise NotImplementedError

    def acknowledged(self) -> Collection[str]:
        """The platform's ids of the messages that the adapter said it received."""
        raise NotImplementedError

    async def cut(self) -> None:
        """The platform can't be reached from now on."""
        raise NotImplementedError

    async def mend(self) -> None:
        """It can be reached again."""
        raise NotImplementedError
