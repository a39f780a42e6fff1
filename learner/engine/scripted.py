"""A deterministic engine without a model: for tests, and for `engine = "scripted"`.

Knows nothing of torch; its tokens are the bytes of the text, and its log-probabilities are made up.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from learner.engine.base import (
    Candidate,
    CandidateSpec,
    ChatMessage,
    EngineBusy,
    EngineClosed,
    EngineStatus,
    Finish,
    Generated,
    GenerateRequest,
    LoraMismatch,
    OnText,
    PromptTooLong,
    Role,
)

# Bytes are 0 to 255; a message opens with its role's token and closes with END.
END = 256
ROLE_IDS: dict[Role, int] = {"system": 257, "user": 258, "assistant": 259}
ROLES: dict[int, Role] = {token: role for role, token in ROLE_IDS.items()}

# What a script sees: the prompt's messages, and the spec with `lora` resolved ("base" or a version).
Script = Callable[[Sequence[ChatMessage], CandidateSpec], str]

REPLIES = {
    "zh": (
        "好的，我明白了。",
        "嗯嗯，然后呢？",
        "这个问题真有意思😊",
        "我想想……大概是这样吧。",
        "说得对！",
        "您请继续讲。",
    ),
    "en": (
        "I see what you mean.",
        "Go on, tell me more.",
        "That is a fun question 😊",
        "Let me think… yes, roughly so.",
        "Quite right!",
        "How kind of you to ask.",
    ),
}


def default_script(messages: Sequence[ChatMessage], spec: CandidateSpec) -> str:
    """One of six stock replies in the language of the last message, drawn by the spec's seed."""
    last = messages[-1].content if messages else ""
    language = "zh" if any("一" <= character <= "鿿" for character in last) else "en"
    seed = 0 if spec.sampling.temperature == 0 else spec.seed
    return random.Random(f"{seed}|{spec.lora}|{last}").choice(REPLIES[language])


def encode(messages: Sequence[ChatMessage]) -> tuple[int, ...]:
    """The prompt's tokens: each message between its role and END, then the assistant's role."""
    tokens: list[int] = []
    for message in messages:
        content = message.content.encode("utf-8", errors="replace")
        tokens += [ROLE_IDS[message.role], *content, END]
    return (*tokens, ROLE_IDS["assistant"])


def decode(prompt_ids: Sequence[int]) -> list[ChatMessage]:
    """The messages that `encode` made `prompt_ids` from."""
    messages: list[ChatMessage] = []
    role: Role | None = None
    content = bytearray()
    for token in prompt_ids:
        if token in ROLES:
            role, content = ROLES[token], bytearray()
        elif token == END and role is not None:
            messages.append(ChatMessage(role, content.decode("utf-8", errors="replace")))
            role = None
        else:
            content.append(token)
    return messages


@dataclass
class _Draft:
    """A reply decided beforehand, and how much of it was sent so far."""

    spec: CandidateSpec
    lora: str | None
    text: str
    finish: Finish
    sent: str = ""

    def candidate(self) -> Candidate:
        """What was sent, as a finished candidate."""
        complete = self.sent == self.text
        finish: Finish = self.finish if complete else "timeout"
        tokens = [*self.sent.encode("utf-8"), *([END] if finish == "stop" else [])]
        logprobs = tuple(-0.1 - (7 * token + 13 * at) % 90 / 100 for at, token in enumerate(tokens))
        return Candidate(self.sent, tuple(tokens), logprobs, self.lora, self.spec, finish)


def _within_limits(text: str, spec: CandidateSpec) -> tuple[str, Finish]:
    """`text` up to the first stop string, and at most max_tokens bytes of it."""
    for stop in spec.sampling.stop:
        text = text.split(stop, 1)[0]
    raw = text.encode("utf-8", errors="replace")
    finish: Finish = "stop" if len(raw) < spec.sampling.max_tokens else "length"
    return raw[: spec.sampling.max_tokens].decode("utf-8", errors="ignore"), finish


class ScriptedEngine:
    """An Engine whose replies come from `script`, in pieces of `piece` characters every `delay` s."""

    def __init__(
        self,
        script: Script = default_script,
        *,
        delay: float = 0.0,
        piece: int = 4,
        max_running: int = 8,
        max_queue: int = 64,
        context_length: int = 8192,
        refused: frozenset[str] = frozenset(),
    ) -> None:
        """`refused` names the LoRA versions that `swap_lora` is to refuse."""
        self.context_length = context_length
        self._script, self._delay, self._piece = script, delay, piece
        self._max_running, self._max_queue, self._refused = max_running, max_queue, refused
        self._active: str | None = None
        self._held: set[str] = set()
        self._running = self._queued = 0
        self._slots: asyncio.Semaphore | None = None
        self._closing = asyncio.Event()

    def render(self, messages: Sequence[ChatMessage]) -> tuple[int, ...]:
        """Token ids of `messages`, ready for the assistant's reply."""
        return encode(messages)

    def token_bytes(self, token_ids: Sequence[int]) -> tuple[bytes, ...]:
        """The byte that each token is; nothing for special ones."""
        return tuple(bytes([token]) if token < END else b"" for token in token_ids)

    async def start(self) -> None:
        """Open for requests."""
        self._slots = asyncio.Semaphore(self._max_running)
        self._closing = asyncio.Event()

    async def close(self) -> None:
        """Running and waiting requests end with EngineClosed."""
        self._slots = None
        self._closing.set()

    async def generate(self, request: GenerateRequest, on_text: OnText | None = None) -> Generated:
        """Stream the scripted replies to `request`."""
        slots = self._check(request)
        drafts: list[_Draft] = []
        try:
            async with asyncio.timeout(request.timeout):
                self._queued += 1
                try:
                    await slots.acquire()
                finally:
                    self._queued -= 1
                try:
                    self._running += 1
                    drafts += self._drafts(request)
                    await self._stream(drafts, on_text)
                finally:
                    self._running -= 1
                    slots.release()
        except TimeoutError:
            drafts = drafts or [_Draft(spec, self._active, "…", "timeout") for spec in request.candidates]
        return Generated(request, tuple(draft.candidate() for draft in drafts))

    async def swap_lora(self, folder: Path | None) -> str | None:
        """Label the candidates of later requests with the folder's name."""
        self._active = await self.hold_lora(folder) if folder is not None else None
        return self._active

    async def hold_lora(self, folder: Path) -> str:
        """Let candidates name the folder's version."""
        if folder.name in self._refused:
            raise LoraMismatch(f"LoRA {folder.name} is one that this scripted engine refuses")
        self._held.add(folder.name)
        return folder.name

    async def release_lora(self, version: str) -> None:
        """Let no later candidate name `version`, unless it is active."""
        self._held.discard(version)

    async def reply_states(
        self, prompt_ids: Sequence[int], replies: Sequence[Sequence[int]]
    ) -> list[list[float]] | None:
        """Nothing: there is no model."""
        return None

    def status(self) -> EngineStatus:
        """How many requests run and wait."""
        return EngineStatus("scripted", "none", self._active, self._running, self._queued, 0.0)

    def _check(self, request: GenerateRequest) -> asyncio.Semaphore:
        if self._slots is None:
            raise EngineClosed("the engine is not running; start() opens it")
        wanted = max((spec.sampling.max_tokens for spec in request.candidates), default=0)
        if len(request.prompt_ids) + wanted > self.context_length:
            raise PromptTooLong(
                f"{len(request.prompt_ids)} prompt tokens and {wanted} new ones exceed the context"
                f" of {self.context_length}; shorten the history or max_tokens"
            )
        if self._running + self._queued >= self._max_running + self._max_queue:
            raise EngineBusy(f"{self._queued} requests are waiting already; try again later")
        return self._slots

    def _drafts(self, request: GenerateRequest) -> Iterator[_Draft]:
        messages = decode(request.prompt_ids)
        for spec in request.candidates:
            version = self._resolve(spec.lora)
            seen = replace(spec, lora=version or "base")
            text, finish = _within_limits(self._script(messages, seen), spec)
            yield _Draft(spec, version, text, finish)

    def _resolve(self, lora: str) -> str | None:
        if lora == "active":
            return self._active
        if lora == "base":
            return None
        if lora not in {self._active, *self._held}:
            raise LoraMismatch(f"LoRA {lora} is not loaded; loaded are {sorted(self._held) or 'none'}")
        return lora

    async def _stream(self, drafts: Sequence[_Draft], on_text: OnText | None) -> None:
        while any(draft.sent != draft.text for draft in drafts):
            await self._pause()
            for index, draft in enumerate(drafts):
                new = draft.text[len(draft.sent) : len(draft.sent) + self._piece]
                draft.sent += new
                if new and on_text is not None:
                    on_text(index, new)

    async def _pause(self) -> None:
        """Wait `delay` seconds, or until the engine is closed."""
        if self._delay:
            try:
                async with asyncio.timeout(self._delay):
                    await self._closing.wait()
            except TimeoutError:
                return
        else:
            await asyncio.sleep(0)
        if self._closing.is_set():
            raise EngineClosed("the engine was stopped before the reply was finished")
