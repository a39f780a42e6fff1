"""What the store takes and gives: frozen rows. Platform, chat and person are opaque text.

Knows nothing of SQL, platforms or torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from learner.engine.base import ChatMessage
from learner.records import FeedbackKind, ShownCandidate

ExchangeState = Literal["generating", "final", "interrupted"]
OfferState = Literal["none", "open", "chosen", "closed", "expired"]
RunState = Literal["running", "published", "refused", "failed", "skipped"]


@dataclass(frozen=True)
class Place:
    """A conversation: which bot, on which platform, in which chat."""

    bot: str
    platform: str
    chat: str


@dataclass(frozen=True)
class Chats:
    """Some chats of a mind, whichever of its bots talks there: the named ones ("platform:chat"), or all `but` these."""

    named: frozenset[str] = frozenset()
    but: bool = True


EVERY_CHAT = Chats()


@dataclass(frozen=True)
class NewInbound:
    """Something that arrived, as it is to be kept. `kind` is the inbound class's name."""

    place: Place
    external_id: str
    person: str
    kind: str
    payload: dict[str, Any]
    at: float


@dataclass(frozen=True)
class InboxRow:
    """Something that arrived and is stored; `done` once its replies are in the outbox."""

    id: int
    inbound: NewInbound
    done: bool


@dataclass(frozen=True)
class OutboxDraft:
    """A reply to store; `payload` is the adapter's Reply as JSON. `id` is fixed by the caller."""

    id: str
    place: Place
    payload: dict[str, Any]


@dataclass(frozen=True)
class OutboxRow:
    """A stored reply; `state` is pending, sent or failed."""

    draft: OutboxDraft
    inbox_id: int | None
    state: Literal["pending", "sent", "failed"]
    attempts: int
    message_ids: tuple[str, ...]
    reason: str = ""


@dataclass(frozen=True)
class Turn:
    """One message of a chat's history."""

    role: Literal["user", "assistant", "owner"]
    person: str
    text: str
    exchange: str | None
    at: float
    id: int = 0  # given by the store


@dataclass(frozen=True)
class Search:
    """What is looked for among the turns of `place` and, by `across`, beyond it.

    `across` "chat": nowhere else; "person": also what `person` said, and was answered, in other chats of the bot on
    this platform; "bot": in all of the bot's chats. Never in another mind. `before` is the first turn that the
    prompt holds anyway; None when it holds all of this chat. `vector` is what `model` made of the words, if it did.
    """

    mind: str
    place: Place
    person: str
    words: str
    before: int | None
    limit: int
    across: Literal["chat", "person", "bot"] = "chat"
    least_coverage: float = 0.0  # share of the words' weight that a hit must hold
    least_similarity: float = 0.0  # cosine
    vector: tuple[float, ...] | None = None
    model: str = ""


@dataclass(frozen=True)
class Memory:
    """A turn that was found; `score` is the coverage or the cosine that it was found with, 0 to 1."""

    turn: int
    place: Place
    role: Literal["user", "assistant", "owner"]
    person: str
    text: str
    at: float
    score: float


@dataclass(frozen=True)
class NewExchange:
    """An exchange about to be generated: stored before its first token streams."""

    id: str
    mind: str
    place: Place
    person: str
    inbox_id: int
    prompt: tuple[ChatMessage, ...]
    prompt_ids: tuple[int, ...]
    at: float
    retry_of: str | None = None  # the exchange whose reply this one replaces
    recalled: tuple[int, ...] = ()  # the turns from before that its prompt was given


@dataclass(frozen=True)
class ExchangeView:
    """An exchange as the conversation needs it.

    `kept` is the candidate (1 or 2) that the person settled on: 1 for a single reply, None for an
    offer that is not resolved by a choice. `shown_at` is when its final text was stored.
    """

    id: str
    mind: str
    place: Place
    person: str
    state: ExchangeState
    offer: OfferState
    expires_at: float | None
    candidates: tuple[ShownCandidate, ...]
    at: float
    kept: int | None = None
    shown_at: float | None = None
    prompt: tuple[ChatMessage, ...] = ()
    prompt_ids: tuple[int, ...] = ()
    recalled: tuple[Memory, ...] = ()


@dataclass(frozen=True)
class NewFeedback:
    """What a person did with an exchange. `keep` is the candidate (1 or 2) that the chat's history
    shall hold from now on, `keep_text` words that replace it (a correction); both are ignored when
    the chat has moved on. `offer` is the state the offer moves to, None leaves it."""

    exchange: str
    teacher: str
    trusted: bool
    kind: FeedbackKind
    value: str
    correction: str
    at: float
    keep: int | None = None
    keep_text: str | None = None
    offer: OfferState | None = None


@dataclass(frozen=True)
class LogEntry:
    """One line of a chat as the page shows it after a reload.

    A user line has only `text`; a reply has its exchange, its candidates (two: an offer), the
    offer's state and the newest feedback of the asking person ("" if none). `id` is the inbound
    message's external id on a user's line, the outbox id on the bot's. `kept` is as ExchangeView's;
    `recalled` is what was said before and the reply was given to go by. A greeting is the assistant's and has
    no exchange.
    """

    role: Literal["user", "assistant", "notice"]
    text: str
    at: float
    exchange: str | None = None
    candidates: tuple[str, ...] = ()
    offer: OfferState = "none"
    feedback: str = ""
    correction: str = ""
    lora: str | None = None
    id: str = ""
    kept: int | None = None
    recalled: tuple[Memory, ...] = ()


@dataclass(frozen=True)
class Known:
    """A person known to a bot on a platform. `admitted`: the owner let them talk; `code` asks for it."""

    bot: str
    platform: str
    person: str
    name: str
    owner: bool
    teacher: bool
    admitted: bool = False
    code: str | None = None


@dataclass(frozen=True)
class ChatState:
    """What is set for one chat; `language` and `persona` (a name) are "" where nobody chose one."""

    allowed: bool = False
    paused: bool = False
    noticed: bool = False
    language: str = ""
    persona: str = ""


@dataclass(frozen=True)
class Amended:
    """What an edit or a recall met: `waiting` for its reply still, in `history`, or unknown (neither).

    `host` is the arrival that the message is answered with.
    """

    host: int | None = None
    waiting: bool = False
    history: bool = False


@dataclass(frozen=True)
class RunRow:
    """One nightly run; `mind` is written as a scope where only some chats of a mind were its subject."""

    number: int
    mind: str
    state: RunState
    started_at: float
    finished_at: float | None
    progress: dict[str, Any] = field(default_factory=dict)
    verdict: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Received:
    """What `Store.receive` gives: the stored row, and whether it was stored just now."""

    row: InboxRow
    new: bool


@dataclass(frozen=True)
class Forgotten:
    """What forgetting a person removed.

    `exchanges` are the ids of all exchanges whose records changed or went: the person's own, those
    the person gave feedback on, and other people's whose prompt quoted the person. LoRAs trained on
    one of them are to be retired, frozen runs that hold one of them deleted. `files_clean` is False
    when another process held the database open, so that deleted text may still be in its files.
    """

    rows: dict[str, int]
    tainted: int
    exchanges: frozenset[str]
    files_clean: bool


class RecordStats(TypedDict):
    """What people said to a mind, counted by what stands now, and the records derived from it."""

    exchanges: int
    offers: int
    expired: int
    closed: int
    choices: int
    ties: int
    both_bad: int
    ratings_good: int
    ratings_bad: int
    corrections: int
    retracted: int
    untrusted: int
    by_teacher: dict[str, int]
    imported: dict[str, int]  # records by the source that they were imported from
    pairs: int
    ratings: int
    left_out: dict[str, int]
