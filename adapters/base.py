"""The contract between a platform and the conversation: what comes in, what goes out.

Knows nothing of bots, learner or any platform.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol

Verdict = Literal["1", "2", "both_bad", "tie", "good", "bad", "correction", "retract"]


@dataclass(frozen=True)
class Person:
    """Who: `id` is the platform's own lasting id, `name` is for display only."""

    id: str
    name: str = ""


@dataclass(frozen=True)
class Message:
    """A person's words. `id` is unique within the platform; `quote` is the platform id quoted."""

    id: str
    chat: str
    person: Person
    text: str
    quote: str | None = None
    group: bool = False
    addressed: bool = True


@dataclass(frozen=True)
class Pressed:
    """A button or form about one exchange. `correction` holds the words when `verdict` says so."""

    id: str
    chat: str
    person: Person
    exchange: str
    verdict: Verdict
    correction: str = ""


@dataclass(frozen=True)
class Reacted:
    """A reaction to one of the bot's messages; `verdict` "retract" when it was removed."""

    id: str
    chat: str
    person: Person
    message: str
    verdict: Literal["good", "bad", "retract"]


@dataclass(frozen=True)
class Edited:
    """A person changed the message `message`."""

    id: str
    chat: str
    person: Person
    message: str
    text: str


@dataclass(frozen=True)
class Recalled:
    """A person took the message `message` back."""

    id: str
    chat: str
    person: Person
    message: str


Inbound = Message | Pressed | Reacted | Edited | Recalled


@dataclass(frozen=True)
class Reply:
    """One thing to send. `id` is the same at every retry, so that a platform can drop repeats.

    `exchange` is None for a notice (thanks, help, busy). With `candidates` it is an offer:
    `text` is the question that introduces them. `answers` is the inbound id it answers.
    """

    id: str
    chat: str
    text: str
    exchange: str | None = None
    candidates: tuple[str, str] | None = None
    answers: str | None = None


@dataclass(frozen=True)
class Sent:
    """The platform's ids of what was sent; a reaction or a quote names one of them."""

    message_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Capabilities:
    """What a platform can show."""

    streams: bool = False
    streams_offers: bool = False  # both candidates can grow side by side
    buttons: bool = False
    max_chars: int = 4000


class Receipt(Protocol):
    """Returned once an inbound thing is stored; `replies` waits until it has been answered."""

    async def replies(self) -> tuple[Reply, ...]: ...


Receive = Callable[[Inbound], Awaitable[Receipt]]


class PlatformAdapter(Protocol):
    """One platform for one bot."""

    name: str
    capabilities: Capabilities

    async def run(self, receive: Receive) -> None:
        """Take part until cancelled. A platform is told "received" only after `receive` returned."""
        ...

    async def send(self, reply: Reply) -> Sent:
        """Deliver `reply`. Raises DeliveryFailed."""
        ...

    def stream(self, chat: str, exchange: str, candidate: int, text: str) -> None:
        """Show that candidate `candidate` (1 or 2) of `exchange` grew by `text`. May drop it."""
        ...


class AdapterError(Exception):
    """Base of what an adapter raises."""


class DeliveryFailed(AdapterError):
    """A reply could not be delivered. `retry_after` is in seconds, None for the default back-off."""

    def __init__(self, reason: str, retry_after: float | None = None, permanent: bool = False) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.permanent = permanent
