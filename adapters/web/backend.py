"""What the conversation side gives the chat page. Knows nothing of HTTP or of who implements it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Role = Literal["user", "assistant", "notice"]
Offer = Literal["none", "open", "chosen", "closed", "expired"]
Given = Literal["", "1", "2", "both_bad", "tie", "good", "bad", "correction"]


@dataclass(frozen=True)
class MemoryLine:
    """Something said before that a reply was given to go by; `at` is in seconds since 1970."""

    role: Literal["user", "assistant"]
    text: str
    at: float


@dataclass(frozen=True)
class LogLine:
    """One line of a chat, as the page shows it after a reload.

    `text` of an offer is the candidate that stays in the history. `at` is in seconds since 1970.
    `id` is the inbound id of a user's line and the reply's id of the others; it lets the page tell
    what it already shows. A reply still being made is left out: it reaches the page as a stream.
    """

    role: Role
    text: str
    at: float
    exchange: str | None = None
    candidates: tuple[str, ...] = ()
    offer: Offer = "none"
    feedback: Given = ""
    correction: str = ""
    lora: str | None = None
    id: str = ""
    recalled: tuple[MemoryLine, ...] = ()


@dataclass(frozen=True)
class NightState:
    """How far a running night is; `done` goes from 0 to 1."""

    number: int
    phase: str
    done: float = 0.0
    detail: str = ""
    seconds_left: float | None = None


@dataclass(frozen=True)
class LoraLine:
    """One LoRA in the page's panel; `state` is active, published, refused, retired, ..."""

    version: str
    state: str
    at: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class PlatformLine:
    """Another platform of the bot in the page's panel; `qr` is a login's QR code as an SVG element, or ""."""

    name: str
    state: str
    detail: str = ""
    qr: str = ""
    wants_code: bool = False


@dataclass(frozen=True)
class PageStatus:
    """What the page's header and panel show. `lora` is the active version, None for the bare base model.

    `personas` are the names that a chat can choose beside the bot's own.
    """

    name: str
    language: str
    model: str
    lora: str | None
    records: int
    min_records: int
    night: NightState | None = None
    verdict: str = ""
    loras: tuple[LoraLine, ...] = ()
    platforms: tuple[PlatformLine, ...] = ()
    personas: tuple[str, ...] = ()


class WebBackend(Protocol):
    """The questions that the page asks the conversation side."""

    async def log(self, chat: str, limit: int) -> list[LogLine]:
        """The last `limit` lines of `chat`, oldest first."""
        ...

    async def open(self, chat: str) -> bool:
        """Let the bot speak first where nothing was ever said; its words come as a reply."""
        ...

    async def persona(self, chat: str) -> str:
        """The persona that `chat` chose, "" for the bot's own."""
        ...

    async def status(self) -> PageStatus: ...

    async def learn(self) -> str | None:
        """Start a nightly run; returns a sentence for the person when it can't."""
        ...

    async def chat_of(self, exchange: str) -> str | None:
        """The web chat in which `exchange` happened; None when there is no such exchange."""
        ...

    async def recalled_by(self, exchange: str) -> tuple[MemoryLine, ...]:
        """What was said before and `exchange` was given to go by, oldest first."""
        ...

    async def feedback_of(self, exchange: str) -> str:
        """What stands for `exchange` now: one of `Given`."""
        ...
