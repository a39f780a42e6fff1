"""Decides what the model computes next: admits requests, prefills their prompts once, steps the batch.

Knows nothing of threads or of the event loop; everything here runs between two forward passes.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from learner.engine.base import EngineError, Finish
from learner.engine.batch import DecodeBatch
from learner.engine.jobs import Branch, DoneEvent, Emit, FailedEvent, Job, TextEvent
from learner.engine.kept import ChatKey, KeptChat, KeptChats
from learner.engine.kv import single
from learner.engine.loading import LoadedModel
from learner.engine.local_settings import LocalSettings
from learner.engine.lora_slots import Group, Loras, LoraSlot, slot_key
from learner.engine.sampling import Plan

logger = logging.getLogger(__name__)

# Prompts go first (a full batch is the cheapest), until a streaming reply has stood still so long.
LONGEST_STALL = 0.25

# Columns beyond prompt and reply, so that the next turn's prompt grows in place.
NEXT_TURN = 256


@dataclass(eq=False)
class Trunk:
    """A prompt under one LoRA, computed once, and the branches that grow from it."""

    job: Job
    slot: LoraSlot | None
    branches: list[Branch]
    kept: KeptChat
    done: int
    spoiled: bool = False

    @property
    def key(self) -> ChatKey | None:
        """Where its keys and values are kept; None if nowhere."""
        chat = self.job.request.chat
        return None if chat is None else (chat, slot_key(self.slot))


class Scheduler:
    """The engine's work, one `tick` at a time."""

    def __init__(
        self,
        model: LoadedModel,
        settings: LocalSettings,
        emit: Emit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model, self._settings, self._emit, self._clock = model, settings, emit, clock
        self._batch = DecodeBatch(model.decoder, model.layout, model.speaking)
        self._waiting: deque[Job] = deque()
        self._running: list[Job] = []
        self._prefills: deque[Trunk] = deque()
        self._trunks: dict[Branch, Trunk] = {}
        self._kept = KeptChats(settings.kv_cache_bytes)
        self._last_step = 0.0
        self.loras = Loras(model.anchor)
        self.tokens_per_second = 0.0

    @property
    def busy(self) -> bool:
        """Whether a tick has anything to do."""
        return bool(self._waiting or self._running)

    def submit(self, job: Job) -> None:
        """Queue a request."""
        self._waiting.append(job)

    def cancel(self, job: Job) -> None:
        """Stop a request; nobody waits for it any more."""
        if job in self._waiting:
            self._waiting.remove(job)
        elif job in self._running:
            self._close(job, "cancelled")

    def activate(self, slot: LoraSlot | None) -> None:
        """Let a LoRA (None: the base) speak from the next admitted request on."""
        self.loras.active = slot
        self._kept.keep_only(self.loras.keys)

    def hold(self, slot: LoraSlot) -> None:
        """Keep a LoRA loaded, for candidates that name it."""
        self.loras.held[slot.version] = slot

    def release(self, version: str) -> None:
        """Let go of a held LoRA; candidates that it is making finish on it."""
        self.loras.held.pop(version, None)
        self._kept.keep_only(self.loras.keys)

    def tick(self) -> None:
        """Do one piece of work: part of a prompt, a decoding step, or both."""
        self._expire()
        self._admit()
        if self._prefills:
            self._guarded(self._prefills[0].job, self._prefill)
        if self._batch.branches and (not self._prefills or self._clock() - self._last_step > LONGEST_STALL):
            self._step()
        if not self._running:
            self.tokens_per_second = 0.0

    def _expire(self) -> None:
        now = self._clock()
        for job in [j for j in self._running if j.deadline <= now]:
            self._close(job, "timeout")
            self._emit(DoneEvent(job, job.generated()))
        for job in [j for j in self._waiting if j.deadline <= now]:
            self._waiting.remove(job)
            self._branch_out(job)
            self._close(job, "timeout")
            self._emit(DoneEvent(job, job.generated()))

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0]):
            job = self._waiting.popleft()
            self._running.append(job)
            job.admitted = True
            self._guarded(job, partial(self._begin, job))

    def _fits(self, job: Job) -> bool:
        """Whether the batch has rows for a request and the budget has bytes for it."""
        if not self._running:
            return True
        rows, wanted = sum(len(j.open()) for j in self._running), len(job.request.candidates)
        if rows + wanted > self._settings.max_batch:
            return False
        length, room = len(job.request.prompt_ids), _room(job)
        trunk = (length + room + NEXT_TURN) * self._model.layout.bytes_per_token
        pending = [b for t in self._prefills for b in t.branches]
        count = wanted + len(pending)
        longest = max([length, *(len(t.job.request.prompt_ids) for t in self._prefills)])
        needed = self._batch.nbytes_with(count, longest, max([room, *(b.room for b in pending)]))
        return self._kept.make_room(self._trunk_bytes() + trunk + needed)

    def _branch_out(self, job: Job) -> None:
        model = self._model
        job.branch_out(model.text.decode, model.vocabulary, model.layout.device, not self._settings.show_thoughts)

    def _begin(self, job: Job) -> None:
        """Branch a request out, and queue one prefill for each LoRA that is to speak."""
        self._branch_out(job)
        groups: dict[LoraSlot | None, list[Branch]] = {}
        for branch in job.branches:
            branch.slot = self.loras.resolve(branch.spec.lora)
            groups.setdefault(branch.slot, []).append(branch)
        for slot, branches in groups.items():
            trunk = self._trunk(job, slot, branches)
            self._prefills.append(trunk)
            self._trunks.update((branch, trunk) for branch in branches)

    def _trunk(self, job: Job, slot: LoraSlot | None, branches: list[Branch]) -> Trunk:
        """A trunk that begins with what this chat kept and the prompt shares."""
        prompt = job.request.prompt_ids
        columns = len(prompt) + _room(job)
        kept = self._kept.take((job.request.chat, slot_key(slot))) if job.request.chat is not None else None
        if kept is None:
            block, done = single(self._model.layout, columns + NEXT_TURN), 0
        else:
            block, done = kept.cropped(prompt, columns)
        return Trunk(job, slot, branches, KeptChat(list(prompt), block), done)

    def _prefill(self) -> None:
        """Compute the next part of the first waiting prompt; after the last, draw the first tokens."""
        trunk = self._prefills[0]
        prompt, block, device = trunk.job.request.prompt_ids, trunk.kept.block, self._model.layout.device
        block.end = trunk.done
        end = min(trunk.done + self._settings.prefill_chunk, len(prompt))
        self._model.speaking.groups = () if trunk.slot is None else (Group(trunk.slot),)
        ids = torch.tensor([prompt[trunk.done : end]], device=device)
        positions = torch.arange(trunk.done, end, device=device).unsqueeze(0)
        logits = self._model.decoder.forward(ids, positions, block, None)
        trunk.done = end
        if end == len(prompt):
            self._prefills.popleft()
            self._sprout(trunk, logits)

    def _sprout(self, trunk: Trunk, logits: torch.Tensor) -> None:
        """Draw each branch's first token from the prompt's logits; those that go on join the batch."""
        branches = trunk.branches
        plan = Plan.of([b.draw for b in branches], logits.device)
        _, tokens, logprobs = plan.pick(logits.expand(len(branches), -1))
        for branch, token, logprob in zip(branches, tokens, logprobs, strict=True):
            self._take(branch, token, logprob)
        growing = [b for b in branches if b.finish is None]
        if growing:
            self._batch.join(growing, trunk.kept.block, len(trunk.kept.token_ids))
            self._last_step = self._clock() if len(growing) == len(self._batch.branches) else self._last_step
        for branch in branches:
            if branch.finish is not None:
                self._retire(branch)

    def _step(self) -> None:
        """One token for every branch in the batch."""
        try:
            picked = self._batch.step()
        except Exception as exc:
            # Memory ran out, most likely: the youngest makes room, and the others try again.
            self._fail(self._trunks[self._batch.branches[-1]].job, exc)
            return
        now = self._clock()
        self._count(len(picked), now - self._last_step)
        self._last_step = now
        for branch, token, logprob in picked:
            if branch in self._trunks:  # its job may have failed on the other candidate
                self._guarded(self._trunks[branch].job, partial(self._take, branch, token, logprob))
        for branch, _, _ in picked:
            if branch.finish is not None and branch in self._trunks:
                self._retire(branch)

    def _take(self, branch: Branch, token: int, logprob: float) -> None:
        text = branch.take(token, logprob, self._model.end_ids)
        if text:
            self._emit(TextEvent(self._trunks[branch].job, branch.index, text))

    def _retire(self, branch: Branch) -> None:
        """Let a finished branch go; with the last of a trunk its chat is kept, with the last of a job that is done."""
        trunk = self._trunks.pop(branch)
        if branch in self._batch.branches:
            tail = self._batch.leave(branch)
            if trunk.key is not None:
                trunk.kept.tails.append(tail)
        if all(b not in self._trunks for b in trunk.branches):
            self._keep(trunk)
        job = trunk.job
        if job in self._running and not job.open() and all(b not in self._trunks for b in job.branches):
            self._running.remove(job)
            self._emit(DoneEvent(job, job.generated()))

    def _keep(self, trunk: Trunk) -> None:
        """Keep what a chat computed, unless its LoRA speaks no more or nothing was computed."""
        if trunk.key is None or trunk.spoiled or not trunk.done or trunk.key[1] not in self.loras.keys:
            return
        trunk.kept.token_ids = trunk.kept.token_ids[: trunk.done]
        trunk.kept.block.end = trunk.done
        self._kept.put(trunk.key, trunk.kept, self._batch.nbytes + self._trunk_bytes())

    def _close(self, job: Job, finish: Finish) -> None:
        """End a request's open branches where they are."""
        if job in self._running:
            self._running.remove(job)
        for trunk in [t for t in self._prefills if t.job is job]:
            self._prefills.remove(trunk)
        for branch in job.branches:
            if branch.finish is None and (text := branch.end(finish)):
                self._emit(TextEvent(job, branch.index, text))
            if branch in self._trunks:
                self._retire(branch)

    def _guarded(self, job: Job, work: Callable[[], None]) -> None:
        """Do work for one request; its error ends that request and no other."""
        try:
            work()
        except Exception as exc:
            self._fail(job, exc)

    def _fail(self, job: Job, exc: Exception) -> None:
        if not isinstance(exc, EngineError):
            logger.exception("a request failed", exc_info=exc)
            error = EngineError(f"the engine failed on this request ({type(exc).__name__}: {exc})")
            error.__cause__ = exc
            exc = error
        for branch in job.branches:
            branch.finish = branch.finish or "cancelled"
            if branch in self._trunks:
                self._trunks[branch].spoiled = True
        self._close(job, "cancelled")
        self._emit(FailedEvent(job, exc))

    def _count(self, tokens: int, seconds: float) -> None:
        """A moving average of the speed, over about twenty steps."""
        if 0 < seconds < 10:
            self.tokens_per_second += 0.05 * (tokens / seconds - self.tokens_per_second)

    def _trunk_bytes(self) -> int:
        return sum(trunk.kept.nbytes for trunk in set(self._trunks.values()))


def _room(job: Job) -> int:
    return max(spec.sampling.max_tokens for spec in job.request.candidates)
