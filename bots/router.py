"""One inbound thing in, everything that follows from it stored: a verdict, a command, or a reply.

Knows nothing of platforms, of how a reply is made, nor of what happens to the records at night.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from adapters.base import (
    Edited,
    Inbound,
    Joined,
    Message,
    Moved,
    OwnerWrote,
    Pressed,
    Reacted,
    Recalled,
    Reply,
)
from bots import intent
from bots.access import Access
from bots.arena import Arena
from bots.call import Call
from bots.commands import Commands
from bots.database import Database
from bots.greeting import Greeting, greeting
from bots.intent import Choice, Command, Correction, Rating
from bots.limits import Limits
from bots.payloads import draft_of, from_payload
from bots.persona import Draw
from bots.phrases import phrases
from bots.talk import Talk
from bots.verdicts import Verdicts, may_answer
from learner.store.rows import ExchangeView, InboxRow, Place, Turn
from learner.store.store import Store

Tell = Callable[[Place, str], Awaitable[None]]


@dataclass(frozen=True)
class Conduct:
    """How a bot behaves towards those who are not talking to it: silence, greetings, notices."""

    silent_seconds: float = 0.0
    greets: bool = False
    group_notice: bool = False


class Router:
    """Handles what arrives for one bot. Each path ends in one transaction that also finishes the inbox row."""

    def __init__(
        self,
        mind: str,
        language: str,
        conduct: Conduct,
        talk: Talk,
        arena: Arena,
        access: Access,
        limits: Limits,
        commands: Commands,
        verdicts: Verdicts,
        tell: Tell,
        draw: Draw,
        store: Store,
        database: Database,
    ) -> None:
        self._mind = mind
        self._language = language
        self._conduct = conduct
        self._talk = talk
        self._arena = arena
        self._access = access
        self._limits = limits
        self._commands = commands
        self._verdicts = verdicts
        self._tell = tell
        self._draw = draw
        self._store = store
        self._database = database

    async def handle(self, row: InboxRow) -> None:
        """Answer what `row` holds; when this returns the row is done in the store."""
        inbound = from_payload(row.inbound.kind, row.inbound.payload)
        call = await self._call(row, inbound)
        match inbound:
            case OwnerWrote():
                await self._on_owner_wrote(call, inbound)
            case Moved():
                await self._database(self._store.move_chat, call.place, inbound.to)
                await self._answer(call)
            case Edited():
                await self._database(self._store.amend, call.place, inbound.message, inbound.text)
                await self._answer(call)
            case Recalled():
                await self._database(self._store.amend, call.place, inbound.message, None)
                await self._answer(call)
            case _ if not await self._is_heard(call, inbound):
                await self._refuse(call, inbound)
            case Joined():
                await self._on_joined(call)
            case Message():
                await self._on_message(call, inbound)
            case Pressed():
                await self._verdicts.pressed(call, inbound)
            case Reacted():
                await self._verdicts.reacted(call, inbound)

    async def _call(self, row: InboxRow, inbound: Inbound) -> Call:
        place = row.inbound.place
        known = await self._access.meet(place, inbound.person)
        chat = await self._database(self._store.chat_state, place)
        group = getattr(inbound, "group", False)
        return Call(row, known, phrases(chat.language or self._language), self._access.teaches(known), group, chat)

    # Who is heard ---------------------------------------------------------------------------

    async def _is_heard(self, call: Call, inbound: Inbound) -> bool:
        """Whether the person may talk here; what is about a reply was answered before, and so heard."""
        if isinstance(inbound, Pressed | Reacted):
            return True
        return self._access.may_talk(call.known, call.place, call.group, call.chat)

    async def _refuse(self, call: Call, inbound: Inbound) -> None:
        """A stranger: their words go nowhere, but for a claim code."""
        said = intent.parse(inbound.text, offer_pending=False) if isinstance(inbound, Message) else None
        over = self._over_limit(call) > 0
        if isinstance(said, Command) and said.name == "claim" and not over:
            return await self._answer(call, *await self._commands.run(call, said))
        code = None if call.group or over else await self._access.pairing_code(call.known)
        await self._answer(call, *([call.notice("pairing", code=code)] if code else []))

    def _over_limit(self, call: Call) -> int:
        """Count a message; by how many it is over what is answered."""
        return self._limits.over((call.place.platform, call.known.person), call.place, call.arrived)

    # Others than those who talk to it --------------------------------------------------------

    async def _on_owner_wrote(self, call: Call, wrote: OwnerWrote) -> None:
        turn = Turn("owner", call.known.person, wrote.text, None, call.arrived)
        await self._database(self._store.add_turn, call.row.id, self._mind, call.place, turn, [])

    async def _on_joined(self, call: Call) -> None:
        """Somebody new; in private what is said first is what the conversation begins with."""
        first = self._greeting(call)
        if first is None:
            return await self._answer(call, *([call.notice("hello")] if self._conduct.greets else []))
        if call.group:
            return await self._answer(call, *([call.words(first.reply.text)] if self._conduct.greets else []))
        if self._conduct.greets or call.known.owner:
            drafts = [draft_of(first.reply, call.place)]
            await self._database(self._store.add_turn, call.row.id, self._mind, call.place, first.turn, drafts)
        await self._answer(call)

    def _greeting(self, call: Call) -> Greeting | None:
        answers, reply_id = call.row.inbound.external_id, f"{call.row.id}-0"
        return greeting(self._talk.persona, call.chat.persona, self._draw, call.place, reply_id, call.arrived, answers)

    async def _is_silent(self, call: Call) -> bool:
        """Whether the bot keeps out of this chat: it was told to, or its owner is writing here."""
        if call.chat.paused:
            return True
        spoke = await self._database(self._store.owner_spoke_at, call.place)
        return spoke is not None and call.arrived < spoke + self._conduct.silent_seconds

    # A message -----------------------------------------------------------------------------

    async def _on_message(self, call: Call, message: Message) -> None:
        meant, about = await self._meaning(call, message)
        again = isinstance(meant, Command) and meant.name == "retry"
        if isinstance(meant, Command) and not again:
            await self._answer(call, *await self._commands.run(call, meant))
        elif isinstance(meant, Choice | Rating | Correction) and about is not None:
            await self._verdicts.give(call, about, meant)
        elif not message.addressed or await self._is_silent(call):
            await self._answer(call)
        elif (over := self._over_limit(call)) > 0:
            await self._answer(call, *([call.notice("too_fast")] if over == 1 else []))
        elif again:
            await self._retry(call)
        else:
            await self._reply(call, message)

    async def _retry(self, call: Call) -> None:
        """The last reply said another way, if it was made for this person and can still be replaced."""
        last = await self._arena.latest(call.place, call.arrived)
        if last is None or last.kept is None or last.person != call.known.person or not last.prompt:
            return await self._answer(call, call.notice("nothing_to_retry"))
        await self._talk.again(call, last)

    async def _reply(self, call: Call, message: Message) -> None:
        if call.group and self._conduct.group_notice and not call.chat.noticed:
            await self._tell(call.place, call.phrases.say("group_notice"))
            await self._database(self._store.change_chat, call.place, noticed=True)
        words = await self._database(self._store.said_in, call.row.id)
        if message.kind in ("text", "voice") and (words or message.kind == "text"):
            return await self._talk.reply(call, words)
        label = call.phrases.say(f"kind_{message.kind}")
        if words:
            return await self._talk.reply(call, f"{label} {words}")
        turn = Turn("user", call.known.person, label, None, call.arrived)
        line = [draft_of(call.notice("only_words", kind=label), call.place)]
        await self._database(self._store.add_turn, call.row.id, self._mind, call.place, turn, line)

    async def _meaning(self, call: Call, message: Message) -> tuple[intent.Intent, ExchangeView | None]:
        """What the words mean, and the exchange that they are about (None: ordinary words).

        Words that address nobody in a group are for the bot only as a choice of what it offered this person.
        """
        if not message.addressed:
            offer = await self._arena.pending(call.place, call.known.person, call.arrived)
            chosen = intent.parse(message.text, offer_pending=True)
            return (chosen, offer) if offer is not None and isinstance(chosen, Choice) else (None, None)
        about = await self._quoted(call, message)
        if about is None:
            about = await self._arena.pending(call.place, call.known.person, call.arrived)
        if about is not None and _is_unresolved(about):
            return intent.parse(message.text, offer_pending=True), about
        quoted = about is not None
        about = about or await self._arena.latest(call.place, call.arrived)
        asked = about is not None and not quoted and intent.ends_with_question(_shown_text(about))
        meant = intent.parse(message.text, offer_pending=False, answers_a_question=asked)
        if about is not None and not _can_be_about(meant, about, own=may_answer(call, about)):
            return None, None
        return meant, about

    async def _quoted(self, call: Call, message: Message) -> ExchangeView | None:
        if message.quote is None:
            return None
        exchange = await self._database(self._store.exchange_of_message, call.place, message.quote)
        return exchange if exchange is not None and may_answer(call, exchange) else None

    # Common ---------------------------------------------------------------------------------

    async def _answer(self, call: Call, *replies: Reply) -> None:
        drafts = [draft_of(reply, call.place) for reply in replies]
        await self._database(self._store.answer, call.row.id, drafts)


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
