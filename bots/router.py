"""One inbound thing in, everything that follows from it stored: feedback, a command, or a reply.

Knows nothing of platforms, of how a reply is made, nor of what happens to the records at night.
"""

from __future__ import annotations

from adapters.base import Message, Pressed, Reacted, Reply
from bots import intent
from bots.access import Access
from bots.arena import Arena, Expired
from bots.call import Call
from bots.commands import Commands
from bots.database import Database
from bots.inbox import draft_of, from_payload
from bots.intent import Choice, Command, Correction, Rating
from bots.phrases import Phrases
from bots.talk import Talk
from learner.store.rows import ExchangeView, InboxRow, NewFeedback
from learner.store.store import Store

THANKS = {
    "1": "thanks_choice",
    "2": "thanks_choice",
    "tie": "thanks_tie",
    "both_bad": "thanks_both_bad",
    "good": "thanks_good",
    "bad": "thanks_bad",
}


class Router:
    """Handles what arrives for one bot. Each path ends in one transaction that also finishes the inbox row."""

    def __init__(
        self,
        phrases: Phrases,
        talk: Talk,
        arena: Arena,
        access: Access,
        commands: Commands,
        store: Store,
        database: Database,
    ) -> None:
        self._phrases = phrases
        self._talk = talk
        self._arena = arena
        self._access = access
        self._commands = commands
        self._store = store
        self._database = database

    async def handle(self, row: InboxRow) -> None:
        """Answer what `row` holds; when this returns the row is done in the store."""
        inbound = from_payload(row.inbound.kind, row.inbound.payload)
        call = Call(row, await self._access.meet(row.inbound.place, inbound.person), self._phrases)
        match inbound:
            case Message():
                await self._on_message(call, inbound)
            case Pressed():
                await self._on_pressed(call, inbound)
            case Reacted():
                await self._on_reacted(call, inbound)
            case _:
                await self._answer(call)

    # A message -----------------------------------------------------------------------------

    async def _on_message(self, call: Call, message: Message) -> None:
        meant, about = await self._meaning(call, message)
        if isinstance(meant, Command):
            await self._answer(call, *await self._commands.run(call, meant))
        elif meant is not None and about is not None:
            await self._give_feedback(call, about, meant)
        else:
            await self._talk.reply(call, message.text.strip())

    async def _meaning(self, call: Call, message: Message) -> tuple[intent.Intent, ExchangeView | None]:
        """What the words mean, and the exchange that they are about (None: ordinary words)."""
        about = await self._quoted(call, message)
        if about is None:
            about = await self._arena.pending(call.place, call.known.person, call.arrived)
        if about is not None and _is_unresolved(about):
            return intent.parse(message.text, offer_pending=True), about
        quoted = about is not None
        about = about or await self._arena.latest(call.place, call.arrived)
        asked = about is not None and not quoted and intent.ends_with_question(_shown_text(about))
        meant = intent.parse(message.text, offer_pending=False, answers_a_question=asked)
        if about is not None and not _can_be_about(meant, about, own=self._may_answer(call, about)):
            return None, None
        return meant, about

    async def _quoted(self, call: Call, message: Message) -> ExchangeView | None:
        if message.quote is None:
            return None
        exchange = await self._database(self._store.exchange_of_message, call.place, message.quote)
        return exchange if exchange is not None and self._may_answer(call, exchange) else None

    # Feedback -------------------------------------------------------------------------------

    async def _on_pressed(self, call: Call, pressed: Pressed) -> None:
        exchange = await self._database(self._store.exchange, pressed.exchange)
        if exchange is None or not self._may_answer(call, exchange):
            return await self._answer(call, call.notice("unknown_exchange"))
        if pressed.verdict == "retract":
            return await self._retract(call, exchange.id)
        await self._give_feedback(call, exchange, _word(pressed))

    async def _on_reacted(self, call: Call, reacted: Reacted) -> None:
        exchange = await self._database(self._store.exchange_of_message, call.place, reacted.message)
        if exchange is None or not self._may_answer(call, exchange):
            return await self._answer(call)
        if reacted.verdict == "retract":
            return await self._retract(call, exchange.id)
        await self._give_feedback(call, exchange, Rating(reacted.verdict))

    def _may_answer(self, call: Call, exchange: ExchangeView) -> bool:
        """An exchange belongs to its chat, and an offer to the person it was made to."""
        own = len(exchange.candidates) == 1 or exchange.person == call.known.person
        return exchange.place == call.place and own

    async def _give_feedback(self, call: Call, exchange: ExchangeView, word: Choice | Rating | Correction) -> None:
        trusted = self._access.teaches(call.known)
        feedback = self._arena.resolve(exchange, word, call.teacher, trusted, call.arrived)
        if isinstance(feedback, Expired):
            return await self._answer(call, call.notice(feedback.key))
        thanks = [draft_of(self._thanks(call, feedback), call.place)]
        await self._database(self._store.add_feedback, call.row.id, feedback, thanks)

    async def _retract(self, call: Call, exchange: str) -> None:
        feedback = NewFeedback(
            exchange, call.teacher, self._access.teaches(call.known), "retract", "", "", call.arrived
        )
        notice = [draft_of(call.notice("taken_back"), call.place)]
        await self._database(self._store.add_feedback, call.row.id, feedback, notice)

    def _thanks(self, call: Call, feedback: NewFeedback) -> Reply:
        if not feedback.trusted:
            return call.notice("untrusted")
        if feedback.kind == "correction":
            return call.notice("thanks_correction")
        return call.notice(THANKS[feedback.value], choice=feedback.value)

    # Common ---------------------------------------------------------------------------------

    async def _answer(self, call: Call, *replies: Reply) -> None:
        drafts = [draft_of(reply, call.place) for reply in replies]
        await self._database(self._store.answer, call.row.id, drafts)


def _word(pressed: Pressed) -> Choice | Rating | Correction:
    match pressed.verdict:
        case "1" | "2" | "both_bad" | "tie" as value:
            return Choice(value)
        case "good" | "bad" as value:
            return Rating(value)
        case _:
            return Correction(pressed.correction.strip())


def _can_be_about(meant: intent.Intent, exchange: ExchangeView, own: bool) -> bool:
    """Whether words that name no exchange can be about the last reply.

    A rating needs a reply that was settled on: of two open candidates, which one would it rate? An offer
    made to somebody else is theirs to correct.
    """
    if isinstance(meant, Rating):
        return exchange.kept is not None
    return own or not isinstance(meant, Correction)


def _is_unresolved(exchange: ExchangeView) -> bool:
    return len(exchange.candidates) == 2 and exchange.offer in ("open", "closed")


def _shown_text(exchange: ExchangeView) -> str:
    return exchange.candidates[(exchange.kept or 1) - 1].text
