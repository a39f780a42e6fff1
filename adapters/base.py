"""The contract between a platform and the conversation: what comes in, what goes out.

Knows nothing of bots, learner or any platform.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

MessageKind = Literal["text", "voice", "image", "sticker", "video", "file", "other"]
Verdict = Literal["1", "2", "both_bad", "tie", "good", "bad", "correction", "retract"]


@dataclass(frozen=True)
class Person:
    """Who: `id` is the platform's own lasting id, `name` is for display only."""

    id: str
    name: str = ""


@dataclass(frozen=True)
class Message:
    """A person's words. `id` is unique for the bot on its platform; `quote` is the platform id quoted.

    A private chat's id is its person's. `addressed` says that the platform itself tells it is for the bot:
    every private message, and in a group a mention, a quote of the bot, or a command to it. The mention is
    no part of `text`. A `kind` other than text or voice has its caption as `text`; a voice message has its
    transcript, or "".
    """

    id: str
    chat: str
    person: Person
    text: str
    quote: str | None = None
    group: bool = False
    addressed: bool = True
    kind: MessageKind = "text"


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


@dataclass(frozen=True)
class OwnerWrote:
    """The bot's account wrote `text` in `chat` from another device: its owner speaks in the bot's place."""

    id: str
    chat: str
    person: Person
    text: str


@dataclass(frozen=True)
class Joined:
    """`person` became a friend of the bot's account (`chat` is theirs) or a member of the group `chat`."""

    id: str
    chat: str
    person: Person
    group: bool = False


@dataclass(frozen=True)
class Moved:
    """The chat goes on under another id: `chat` is the old one, `to` the new."""

    id: str
    chat: str
    person: Person
    to: str


Inbound = Message | Pressed | Reacted | Edited | Recalled | OwnerWrote | Joined | Moved


@dataclass(frozen=True)
class Reply:
    """One thing to send. `id` is the same at every retry, so that a platform can drop repeats.

    `exchange` is None for a notice (thanks, help, busy). With `candidates` it is an offer:
    `text` is the question that introduces them. `answers` is the inbound id it answers, `to` the
    person it is for, in a group. With `greets` it is what the bot says first: part of the conversation, though
    no exchange made it.
    """

    id: str
    chat: str
    text: str
    exchange: str | None = None
    candidates: tuple[str, str] | None = None
    answers: str | None = None
    to: Person | None = None
    greets: bool = False


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
    shows_presses: bool = False  # a button's press shows at the reply itself (see Settling): no thanks are sent
    whole_messages: bool = False  # people send what they mean in one piece: nothing more is waited for
    max_chars: int = 4000  # of one message; a longer reply is cut into several, an offer is not made


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


@runtime_checkable
class Settling(Protocol):
    """An adapter that can show under an offer what was chosen."""

    async def settle(self, chat: str, message_ids: tuple[str, ...], offer: Reply, verdict: Verdict) -> None:
        """`offer`, sent as `message_ids`, was answered. Best effort: never raises."""
        ...


@runtime_checkable
class Busy(Protocol):
    """An adapter that can show that a reply is being made."""

    def busy(self, chat: str, on: bool) -> None:
        """A reply for `chat` began (or ended); returns at once and may do nothing."""
        ...


@runtime_checkable
class AsksForCode(Protocol):
    """An adapter whose login may want digits that the phone shows (see Health.wants_code)."""

    def enter_code(self, code: str) -> None: ...


@dataclass(frozen=True)
class Health:
    """How an adapter stands. `detail` says what is wrong and what to do; `qr` is what a login code holds."""

    state: Literal["starting", "login", "online", "offline"]
    detail: str = ""
    qr: str = ""
    wants_code: bool = False


@dataclass(frozen=True)
class Finding:
    """One thing that `nightschool doctor` looked at: what it is, whether it is right, what to do if not."""

    what: str
    right: bool
    to_do: str = ""


class Host(Protocol):
    """What an adapter is given beside its settings. `folder` is its own and private (0700)."""

    bot: str
    folder: Path

    def report(self, health: Health) -> None:
        """Tell how the adapter stands now."""
        ...

    async def owned_by(self, person: Person) -> None:
        """Whoever logs in here by their own account owns the bot."""
        ...


class AdapterError(Exception):
    """Base of what an adapter raises."""


class DeliveryFailed(AdapterError):
    """A reply could not be delivered. `retry_after` is in seconds, None for the default back-off.

    `until_written`: something that the chat's person writes makes it possible at once.
    """

    def __init__(
        self,
        reason: str,
        retry_after: float | None = None,
        permanent: bool = False,
        until_written: bool = False,
    ) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.permanent = permanent
        self.until_written = until_written
