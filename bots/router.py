"""One inbound thing in, everything that follows from it stored: the one flow of a conversation.

Knows nothing of platforms beyond their capabilities, nor of what happens to the records at night.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from adapters.base import Capabilities, Message, PlatformAdapter, Pressed, Reacted, Reply
from bots import conversations, intent
from bots.access import Access
from bots.arena import Arena, Expired
from bots.call import Call
from bots.commands import Commands
from bots.database import Database
from bots.inbox import draft_of, from_payload
from bots.intent import Choice, Command, Correction, Rating
from bots.persona import Persona
from bots.phrases import Phrases
from learner.engine.base import (
    Candidate,
    CandidateSpec,
    Engine,
    EngineBusy,
    EngineClosed,
    EngineError,
    Generated,
    GenerateRequest,
    PromptTooLong,
    Sampling,
)
from learner.records import ShownCandidate
from learner.store.rows import ExchangeView, InboxRow, NewExchange, NewFeedback, Place, Turn
from learner.store.store import Store

log = logging.getLogger(__name__)

THANKS = {
    "1": "thanks_choice",
    "2": "thanks_choice",
    "tie": "thanks_tie",
    "both_bad": "thanks_both_bad",
    "good": "thanks_good",
    "bad": "thanks_bad",
}


@dataclass(frozen=True)
class BotProfile:
    """What makes one bot: its mind, its person, its way of drawing replies."""

    name: str
    mind: str
    persona: Persona
    sampling: Sampling
    phrases: Phrases
    max_message_chars: int
    reply_timeout: float


class Router:
    """Handles what arrives for one bot. Each path ends in one transaction that also finishes the inbox row."""

    def __init__(
        self,
        bot: BotProfile,
        engine: Engine,
        arena: Arena,
        access: Access,
        commands: Commands,
        store: Store,
        database: Database,
        new_id: Callable[[], str],
        new_seed: Callable[[], int],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._bot = bot
        self._engine = engine
        self._arena = arena
        self._access = access
        self._commands = commands
        self._store = store
        self._database = database
        self._new_id = new_id
        self._new_seed = new_seed
        self._clock = clock
        self._adapters: dict[str, PlatformAdapter] = {}

    def serve(self, adapter: PlatformAdapter) -> None:
        """Let replies stream to `adapter`."""
        self._adapters[adapter.name] = adapter

    async def handle(self, row: InboxRow) -> None:
        """Answer what `row` holds; when this returns the row is done in the store."""
        inbound = from_payload(row.inbound.kind, row.inbound.payload)
        call = Call(row, await self._access.meet(row.inbound.place, inbound.person), self._bot.phrases)
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
        text = message.text.strip()
        if not text:
            return await self._answer(call, call.notice("empty"))
        if len(text) > self._bot.max_message_chars:
            return await self._answer(call, call.notice("too_long", limit=self._bot.max_message_chars))
        meant, about = await self._meaning(call, message)
        if isinstance(meant, Command):
            return await self._answer(call, *await self._commands.run(call, meant))
        if meant is not None and about is not None:
            return await self._give_feedback(call, about, meant)
        await self._converse(call, text)

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

    async def _converse(self, call: Call, text: str) -> None:
        try:
            prompt = await self._prompt(call.place, text)
        except conversations.MessageTooLong:
            return await self._answer(call, call.notice("too_long", limit=self._fitting_chars()))
        two = await self._arena.wants_two(call.place, call.arrived)
        new = NewExchange(
            id=self._new_id(),
            mind=self._bot.mind,
            place=call.place,
            person=call.known.person,
            inbox_id=call.row.id,
            prompt=prompt.messages,
            prompt_ids=prompt.token_ids,
            at=self._clock(),
        )
        await self._database(self._store.begin_exchange, new)
        try:
            generated = await self._generate(new, two)
        except EngineError as error:
            await self._database(self._store.interrupt_exchange, new.id)
            return await self._answer(call, self._apology(call, error))
        await self._finish(call, new, text, generated)

    async def _prompt(self, place: Place, text: str) -> conversations.Prompt:
        history = await self._database(self._store.history, place, conversations.HISTORY_LIMIT)
        system = self._bot.persona.system_prompt(self._bot.phrases.language)
        budget = self._engine.context_length - self._bot.sampling.max_tokens
        return conversations.build(system, history, text, self._engine.render, budget)

    async def _generate(self, new: NewExchange, two: bool) -> Generated:
        adapter = self._adapters.get(new.place.platform)
        shows = adapter.capabilities if adapter is not None else Capabilities()
        specs = tuple(CandidateSpec(self._bot.sampling, self._new_seed()) for _ in range(2 if two else 1))
        request = GenerateRequest(
            new.prompt_ids,
            specs,
            chat="/".join((new.place.bot, new.place.platform, new.place.chat)),
            timeout=self._bot.reply_timeout,
        )
        if adapter is None or not (shows.streams_offers if two else shows.streams):
            return await self._engine.generate(request)
        return await self._engine.generate(
            request, lambda index, text: adapter.stream(new.place.chat, new.id, index + 1, text)
        )

    async def _finish(self, call: Call, new: NewExchange, text: str, generated: Generated) -> None:
        candidates = self._presentable(new.place, generated.candidates)
        if not candidates:
            await self._database(self._store.interrupt_exchange, new.id)
            key = "timed_out" if generated.candidates[0].finish == "timeout" else "nothing_said"
            return await self._answer(call, call.notice(key))
        now = self._clock()
        reply = Reply(new.id, call.place.chat, candidates[0].text, new.id, answers=call.row.inbound.external_id)
        if len(candidates) == 2:
            pair = (candidates[0].text, candidates[1].text)
            reply = replace(reply, text=self._bot.phrases.say("which"), candidates=pair)
        expires = now + self._arena.rules.expires_after if reply.candidates else None
        question = Turn("user", call.known.person, text, None, call.arrived)
        shown = [shown_candidate(candidate, side) for side, candidate in enumerate(candidates, 1)]
        await self._database(
            self._store.finish_exchange, new.id, shown, question, expires, [draft_of(reply, call.place)], now
        )

    def _presentable(self, place: Place, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates to show: none that is empty, no second that says the same or does not fit."""
        spoken = [candidate for candidate in candidates if candidate.text.strip()]
        texts = {candidate.text.strip() for candidate in spoken}
        adapter = self._adapters.get(place.platform)
        limit = adapter.capabilities.max_chars if adapter is not None else Capabilities().max_chars
        fits = sum(len(candidate.text) for candidate in spoken) + 200 <= limit
        return spoken if len(texts) == len(spoken) and fits else spoken[:1]

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

    def _apology(self, call: Call, error: EngineError) -> Reply:
        if isinstance(error, EngineBusy):
            return call.notice("busy")
        if isinstance(error, PromptTooLong):
            return call.notice("too_long", limit=self._fitting_chars())
        if isinstance(error, EngineClosed):
            return call.notice("resting")
        log.error("engine: %s: %s", type(error).__name__, error)
        return call.notice("failed")

    def _fitting_chars(self) -> int:
        return min(self._bot.max_message_chars, self._engine.context_length - self._bot.sampling.max_tokens)


def shown_candidate(candidate: Candidate, side: int) -> ShownCandidate:
    """A generated candidate as it is kept: all that invariant 2 asks for."""
    sampling = candidate.spec.sampling
    return ShownCandidate(
        text=candidate.text,
        token_ids=candidate.token_ids,
        logprobs=candidate.logprobs,
        lora=candidate.lora,
        sampling={
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "repetition_penalty": sampling.repetition_penalty,
            "max_tokens": sampling.max_tokens,
        },
        seed=candidate.spec.seed,
        side=side,
        finish=candidate.finish,
    )


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
