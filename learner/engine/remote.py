"""The engine whose model is elsewhere: any server that speaks OpenAI's chat completions.

Knows nothing of platforms, people or the store. Loads no model; of a trainable base that is named beside the server
only the tokenizer is read, so that records hold the tokens which that base would see.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from learner.engine.base import (
    Candidate,
    CandidateSpec,
    ChatMessage,
    EngineBusy,
    EngineClosed,
    EngineError,
    EngineStatus,
    Finish,
    Generated,
    GenerateRequest,
    OnText,
    PromptTooLong,
    Sampling,
)
from learner.engine.lengths import estimated_tokens
from learner.engine.remote_loras import RemoteLoras
from learner.engine.remote_settings import RemoteSettings
from learner.engine.remote_wire import RemoteClient, RemoteRefused
from learner.engine.thinking import ThoughtFilter

if TYPE_CHECKING:
    from learner.engine.chat_text import ChatText

log = logging.getLogger(__name__)
FINISHES: dict[str, Finish] = {"stop": "stop", "eos": "stop", "length": "length"}  # else: cut by the server's filter


@dataclass
class _Draft:
    """One candidate in the making, and where it is made."""

    index: int
    spec: CandidateSpec
    version: str | None
    thoughts: ThoughtFilter | None
    text: str = ""
    finish: Finish | None = None

    def grow(self, text: str) -> str:
        """Add what the server said; returns what of it may be shown."""
        shown = text if self.thoughts is None else self.thoughts.push(text)
        self.text += shown
        return shown

    def end(self, finish: Finish) -> str:
        """No more comes; returns the rest that may be shown."""
        self.finish = finish
        rest = "" if self.thoughts is None else self.thoughts.finish()
        self.text += rest
        return rest


@dataclass
class _Dialect:
    """What this server turned out to understand."""

    many: bool
    limit: str = "max_tokens"
    seed: bool = True
    warned: set[str] = field(default_factory=set)

    def learn(self, refusal: RemoteRefused) -> bool:
        """Whether the request may be accepted in other words; they are used from now on."""
        if refusal.status not in (400, 422):
            return False
        if self.limit == "max_tokens" and refusal.is_about("max_completion_tokens"):
            self.limit = "max_completion_tokens"
        elif self.seed and refusal.is_about("seed"):
            self.seed = False
        else:
            return False
        log.info("remote: the server's dialect: %s, %s", self.limit, "seed" if self.seed else "no seed")
        return True


class RemoteEngine:
    """An Engine on a server's model. Methods are called from the event loop's thread."""

    def __init__(self, settings: RemoteSettings, client: RemoteClient | None = None) -> None:
        self.context_length = settings.context_length
        self._settings, self._given = settings, client
        self._client: RemoteClient | None = None
        self._text: ChatText | None = None
        self._loras = RemoteLoras(settings)
        self._dialect = _Dialect(settings.pairs != "requests")
        self._slots = asyncio.Semaphore(settings.max_running)
        self._work: set[asyncio.Task[None]] = set()
        self._running = 0

    async def start(self) -> None:
        """Read the base's tokenizer, if a base is named. Raises ModelUnusable; the server is asked nothing yet."""
        if self._settings.base and self._text is None:
            self._text = await asyncio.to_thread(_chat_text, self._settings.base, self._settings.template)
        self._client = self._given or RemoteClient(self._settings)

    async def close(self) -> None:
        """Finish nothing more: running requests end with EngineClosed."""
        client, self._client = self._client, None
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        if client is not None:
            await client.close()

    def render(self, messages: Sequence[ChatMessage]) -> tuple[int, ...]:
        """Token ids of `messages` as the trainable base sees them; empty where none is named."""
        return () if self._text is None else self._text.render(messages)

    def token_bytes(self, token_ids: Sequence[int]) -> tuple[bytes, ...]:
        """What each of the base's tokens writes."""
        return () if self._text is None else self._text.token_bytes(token_ids)

    async def generate(self, request: GenerateRequest, on_text: OnText | None = None) -> Generated:
        """Have the server answer. Raises EngineBusy, PromptTooLong, LoraMismatch, EngineClosed, EngineError."""
        client = self._opened()
        self._check(request)
        drafts = [self._draft(index, spec) for index, spec in enumerate(request.candidates)]
        with self._loras.using([draft.version for draft in drafts]):
            await self._within_time(request, self._answer(client, request, drafts, on_text))
        for draft in drafts:
            if draft.finish is None and (rest := draft.end("timeout")) and on_text is not None:
                on_text(draft.index, rest)
        await self._loras.tidy(client)
        return Generated(request, tuple(self._candidate(draft) for draft in drafts))

    async def swap_lora(self, folder: Path | None) -> str | None:
        """Let the LoRA in `folder` (None: the base) speak. Raises LoraMismatch; the old one then stays."""
        return await self._loras.activate(self._opened(), folder)

    async def hold_lora(self, folder: Path) -> str:
        """Keep a LoRA on the server beside the active one. Raises LoraMismatch."""
        return await self._loras.hold(self._opened(), folder)

    async def release_lora(self, version: str) -> None:
        """Let go of a held LoRA; candidates that it is making finish on it."""
        await self._loras.release(self._opened(), version)

    async def reply_states(
        self, prompt_ids: Sequence[int], replies: Sequence[Sequence[int]]
    ) -> list[list[float]] | None:
        """Nothing: a server shows no hidden states."""
        return None

    def status(self) -> EngineStatus:
        """What is under way."""
        where = urlsplit(self._settings.base_url).netloc
        queued, takes = len(self._work) - self._running, self._settings.lora != "none"
        return EngineStatus(
            self._settings.model, where, self._loras.active, self._running, queued, 0.0, takes_loras=takes
        )

    # One request ------------------------------------------------------------------------------

    def _opened(self) -> RemoteClient:
        if self._client is None:
            raise EngineClosed("the engine is not running; start() opens it")
        return self._client

    def _check(self, request: GenerateRequest) -> None:
        if not request.messages or not request.candidates:
            raise EngineError("a server is sent messages: GenerateRequest.messages is empty, or no candidate is wanted")
        wanted = max(spec.sampling.max_tokens for spec in request.candidates)
        asked = len(request.prompt_ids) or estimated_tokens(request.messages)
        if asked + wanted > self.context_length:
            raise PromptTooLong(
                f"{asked} prompt tokens and {wanted} new ones exceed the context of {self.context_length}"
                " (model.remote.context_tokens); shorten the history or max_tokens"
            )
        if len(self._work) >= self._settings.max_running + self._settings.max_queue:
            raise EngineBusy(f"{self._settings.max_queue} requests are waiting already; try again later")

    def _draft(self, index: int, spec: CandidateSpec) -> _Draft:
        thoughts = None if self._settings.show_thoughts else ThoughtFilter(self._settings.begins_thinking)
        return _Draft(index, spec, self._loras.resolve(spec.lora), thoughts)

    async def _within_time(self, request: GenerateRequest, answer: Coroutine[Any, Any, None]) -> None:
        """Run `answer` until it is there or time is up. Raises EngineClosed when the engine is closed meanwhile."""
        work = asyncio.create_task(answer)
        self._work.add(work)
        try:
            async with asyncio.timeout(request.timeout):
                await work
        except TimeoutError:
            return
        except asyncio.CancelledError:
            if self._client is None:
                raise EngineClosed("the engine was stopped before the reply was finished") from None
            raise
        finally:
            self._work.discard(work)

    async def _answer(
        self, client: RemoteClient, request: GenerateRequest, drafts: Sequence[_Draft], on_text: OnText | None
    ) -> None:
        async with self._slots:
            self._running += 1
            try:
                alike: dict[tuple[str | None, Sampling], list[_Draft]] = {}
                for draft in drafts:
                    alike.setdefault((draft.version, draft.spec.sampling), []).append(draft)
                await _together([self._make(client, request, group, on_text) for group in alike.values()])
            finally:
                self._running -= 1

    async def _make(
        self, client: RemoteClient, request: GenerateRequest, group: list[_Draft], on_text: OnText | None
    ) -> None:
        """Make candidates that differ in their seeds alone: at once where the server can, else one by one."""
        if len(group) > 1 and self._dialect.many:
            try:
                await self._ask(client, request, group, on_text)
            except RemoteRefused as refusal:
                if self._settings.pairs == "n" or not refusal.is_about("n"):
                    raise
            group = [draft for draft in group if draft.finish is None]
            if group and self._settings.pairs == "auto":
                self._dialect.many = False
                log.info("remote: the server makes one candidate a request")
        await _together([self._ask(client, request, [draft], on_text) for draft in group])

    async def _ask(
        self, client: RemoteClient, request: GenerateRequest, group: Sequence[_Draft], on_text: OnText | None
    ) -> None:
        """One HTTP request; in other words where the server asks for them."""
        while True:
            try:
                async for delta in client.stream(self._body(request, group)):
                    if delta.index < len(group):
                        self._take(group[delta.index], delta.text, delta.finish, on_text)
                return
            except RemoteRefused as refusal:
                if not self._dialect.learn(refusal):
                    raise

    def _take(self, draft: _Draft, text: str, finish: str | None, on_text: OnText | None) -> None:
        shown = draft.grow(text) if text else ""
        if finish is not None:
            shown += draft.end(FINISHES.get(finish, "cancelled"))
            if draft.thoughts is not None and draft.thoughts.stray and "stray" not in self._dialect.warned:
                self._dialect.warned.add("stray")
                log.warning("remote: a thought ended that had not begun; set model.remote.begins_thinking = true")
        if shown and on_text is not None:
            on_text(draft.index, shown)

    def _body(self, request: GenerateRequest, group: Sequence[_Draft]) -> dict[str, Any]:
        spec = group[0].spec
        sampling = spec.sampling
        body: dict[str, Any] = {
            "model": self._loras.model_of(group[0].version),
            "messages": [{"role": one.role, "content": _valid(one.content)} for one in request.messages],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self._dialect.limit: sampling.max_tokens,
        }
        body |= {"n": len(group)} if len(group) > 1 else {}
        body |= {"seed": spec.seed} if self._dialect.seed else {}
        body |= {"stop": list(sampling.stop)} if sampling.stop else {}
        body |= {"repetition_penalty": sampling.repetition_penalty} if sampling.repetition_penalty != 1.0 else {}
        return {**body, **self._settings.extra}

    def _candidate(self, draft: _Draft) -> Candidate:
        """The finished candidate; its tokens are the base's, and nobody tells their log-probabilities."""
        finish = draft.finish or "cancelled"
        tokens: tuple[int, ...] = ()
        if self._text is not None and draft.text:
            tokens = self._text.reply(draft.text, ended=finish == "stop" and not draft.spec.sampling.stop)
        return Candidate(draft.text, tokens, (), draft.version, draft.spec, finish)


async def _together(coroutines: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run them side by side; the first error ends the others."""
    tasks = [asyncio.create_task(one) for one in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _valid(text: str) -> str:
    """Text that UTF-8 can hold."""
    return text.encode("utf-8", "replace").decode()


def _chat_text(base: str, template: str) -> ChatText:
    from learner.engine.chat_text import ChatText
    from learner.engine.model_files import resolve

    return ChatText.load(resolve(base), template=template)
