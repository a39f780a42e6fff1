"""Makes a reply: the prompt, one or two candidates, streamed, stored.

Knows nothing of what else words can mean, nor of platforms beyond their capabilities.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from adapters.base import Capabilities, PlatformAdapter, Reply
from bots import conversations
from bots.arena import Arena
from bots.call import Call
from bots.database import Database
from bots.inbox import draft_of
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
from learner.store.rows import NewExchange, Place, Turn
from learner.store.store import Store

log = logging.getLogger(__name__)
QUESTION_CHARS = 200  # room for the sentence that introduces two candidates


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


class Talk:
    """One bot's way of answering."""

    def __init__(
        self,
        bot: BotProfile,
        engine: Engine,
        arena: Arena,
        store: Store,
        database: Database,
        new_id: Callable[[], str],
        new_seed: Callable[[], int],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._bot = bot
        self._engine = engine
        self._arena = arena
        self._store = store
        self._database = database
        self._new_id = new_id
        self._new_seed = new_seed
        self._clock = clock
        self._adapters: dict[str, PlatformAdapter] = {}

    def serve(self, adapter: PlatformAdapter) -> None:
        """Let replies stream to `adapter`."""
        self._adapters[adapter.name] = adapter

    async def reply(self, call: Call, text: str) -> None:
        """Answer `text`; the reply, or an apology, is stored and the inbox row done when this returns."""
        if not text:
            return await self._answer(call, call.notice("empty"))
        if len(text) > self._bot.max_message_chars:
            return await self._answer(call, call.notice("too_long", limit=self._bot.max_message_chars))
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
        history = await self._database(self._store.history, place, conversations.HISTORY_LIMIT, conversations.BLOCK)
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
        fits = sum(len(candidate.text) for candidate in spoken) + QUESTION_CHARS <= limit
        return spoken if len(texts) == len(spoken) and fits else spoken[:1]

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
