"""Makes a reply: the prompt, one or two candidates, streamed, stored.

Knows nothing of what else words can mean, nor of platforms beyond their capabilities.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

from adapters.base import Busy, Capabilities, PlatformAdapter, Reply
from bots import conversations
from bots.arena import Arena, Asks
from bots.call import Call
from bots.curiosity import Question
from bots.database import Database
from bots.payloads import draft_of
from bots.persona import CurrentPersona
from bots.recall import Asked, Recall
from bots.voices import Voice, Voices
from learner.engine.base import (
    Candidate,
    CandidateSpec,
    Engine,
    EngineBusy,
    EngineClosed,
    EngineError,
    Generated,
    GenerateRequest,
    LoraMismatch,
    OnText,
    PromptTooLong,
    Sampling,
)
from learner.records import ShownCandidate
from learner.store.rows import ExchangeView, NewExchange, NewFeedback, Place, Turn
from learner.store.store import Store

log = logging.getLogger(__name__)
QUESTION_CHARS = 200  # room for the sentence that introduces two candidates


@dataclass(frozen=True)
class BotProfile:
    """What makes one bot: its mind, its person, its way of drawing replies."""

    name: str
    mind: str
    persona: CurrentPersona
    sampling: Sampling
    max_message_chars: int
    reply_timeout: float
    offers_in_groups: bool = True
    blocked_words: tuple[str, ...] = ()

    def blocks(self, text: str) -> bool:
        """Whether `text` holds a word that this bot is not to say."""
        return any(word.casefold() in text.casefold() for word in self.blocked_words)


class Talk:
    """One bot's way of answering."""

    def __init__(
        self,
        bot: BotProfile,
        engine: Engine,
        arena: Arena,
        voices: Voices,
        store: Store,
        database: Database,
        new_id: Callable[[], str],
        new_seed: Callable[[], int],
        clock: Callable[[], float] = time.time,
        recall: Recall | None = None,
    ) -> None:
        self._bot = bot
        self._recall = recall
        self._engine = engine
        self._arena = arena
        self._voices = voices
        self._store = store
        self._database = database
        self._new_id = new_id
        self._new_seed = new_seed
        self._clock = clock
        self._adapters: dict[str, PlatformAdapter] = {}

    @property
    def persona(self) -> CurrentPersona:
        """Who the bot is."""
        return self._bot.persona

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
            prompt = await self._prompt(call, text)
        except conversations.MessageTooLong:
            return await self._answer(call, call.notice("too_long", limit=self._fitting_chars()))
        may_offer = self._bot.offers_in_groups or not call.group
        shows = self._shows(call.place)
        may_wait = shows.streams_offers or not shows.streams  # a reply that has streamed alone can't become a pair
        async with self._voices.speaking(call.place) as voice:
            asks: Asks = await self._arena.asks(call.place, call.arrived, may_wait, voice) if may_offer else "no"
            await self._make(call, self._new(call, prompt), text, asks, voice)

    async def again(self, call: Call, old: ExchangeView) -> None:
        """Answer what `old` answered another way; the new reply takes its place, the person's wish is stored."""
        recalled = tuple(memory.turn for memory in old.recalled)
        prompt = conversations.Prompt(old.prompt, old.prompt_ids, recalled=recalled)
        new = replace(self._new(call, prompt), retry_of=old.id)
        wish = NewFeedback(old.id, call.teacher, call.trusted, "retry", new.id, "", call.arrived)
        async with self._voices.speaking(call.place) as voice:
            await self._make(call, new, "", "no", voice, wish)

    async def _make(
        self, call: Call, new: NewExchange, text: str, asks: Asks, voice: Voice, wish: NewFeedback | None = None
    ) -> None:
        await self._database(self._store.begin_exchange, new)
        try:
            with self._shown_as_busy(call.place):
                generated = await self._generate(new, asks, voice)
                candidates = self._presentable(new.place, generated.candidates)
                question: Question | None = Question()
                if asks == "if it teaches" and len(candidates) == 2:
                    question = await self._arena.question(new, candidates, call.unproved, voice)
        except EngineError as error:
            await self._database(self._store.interrupt_exchange, new.id)
            return await self._answer(call, self._apology(call, error))
        if not candidates:
            await self._database(self._store.interrupt_exchange, new.id)
            return await self._answer(call, call.notice(self._why_nothing(generated)))
        offered = candidates[: 2 if question else 1]
        await self._finish(call, new, text, offered, wish, question.expected if question else None)

    def _new(self, call: Call, prompt: conversations.Prompt) -> NewExchange:
        return NewExchange(
            id=self._new_id(),
            mind=self._bot.mind,
            place=call.place,
            person=call.known.person,
            inbox_id=call.row.id,
            prompt=prompt.messages,
            prompt_ids=prompt.token_ids,
            at=self._clock(),
            recalled=prompt.recalled,
        )

    async def _prompt(self, call: Call, text: str) -> conversations.Prompt:
        place = call.place
        history = await self._database(self._store.history, place, conversations.HISTORY_LIMIT, conversations.BLOCK)
        system = self._bot.persona.of(call.chat.persona).system_prompt(call.phrases.language)
        budget = self._engine.context_length - self._bot.sampling.max_tokens
        names: dict[str, str] = {}
        said = text
        if call.group:
            people = sorted({turn.person for turn in history if turn.role == "user"})
            known = await self._database(self._store.names, place.bot, place.platform, people)
            names = {person: known.get(person) or person for person in people}
            text = conversations.said_by(call.known.name or call.known.person, text)

        def compose(system: str, budget: int, begin: int) -> conversations.Prompt:
            return conversations.build(system, history, text, self._engine.render, budget, names, begin)

        if self._recall is None:
            return compose(system, budget, 0)
        return await self._recall.prompt(call, Asked(said, history, system, budget, compose))

    @contextmanager
    def _shown_as_busy(self, place: Place) -> Iterator[None]:
        adapter = self._adapters.get(place.platform)
        if not isinstance(adapter, Busy):
            yield
            return
        adapter.busy(place.chat, True)
        try:
            yield
        finally:
            adapter.busy(place.chat, False)

    async def _generate(self, new: NewExchange, asks: Asks, voice: Voice) -> Generated:
        adapter, shows = self._adapters.get(new.place.platform), self._shows(new.place)
        speakers = self._arena.speakers(asks != "no", voice)
        specs = tuple(CandidateSpec(self._bot.sampling, self._new_seed(), lora) for lora in speakers)
        request = GenerateRequest(
            new.prompt_ids,
            specs,
            chat="/".join((new.place.bot, new.place.platform, new.place.chat)),
            timeout=self._bot.reply_timeout,
            messages=new.prompt,
        )
        streams = (shows.streams_offers if asks == "yes" else shows.streams) and not self._bot.blocked_words
        if adapter is None or not streams:
            return await self._generate_at_best(request, None)

        def grow(index: int, text: str) -> None:
            if index == 0 or asks == "yes":
                adapter.stream(new.place.chat, new.id, index + 1, text)

        return await self._generate_at_best(request, grow)

    async def _generate_at_best(self, request: GenerateRequest, on_text: OnText | None) -> Generated:
        """What was asked for, or what the common champion says alone where the engine does not hold another version."""
        try:
            return await self._engine.generate(request, on_text)
        except LoraMismatch as error:
            log.warning("engine: %s; the common one speaks alone", error)
            alone = tuple(replace(spec, lora="active") for spec in request.candidates)
            return await self._engine.generate(replace(request, candidates=alone), on_text)

    async def _finish(
        self,
        call: Call,
        new: NewExchange,
        text: str,
        candidates: Sequence[Candidate],
        wish: NewFeedback | None,
        expected: Literal[1, 2] | None,
    ) -> None:
        now = self._clock()
        reply = Reply(
            new.id,
            call.place.chat,
            candidates[0].text,
            new.id,
            answers=call.row.inbound.external_id,
            to=call.addressee,
        )
        if len(candidates) == 2:
            pair = (candidates[0].text, candidates[1].text)
            reply = replace(reply, text=call.phrases.say("which"), candidates=pair)
        expires = now + self._arena.rules.expires_after if reply.candidates else None
        question = Turn("user", call.known.person, text, None, call.arrived)
        shown = [shown_candidate(candidate, side) for side, candidate in enumerate(candidates, 1)]
        drafts = [draft_of(reply, call.place)]
        await self._database(self._store.finish_exchange, new.id, shown, question, expires, drafts, now, wish, expected)

    def _why_nothing(self, generated: Generated) -> str:
        if any(self._bot.blocks(candidate.text) for candidate in generated.candidates):
            return "blocked"
        return "timed_out" if generated.candidates[0].finish == "timeout" else "nothing_said"

    def _presentable(self, place: Place, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates to show: none that is empty or blocked, no second that says the same or does not fit.

        One alone is the champion's, if that one can be shown.
        """
        spoken = [one for one in candidates if one.text.strip() and not self._bot.blocks(one.text)]
        texts = {candidate.text.strip() for candidate in spoken}
        fits = sum(len(candidate.text) for candidate in spoken) + QUESTION_CHARS <= self._shows(place).max_chars
        if len(texts) == len(spoken) and fits:
            return spoken
        return sorted(spoken, key=lambda one: one.spec.lora != "active")[:1]

    def _shows(self, place: Place) -> Capabilities:
        adapter = self._adapters.get(place.platform)
        return adapter.capabilities if adapter is not None else Capabilities()

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
