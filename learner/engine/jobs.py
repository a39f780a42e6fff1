"""A request on its way through the engine, and the candidates it branches into.

Knows nothing of models or threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from learner.engine.base import Candidate, CandidateSpec, Finish, Generated, GenerateRequest, OnText
from learner.engine.detokenise import Decode, TextStream
from learner.engine.lora_slots import LoraSlot
from learner.engine.sampling import Draw
from learner.engine.thinking import OPEN, TAG_TOKENS, ThoughtFilter


class Branch:
    """One candidate in the making."""

    def __init__(self, index: int, spec: CandidateSpec, prompt: int, draw: Draw, stream: TextStream) -> None:
        self.index, self.spec, self.draw = index, spec, draw
        self.slot: LoraSlot | None = None
        self.tokens: list[int] = []
        self.finish: Finish | None = None
        self._stream, self._prompt = stream, prompt
        self._logprobs: list[float] = []

    @property
    def cached(self) -> int:
        """Tokens whose keys and values are computed: all but the last generated."""
        return self._prompt + len(self.tokens) - 1

    @property
    def room(self) -> int:
        """Tokens that may still be generated."""
        return self.spec.sampling.max_tokens - len(self.tokens)

    def take(self, token: int, logprob: float, ends: frozenset[int]) -> str:
        """Add a token; returns the text to show. Sets `finish` when it was the last."""
        if logprob != logprob:
            raise ArithmeticError("the model's logits are not finite")
        self.tokens.append(token)
        self._logprobs.append(logprob)
        if token in ends:
            return self.end("stop")
        text = self._stream.push(token)
        if self._stream.stopped:
            self.finish = "stop"
        elif self.room <= 0:
            return text + self.end("length")
        return text

    def end(self, finish: Finish) -> str:
        """Finish now; returns the rest of the text."""
        self.finish = finish
        return self._stream.finish()

    def candidate(self) -> Candidate:
        """What was generated, without thoughts: where a token holds both, no tokens are told."""
        version = self.slot.name if self.slot is not None else None
        finish = self.finish or "cancelled"
        first = self._stream.reply_from
        said = slice(len(self.tokens) if first is None else first, len(self.tokens))
        tokens, logprobs = tuple(self.tokens[said]), tuple(self._logprobs[said])
        tops = tuple(self.draw.tops[said])
        return Candidate(self._stream.text, tokens, logprobs, version, self.spec, finish, tops)


@dataclass(eq=False)
class Job:
    """A request, who waits for it, and its branches once it is admitted."""

    request: GenerateRequest
    on_text: OnText | None
    future: asyncio.Future[Generated]
    deadline: float
    branches: list[Branch] = field(default_factory=list)
    admitted: bool = False

    def branch_out(self, decode: Decode, vocabulary: int, device: torch.device, hides: bool = True) -> None:
        """Make a branch for each candidate wanted; thoughts are part of what it says unless it `hides` them."""
        prompt = self.request.prompt_ids
        begun = decode(prompt[-TAG_TOKENS:]).rstrip().endswith(OPEN)
        for index, spec in enumerate(self.request.candidates):
            draw = Draw(spec.sampling, spec.seed, prompt, vocabulary, device, spec.top_logprobs)
            stream = TextStream(decode, spec.sampling.stop, ThoughtFilter(begun) if hides else None)
            self.branches.append(Branch(index, spec, len(prompt), draw, stream))

    def open(self) -> list[Branch]:
        """Branches that are still generating."""
        return [branch for branch in self.branches if branch.finish is None]

    def generated(self) -> Generated:
        """The finished request."""
        return Generated(self.request, tuple(branch.candidate() for branch in self.branches))


@dataclass(frozen=True)
class TextEvent:
    """A candidate's text grew."""

    job: Job
    index: int
    text: str


@dataclass(frozen=True)
class DoneEvent:
    """A request is finished."""

    job: Job
    generated: Generated


@dataclass(frozen=True)
class FailedEvent:
    """A request ended in an error of its own."""

    job: Job
    error: Exception


Event = TextEvent | DoneEvent | FailedEvent
Emit = Callable[[Event], None]
