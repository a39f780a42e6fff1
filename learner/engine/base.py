"""The contract of an engine: a prompt in, one or two candidate replies out, streamed.

Knows nothing of platforms, people, the store or torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

Finish = Literal["stop", "length", "cancelled", "timeout"]
Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class ChatMessage:
    """One message of a prompt, before the chat template."""

    role: Role
    content: str


@dataclass(frozen=True)
class Sampling:
    """How one candidate is drawn. `temperature` 0 is greedy; `max_tokens` counts new tokens."""

    temperature: float = 0.9
    top_p: float = 0.95
    repetition_penalty: float = 1.0
    max_tokens: int = 128
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class CandidateSpec:
    """One candidate wanted: its sampling, its seed, and the LoRA version that is to speak.

    `lora` is "active" (whatever is active when the request is admitted), "base" (no LoRA but the
    anchor, where one is set), or a version such as "0007" that the engine holds. `top_logprobs` asks
    for so many of the likeliest tokens at each place, for those who look; engines that know none give none.
    """

    sampling: Sampling
    seed: int
    lora: str = "active"
    top_logprobs: int = 0


@dataclass(frozen=True)
class GenerateRequest:
    """A prompt, and the candidates wanted for it.

    `prompt_ids` are the prompt as the engine's `render` gave it, `messages` what it was rendered from: a model on this
    machine reads the first, a server elsewhere is sent the second.
    `chat` names the conversation whose KV cache may be reused and kept (None: neither).
    `timeout` is in seconds from submission to the last token; on time-out what was generated
    so far is returned with finish "timeout".
    """

    prompt_ids: tuple[int, ...]
    candidates: tuple[CandidateSpec, ...]
    chat: str | None = None
    timeout: float = 120.0
    messages: tuple[ChatMessage, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """One reply as generated.

    `token_ids` holds the completion, the end token included when it ended itself;
    `logprobs[i]` is the log-probability of `token_ids[i]` under the unwarped policy
    (temperature 1, no top_p, no penalty). Either is empty where the engine cannot tell. `lora` is the version that made
    it, None for the base. `top_logprobs[i]` holds the likeliest tokens at `token_ids[i]` as (id, log-probability),
    likeliest first, where the spec asked for them.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    lora: str | None
    spec: CandidateSpec
    finish: Finish
    top_logprobs: tuple[tuple[tuple[int, float], ...], ...] = ()


@dataclass(frozen=True)
class Generated:
    """What a request gave: one candidate per spec, in the order asked."""

    request: GenerateRequest
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class EngineStatus:
    """What the engine is doing now, for the page and `nightschool status`.

    `error` says why it answers no more, when its thread has died. Without `takes_loras` no LoRA ever speaks here: what
    nights make is for export.
    """

    model: str
    device: str
    active_lora: str | None
    running: int
    queued: int
    tokens_per_second: float
    error: str | None = None
    takes_loras: bool = True


class EngineError(Exception):
    """Base of what an engine raises."""


class EngineBusy(EngineError):
    """The queue is full; the caller says so at once."""


class EngineClosed(EngineError):
    """The engine was stopped before the request was finished."""


class PromptTooLong(EngineError):
    """The prompt and the tokens to generate do not fit the model's context."""


class LoraMismatch(EngineError):
    """A LoRA does not fit the running base model (base, rank, targets, shapes, or not finite)."""


class ModelUnusable(EngineError):
    """The base model's folder is missing, half-written, or not a causal LM."""


# on_text(candidate index, new text): called on the event loop's thread as text grows.
OnText = Callable[[int, str], None]


class Engine(Protocol):
    """Turns prompts into replies. Methods are called from the event loop's thread."""

    context_length: int

    def render(self, messages: Sequence[ChatMessage]) -> tuple[int, ...]:
        """Token ids of `messages` under the chat template, ready for the assistant's reply.

        Empty where only a server elsewhere knows the tokens.
        """
        ...

    def token_bytes(self, token_ids: Sequence[int]) -> tuple[bytes, ...]:
        """What each token writes, which may be part of a character; nothing for special ones."""
        ...

    async def start(self) -> None: ...

    async def close(self) -> None:
        """Finish nothing more: running requests end with EngineClosed."""
        ...

    async def generate(self, request: GenerateRequest, on_text: OnText | None = None) -> Generated:
        """Run `request`. Cancelling the awaiting task cancels the request.

        Raises EngineBusy (full queue), PromptTooLong, EngineClosed, and LoraMismatch before any text when a
        candidate names a LoRA that is not held.
        """
        ...

    async def swap_lora(self, folder: Path | None) -> str | None:
        """Make the LoRA in `folder` (None: the base) speak from the next admitted request on.

        Returns its version (the folder's name). Running requests finish on theirs.
        Raises LoraMismatch and leaves the old one speaking.
        """
        ...

    async def hold_lora(self, folder: Path) -> str:
        """Keep the LoRA in `folder` ready beside the active one, for candidates that name its version.

        Raises LoraMismatch.
        """
        ...

    async def release_lora(self, version: str) -> None:
        """Let go of a held LoRA; candidates that it is making finish on it."""
        ...

    async def reply_states(
        self, prompt_ids: Sequence[int], replies: Sequence[Sequence[int]]
    ) -> list[list[float]] | None:
        """What the base model makes of each reply: its middle layer's states, averaged over the reply's tokens.

        None where the engine cannot tell.
        """
        ...

    def status(self) -> EngineStatus: ...
