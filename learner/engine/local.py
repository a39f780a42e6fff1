"""The engine that runs a model on this machine, with a decoding loop of our own.

Knows nothing of platforms, people or the store. Torch is imported when it starts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from learner.engine.base import (
    ChatMessage,
    EngineBusy,
    EngineClosed,
    EngineError,
    EngineStatus,
    Generated,
    GenerateRequest,
    OnText,
    PromptTooLong,
)
from learner.engine.local_settings import LocalSettings

if TYPE_CHECKING:
    from learner.engine.jobs import Event, Job
    from learner.engine.loading import LoadedModel
    from learner.engine.lora_slots import LoraSlot
    from learner.engine.scheduler import Scheduler
    from learner.engine.worker import Stopped, Worker


T = TypeVar("T")

# Bytes of weights. So little is read in parts between steps, each about a tenth of a step; a second thread, which
# takes turns with the engine's for the interpreter and the cores, lengthened steps by more.
SMALL_LORA = 2 * 2**20
READ_TOKENS = 512  # of a prompt, to tell what a reply to it is like: all who talk wait meanwhile


class LocalEngine:
    """An Engine on transformers' weights. Methods are called from the event loop's thread."""

    def __init__(self, settings: LocalSettings) -> None:
        self.context_length = settings.context_length or 0
        self._settings = settings
        self._worker: Worker | None = None
        self._model: LoadedModel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._jobs: dict[Job, None] = {}
        self._asked: set[asyncio.Future[Any]] = set()
        self._swapping = asyncio.Lock()
        self._active: str | None = None
        self._error: str | None = None

    async def start(self) -> None:
        """Load the model. Raises ModelUnusable."""
        from learner.engine.worker import Worker

        self._loop = asyncio.get_running_loop()
        worker = Worker(self._settings, self._post)
        worker.start()
        try:
            self._model = await asyncio.wrap_future(worker.ready)
        except asyncio.CancelledError:
            worker.close()
            raise
        self._worker, self._error = worker, None
        self.context_length = self._model.context_length

    async def close(self) -> None:
        """Finish nothing more: running requests end with EngineClosed."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()
            await asyncio.to_thread(worker.join)
            self._end_all(EngineClosed("the engine was stopped before the request was finished"))

    def render(self, messages: Sequence[ChatMessage]) -> tuple[int, ...]:
        """Token ids of `messages` under the chat template, ready for the assistant's reply."""
        if self._model is None:
            raise EngineClosed("the engine is not running; start() loads the model")
        return self._model.text.render(messages)

    def token_bytes(self, token_ids: Sequence[int]) -> tuple[bytes, ...]:
        """What each token writes; nothing for special ones."""
        if self._model is None:
            raise EngineClosed("the engine is not running; start() loads the model")
        return self._model.text.token_bytes(token_ids)

    async def generate(self, request: GenerateRequest, on_text: OnText | None = None) -> Generated:
        """Run `request`. Raises EngineBusy, PromptTooLong, EngineClosed."""
        from learner.engine.jobs import Job

        worker = self._running()
        self._check(request)
        future: asyncio.Future[Generated] = asyncio.get_running_loop().create_future()
        job = Job(request, on_text, future, time.monotonic() + request.timeout)
        self._jobs[job] = None
        worker.call(lambda scheduler: scheduler.submit(job))
        try:
            return await future
        finally:
            self._jobs.pop(job, None)
            if future.cancelled() or future.exception() is not None:
                worker.call(lambda scheduler: scheduler.cancel(job))

    async def swap_lora(self, folder: Path | None) -> str | None:
        """Make the LoRA in `folder` (None: the base) speak. Raises LoraMismatch; the old one then stays."""
        async with self._swapping:
            if folder is None:
                await self._ask(lambda scheduler: scheduler.activate(None))
                self._active = None
            else:
                self._active = (await self._read(folder, lambda scheduler, slot: scheduler.activate(slot))).version
        return self._active

    async def hold_lora(self, folder: Path) -> str:
        """Load a LoRA beside the active one, for candidates that name its version. Raises LoraMismatch."""
        return (await self._read(folder, lambda scheduler, slot: scheduler.hold(slot))).version

    async def release_lora(self, version: str) -> None:
        """Let go of a held LoRA; candidates that it is making finish on it."""
        await self._ask(lambda scheduler: scheduler.release(version))

    async def reply_states(
        self, prompt_ids: Sequence[int], replies: Sequence[Sequence[int]]
    ) -> list[list[float]] | None:
        """The middle states of the base, or of the anchor on it, averaged over each reply.

        Of a long prompt the newest tokens are read.
        """
        from learner.engine.lora_slots import Group
        from learner.training.reward import features

        self._running()
        assert self._model is not None
        model, speaking, anchor = self._model.model, self._model.speaking, self._model.anchor
        row = (tuple(prompt_ids)[-READ_TOKENS:], tuple(map(tuple, replies)))

        def read(_: Scheduler) -> list[list[float]]:
            speaking.groups = (Group(anchor),) if anchor is not None else ()
            [states] = features(model, [row])
            found: list[list[float]] = states.tolist()
            return found

        return await self._ask(read)

    def status(self) -> EngineStatus:
        """What the engine is doing now."""
        running = sum(job.admitted for job in self._jobs)
        speed = self._worker.tokens_per_second if self._worker is not None else 0.0
        device = self._model.device if self._model is not None else self._settings.device
        queued = len(self._jobs) - running
        return EngineStatus(self._settings.model, device, self._active, running, queued, speed, self._error)

    def _running(self) -> Worker:
        if self._worker is None:
            raise EngineClosed(self._error or "the engine is not running; start() loads the model")
        return self._worker

    def _check(self, request: GenerateRequest) -> None:
        assert self._model is not None
        if not request.prompt_ids or not 0 < len(request.candidates) <= self._settings.max_batch:
            raise EngineError(f"a request needs a prompt and 1 to {self._settings.max_batch} candidates (max_batch)")
        if min(request.prompt_ids) < 0 or max(request.prompt_ids) >= self._model.vocabulary:
            raise EngineError(f"a prompt token is outside the model's vocabulary of {self._model.vocabulary}")
        samplings = [spec.sampling for spec in request.candidates]
        if any(s.max_tokens < 1 or s.repetition_penalty <= 0 for s in samplings):
            raise EngineError("max_tokens and repetition_penalty must be above 0")
        wanted = max(s.max_tokens for s in samplings)
        if len(request.prompt_ids) + wanted > self.context_length:
            raise PromptTooLong(
                f"{len(request.prompt_ids)} prompt tokens and {wanted} new ones exceed the model's context of"
                f" {self.context_length}; shorten the history or max_tokens"
            )
        if self._queued_with(request) > self._settings.max_queue:
            raise EngineBusy(f"{self._settings.max_queue} requests are waiting already; try again later")

    def _queued_with(self, request: GenerateRequest) -> int:
        """How many requests would wait for a row if `request` came too."""
        rows, waiting = 0, 0
        for wanted in (*(job.request for job in self._jobs), request):
            rows += len(wanted.candidates)
            waiting += rows > self._settings.max_batch
        return waiting

    async def _read(self, folder: Path, use: Callable[[Scheduler, LoraSlot], None]) -> LoraSlot:
        """Check, load and use a LoRA: a small one between steps, a large one in a thread of its own meanwhile."""
        from learner.engine.lora_files import parts, read, size_of

        self._running()
        assert self._model is not None
        base = self._model.base
        if size_of(folder) > SMALL_LORA:
            slot = await asyncio.to_thread(read, folder, base)
            await self._ask(lambda scheduler: use(scheduler, slot))
            return slot
        left = parts(folder, base)

        def go_on(scheduler: Scheduler) -> LoraSlot | None:
            if (found := next(left)) is not None:
                use(scheduler, found)
            return found

        while (done := await self._ask(go_on)) is None:
            pass  # a decoding step runs between two parts
        return done

    async def _ask(self, command: Callable[[Scheduler], T]) -> T:
        """Run a command in the engine's thread and return what it gives. Raises its EngineError."""
        worker, loop = self._running(), asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._asked.add(done)

        def obey(scheduler: Scheduler) -> None:
            try:
                given = command(scheduler)
            except EngineError as error:
                loop.call_soon_threadsafe(_reject, done, error)
            else:
                loop.call_soon_threadsafe(_resolve, done, given)

        worker.call(obey)
        try:
            return await done
        finally:
            self._asked.discard(done)

    def _post(self, events: list[Event] | Stopped) -> None:
        """Called in the engine's thread: bring events to the loop's."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._deliver, events)
        except RuntimeError:  # the loop is closed, and nobody waits any more
            return

    def _deliver(self, events: list[Event] | Stopped) -> None:
        if not isinstance(events, list):
            if events.error is not None:
                self._worker = None
                cause = f"{type(events.error).__name__}: {events.error}"
                self._error = f"the engine's thread died ({cause}); restart the bot"
                self._end_all(EngineClosed(self._error))
            return
        for event in events:
            _deliver_one(event)

    def _end_all(self, error: EngineClosed) -> None:
        waiting: list[asyncio.Future[Any]] = [*(job.future for job in self._jobs), *self._asked]
        for future in waiting:
            if not future.done():
                future.set_exception(error)


def _resolve(future: asyncio.Future[T], given: T) -> None:
    if not future.done():
        future.set_result(given)


def _reject(future: asyncio.Future[T], error: EngineError) -> None:
    if not future.done():
        future.set_exception(error)


def _deliver_one(event: Event) -> None:
    """Hand one event to whoever waits; a callback that raises ends its own request only."""
    from learner.engine.jobs import DoneEvent, FailedEvent

    job = event.job
    if job.future.done():
        return
    if isinstance(event, FailedEvent):
        job.future.set_exception(event.error)
    elif isinstance(event, DoneEvent):
        job.future.set_result(event.generated)
    elif job.on_text is not None:
        try:
            job.on_text(event.index, event.text)
        except Exception as exc:
            job.future.set_exception(exc)
