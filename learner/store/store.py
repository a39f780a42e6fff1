"""The store: everything that is remembered, one transaction a method, synchronous.

Knows nothing of platforms or torch. Each method hands its transaction to the module of its subject.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from learner.duels import Offer
from learner.imported import ImportCount, ImportedRecord
from learner.records import Exchange, Feedback, PreferenceRecords, ShownCandidate
from learner.store import (
    amend,
    chatlog,
    chats,
    duels,
    exchanges,
    feedback,
    history,
    lessons,
    mail,
    memories,
    people,
    runs,
    said,
)
from learner.store import forget as forgetting
from learner.store import imports as importing
from learner.store.database import Database
from learner.store.rows import (
    EVERY_CHAT,
    Amended,
    Chats,
    ChatState,
    ExchangeView,
    Forgotten,
    InboxRow,
    Known,
    LogEntry,
    Memory,
    NewExchange,
    NewFeedback,
    NewInbound,
    OfferState,
    OutboxDraft,
    OutboxRow,
    Place,
    Received,
    RecordStats,
    RunRow,
    RunState,
    Search,
    Turn,
)


class Store:
    """The database by URL ("sqlite:///data/nightschool.db"), created and migrated when opened.

    Raises StoreFromNewerVersion and StoreUnusable.
    """

    def __init__(self, url: str, vectors: bool = False) -> None:
        """`vectors`: let sqlite-vec compare them, where it is installed and this Python can load it."""
        self._database = Database(url, vectors)

    def close(self) -> None:
        self._database.close()

    # What arrives and what is sent

    def receive(self, mind: str, inbound: NewInbound) -> Received:
        """Store what arrived; what the platform delivered before is given as it is stored."""
        with self._database.write() as c:
            return mail.receive(c, mind, inbound)

    def waiting(self) -> list[InboxRow]:
        """What has not been answered, in order of arrival."""
        with self._database.read() as c:
            return mail.waiting(c)

    def arrival(self, inbox_id: int) -> InboxRow | None:
        """The arrival as it is now."""
        with self._database.read() as c:
            return mail.arrival(c, inbox_id)

    def merge(self, host: int, earlier: Sequence[int]) -> None:
        """Let the arrival `host` be answered for these earlier ones too."""
        with self._database.write() as c:
            amend.merge(c, host, earlier)

    def said_in(self, host: int) -> str:
        """The words that the arrival is answered for, merged ones before its own."""
        with self._database.read() as c:
            return amend.said_in(c, host)

    def amend(self, place: Place, message: str, text: str | None) -> Amended:
        """Let the message say `text` (None: it is taken back), waiting or in the history."""
        with self._database.write() as c:
            return amend.amend(c, place, message, text)

    def answer(self, inbox_id: int, replies: Sequence[OutboxDraft]) -> None:
        """Store replies that belong to no exchange, and that the arrival is dealt with."""
        with self._database.write() as c:
            mail.answer(c, inbox_id, replies)

    def post(self, mind: str, replies: Sequence[OutboxDraft], at: float) -> None:
        """Store what is to be sent without having been asked for."""
        with self._database.write() as c:
            mail.add_replies(c, mind, None, replies, at)

    def outbox(self, inbox_id: int) -> list[OutboxRow]:
        """The replies to one arrival, in order."""
        with self._database.read() as c:
            return mail.replies_to(c, inbox_id)

    def outbox_of_exchange(self, exchange: str) -> OutboxRow | None:
        """The reply that showed the exchange."""
        with self._database.read() as c:
            return mail.of_exchange(c, exchange)

    def unsent(self, bot: str | None = None, platform: str | None = None) -> list[OutboxRow]:
        """What is still to be sent, in order."""
        with self._database.read() as c:
            return mail.unsent(c, bot, platform)

    def is_unsent(self, outbox_id: str) -> bool:
        """Whether the reply is there and still to be sent."""
        with self._database.read() as c:
            return mail.is_unsent(c, outbox_id)

    def knows(self, place: Place, message: str) -> bool:
        """Whether the bot was given the message."""
        with self._database.read() as c:
            return mail.knows(c, place, message)

    def takes_part(self, place: Place) -> bool:
        """Whether the bot ever spoke or was spoken to in the chat."""
        with self._database.read() as c:
            return history.any_turn(c, place)

    def unsendable(self, limit: int = 20) -> list[OutboxRow]:
        """The newest that could not be sent, and why (its `reason`), newest first."""
        with self._database.read() as c:
            return mail.unsendable(c, limit)

    def mark_sent(self, outbox_id: str, message_ids: Sequence[str]) -> None:
        """The platform took it, and gave it these ids."""
        with self._database.write() as c:
            mail.mark_sent(c, outbox_id, message_ids)

    def mark_failed(self, outbox_id: str, reason: str, permanent: bool) -> None:
        """An attempt failed; a permanent failure is not tried again."""
        with self._database.write() as c:
            mail.mark_failed(c, outbox_id, reason, permanent)

    # The conversation

    def history(self, place: Place, limit: int, block: int = 1) -> list[Turn]:
        """The newest `limit` turns since the last reset, oldest first; cut at a multiple of `block`."""
        with self._database.read() as c:
            return history.newest(c, place, limit, block)

    def add_turn(self, inbox_id: int, mind: str, place: Place, turn: Turn, replies: Sequence[OutboxDraft]) -> None:
        """Add to the history what no exchange holds, and store the replies; the arrival is dealt with. Once."""
        with self._database.write() as c:
            if not mail.is_done(c, inbox_id):
                history.add(c, mind, place, turn)
                mail.answer(c, inbox_id, replies)

    def owner_spoke_at(self, place: Place) -> float | None:
        """When the owner last wrote here in the bot's place."""
        with self._database.read() as c:
            return history.owner_spoke_at(c, place)

    def chat_state(self, place: Place) -> ChatState:
        """What is set for the chat."""
        with self._database.read() as c:
            return chats.state(c, place)

    def change_chat(
        self, place: Place, inbox_id: int | None = None, replies: Sequence[OutboxDraft] = (), **changes: Any
    ) -> None:
        """Set what is given of ChatState's fields for the chat, and answer the arrival that asked for it: once."""
        with self._database.write() as c:
            if inbox_id is None:
                chats.change(c, place, **changes)
            elif not mail.is_done(c, inbox_id):
                chats.change(c, place, **changes)
                mail.answer(c, inbox_id, replies)

    def open_chat(self, mind: str, place: Place, turn: Turn, replies: Sequence[OutboxDraft]) -> bool:
        """Let the bot speak first in a chat where nothing was ever said; whether it was such a chat."""
        with self._database.write() as c:
            untouched = history.is_untouched(c, place)
            if untouched:
                history.add(c, mind, place, turn)
                mail.add_replies(c, mind, None, replies, turn.at)
            return untouched

    def choose_persona(
        self,
        inbox_id: int,
        mind: str,
        place: Place,
        persona: str,
        first: Sequence[Turn],
        replies: Sequence[OutboxDraft],
        at: float,
    ) -> None:
        """Let `persona` speak in the chat: history starts anew, with `first`; the arrival is answered. Once."""
        with self._database.write() as c:
            if not mail.is_done(c, inbox_id):
                chats.change(c, place, persona=persona)
                history.restart(c, mind, place, first, at)
                mail.answer(c, inbox_id, replies)

    def move_chat(self, place: Place, to: str) -> None:
        """The chat goes on under the id `to`."""
        with self._database.write() as c:
            chats.move(c, place, to)

    def note(self, bot: str, name: str) -> str:
        """What was set for the bot under `name` while it ran; "" for nothing."""
        with self._database.read() as c:
            return chats.note(c, bot, name)

    def set_note(self, bot: str, name: str, value: str, author: str) -> None:
        """Set it; "" takes it back. `author` ("platform:id") is whose words they are."""
        with self._database.write() as c:
            chats.set_note(c, bot, name, value, author)

    def reset(self, place: Place, at: float) -> None:
        """History starts anew from here; nothing is deleted."""
        with self._database.write() as c:
            history.reset(c, place, at)

    def chat_log(self, place: Place, limit: int, now: float | None = None) -> list[LogEntry]:
        """The chat's newest lines, oldest first; with `now`, offers past their time say expired."""
        with self._database.read() as c:
            return chatlog.chat_log(c, place, limit, now)

    # What was said before

    def why_no_recall(self) -> str:
        """Why nothing can be found by words in this database; "" when it can."""
        with self._database.read() as c:
            return memories.why_not(c)

    def recall(self, wanted: Search) -> list[Memory]:
        """What was said before and is about the words, best first."""
        with self._database.read() as c:
            return memories.search(c, wanted)

    def without_vector(self, bot: str, model: str, limit: int) -> list[tuple[int, str]]:
        """The bot's newest turns, as (turn, text), that the embedding model has not seen."""
        with self._database.read() as c:
            return memories.without_vector(c, bot, model, limit)

    def add_vectors(self, model: str, made: Sequence[tuple[int, str, Sequence[float]]]) -> int:
        """Keep what the embedding model made of (turn, text); how many, as turns may have changed meanwhile."""
        with self._database.write() as c:
            return memories.add_vectors(c, model, made)

    # Exchanges

    def begin_exchange(self, new: NewExchange) -> None:
        """Store an exchange before its first token; earlier attempts at it become interrupted."""
        with self._database.write() as c:
            exchanges.begin(c, new)

    def finish_exchange(
        self,
        exchange: str,
        candidates: Sequence[ShownCandidate],
        question: Turn,
        expires_at: float | None,
        replies: Sequence[OutboxDraft],
        at: float,
        given: NewFeedback | None = None,
        expected: Literal[1, 2] | None = None,
    ) -> None:
        """Store the final candidates (in shown order), both turns, the replies, the arrival done.

        Candidate 1 becomes history; the person's earlier open offer here closes. Twice is once.
        `given` is feedback on another exchange that the same arrival meant; `expected` the side of this one
        that people surely prefer, where that is known.
        Raises UnknownExchange, and ExchangeNotReady for an interrupted one.
        """
        with self._database.write() as c:
            if given is not None:
                feedback.add(c, exchanges.required(c, exchange).inbox_id, given, [])
            exchanges.finish(c, exchange, candidates, question, expires_at, replies, at, expected)

    def interrupt_exchange(self, exchange: str) -> None:
        """Its reply was cut short: it never trains."""
        with self._database.write() as c:
            exchanges.interrupt(c, exchange)

    def interrupt_unfinished(self) -> int:
        """At the start: whatever was being generated was cut short. Returns how many."""
        with self._database.write() as c:
            return exchanges.interrupt(c, None)

    def exchange(self, exchange: str) -> ExchangeView | None:
        """The exchange with this id."""
        with self._database.read() as c:
            return exchanges.view(c, exchange)

    def exchange_of_message(self, place: Place, message_id: str) -> ExchangeView | None:
        """The exchange that the platform's message showed."""
        with self._database.read() as c:
            return exchanges.of_message(c, place, message_id)

    def latest_exchange(self, place: Place) -> ExchangeView | None:
        """The exchange of the bot's newest reply since the last reset."""
        with self._database.read() as c:
            return exchanges.view(c, history.latest_exchange(c, place))

    def open_offer(self, place: Place, person: str, now: float) -> ExchangeView | None:
        """The person's pending offer: their latest exchange here, open and not expired."""
        with self._database.read() as c:
            return exchanges.open_offer(c, place, person, now)

    def close_offer(self, exchange: str, state: OfferState) -> None:
        """Move an offer to `state`; an exchange that offered nothing stays as it is."""
        with self._database.write() as c:
            exchanges.set_offer(c, exchange, state)

    def offers_since(self, place: Place, since: float) -> int:
        """How many offers this chat was made at or after `since`."""
        with self._database.read() as c:
            return exchanges.offers_since(c, place, since)

    # Feedback

    def add_feedback(self, inbox_id: int | None, new: NewFeedback, replies: Sequence[OutboxDraft]) -> int:
        """Store feedback, once per inbox row, with the offer, the history and the replies to it.

        Raises UnknownExchange, and ExchangeNotReady for one that is not final.
        """
        with self._database.write() as c:
            return feedback.add(c, inbox_id, new, replies)

    def latest_feedback(self, place: Place, teacher: str) -> Feedback | None:
        """The teacher's newest feedback in this chat that has not been taken back."""
        with self._database.read() as c:
            return feedback.latest(c, place, teacher)

    def words_of(self, mind: str, teacher: str) -> int:
        """On how many exchanges of a mind the teacher has said something."""
        with self._database.read() as c:
            return feedback.words_of(c, mind, teacher)

    def newest_feedback(self) -> int:
        """The number of the newest feedback on anything, 0 before any."""
        with self._database.read() as c:
            return feedback.newest(c)

    def feedback_word(self, exchange: str) -> str:
        """What the person who was answered says about the exchange now ("2", "good", …), or ""."""
        with self._database.read() as c:
            shown = exchanges.view(c, exchange)
            teacher = "" if shown is None else f"{shown.place.platform}:{shown.person}"
            return said.newest_word(c, exchange, teacher)[0]

    # People

    def known(self, bot: str, platform: str, person: str) -> Known | None:
        """The person, if the bot met them."""
        with self._database.read() as c:
            return people.known(c, bot, platform, person)

    def note_person(self, known: Known) -> None:
        """Remember the person and their newest name; never lowers what they are allowed."""
        with self._database.write() as c:
            people.note(c, known)

    def owners(self, bot: str) -> list[Known]:
        """The bot's owners."""
        with self._database.read() as c:
            return people.owners(c, bot)

    def admit(self, bot: str, code: str) -> Known | None:
        """Let the person talk who was given `code`; None when nobody was."""
        with self._database.write() as c:
            return people.admit(c, bot, code)

    def people_called(self, bot: str, platform: str, name: str) -> list[Known]:
        """The person with the id `name`, or all of that name."""
        with self._database.read() as c:
            return people.called(c, bot, platform, name)

    def names(self, bot: str, platform: str, ids: Sequence[str]) -> dict[str, str]:
        """The newest names of these people."""
        with self._database.read() as c:
            return people.names(c, bot, platform, ids)

    def set_teacher(self, bot: str, platform: str, person: str, teacher: bool) -> None:
        """Let the person teach, or no longer."""
        with self._database.write() as c:
            people.set_teacher(c, bot, platform, person, teacher)

    def claim_owner(self, bot: str, platform: str, person: str, at: float) -> None:
        """The person owns the bot, and so teaches it."""
        with self._database.write() as c:
            people.claim_owner(c, bot, platform, person, at)

    # What to learn from

    def exchanges(self, mind: str) -> list[Exchange]:
        """The mind's final exchanges that somebody gave feedback on, oldest first."""
        with self._database.read() as c:
            return lessons.exchanges_of(c, mind)

    def feedback(self, mind: str) -> list[Feedback]:
        """All feedback that a mind got, oldest first."""
        with self._database.read() as c:
            return feedback.of_mind(c, mind)

    def add_imported(
        self, mind: str, bot: str, source: str, teacher: str, records: Sequence[ImportedRecord], at: float
    ) -> ImportCount:
        """Store what is new of records that were made elsewhere; `teacher` "" is the source itself, as an owner."""
        with self._database.write() as c:
            return importing.add(c, mind, bot, source, teacher, records, at)

    def records(self, mind: str, chats: Chats = EVERY_CHAT) -> PreferenceRecords:
        """The preference records of these chats of the mind, derived in one state of the database."""
        with self._database.read() as c:
            return lessons.records_of(c, mind, chats)

    def stats(self, mind: str) -> RecordStats:
        """Counts of what people said and what can be learned from it."""
        with self._database.read() as c:
            return lessons.stats(c, mind)

    def offers_with(self, mind: str, version: str) -> list[Offer]:
        """The mind's judged offers in which the LoRA `version` was shown, oldest first."""
        with self._database.read() as c:
            return duels.offers_with(c, mind, version)

    # Nightly runs

    def next_number(self, above: int = 0) -> int:
        """A run number never given before, larger than `above` too."""
        with self._database.write() as c:
            return runs.next_number(c, above)

    def add_run(self, run: RunRow) -> None:
        """Store a run that begins."""
        with self._database.write() as c:
            runs.add(c, run)

    def update_run(
        self,
        number: int,
        *,
        state: RunState | None = None,
        progress: dict[str, Any] | None = None,
        verdict: dict[str, Any] | None = None,
        finished_at: float | None = None,
    ) -> None:
        """Set what is given; None leaves a value as it is."""
        with self._database.write() as c:
            runs.change(c, number, state, progress, verdict, finished_at)

    def run(self, number: int) -> RunRow | None:
        """The run with this number."""
        with self._database.read() as c:
            return runs.one(c, number)

    def runs(self, mind: str, limit: int = 20) -> list[RunRow]:
        """The newest runs of a mind or of chats of their own, as a scope is written, newest first."""
        with self._database.read() as c:
            return runs.newest(c, mind, limit)

    def unfinished_runs(self) -> list[RunRow]:
        """The runs, whosever, that nobody stored the end of, oldest first."""
        with self._database.read() as c:
            return runs.unfinished(c)

    # Forgetting

    def forget(self, person: str) -> Forgotten:
        """Delete "platform:id" from every table and from the database's files."""
        with self._database.write() as c:
            forgotten = forgetting.forget(c, person)
        return forgetting.with_files(forgotten, self._database.purge())
