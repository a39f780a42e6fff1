"""The one thread that owns the model: reads commands between two forward passes, hands events out.

Knows nothing of asyncio; `post` brings events wherever they belong.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import torch

from learner.engine.jobs import Event
from learner.engine.loading import LoadedModel, load
from learner.engine.local_settings import LocalSettings
from learner.engine.scheduler import Scheduler

logger = logging.getLogger(__name__)

Command = Callable[[Scheduler], None]


@dataclass(frozen=True)
class Stopped:
    """The thread has ended: by close (None), or by an error that nothing else caught."""

    error: BaseException | None


Post = Callable[[list[Event] | Stopped], None]


class Worker:
    """A thread that loads the model and then works until it is closed."""

    def __init__(self, settings: LocalSettings, post: Post) -> None:
        self.ready: Future[LoadedModel] = Future()
        self.scheduler: Scheduler | None = None
        self._settings, self._post = settings, post
        self._commands: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self._events: list[Event] = []
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to load; `ready` tells when that is done, or why it cannot be."""
        self._thread.start()

    def call(self, command: Command) -> None:
        """Have `command` run between two forward passes."""
        self._commands.put(command)

    def close(self) -> None:
        """Have the thread end after the forward pass it is in."""
        self._commands.put(None)

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    @property
    def tokens_per_second(self) -> float:
        """How fast tokens come out now."""
        return self.scheduler.tokens_per_second if self.scheduler is not None else 0.0

    def _run(self) -> None:
        try:
            model = load(self._settings)
        except BaseException as exc:
            self.ready.set_exception(exc)
            return
        self.scheduler = Scheduler(model, self._settings, self._events.append)
        self.ready.set_result(model)
        error: BaseException | None = None
        try:
            with torch.inference_mode():
                self._work(self.scheduler)
        except BaseException as exc:
            logger.exception("the engine's thread died")
            error = exc
        self.scheduler = None
        self._post(Stopped(error))

    def _work(self, scheduler: Scheduler) -> None:
        while self._obey(scheduler):
            scheduler.tick()
            if self._events:
                self._post(self._events[:])
                self._events.clear()

    def _obey(self, scheduler: Scheduler) -> bool:
        """Run the commands that have come, waiting for one when there is no work; False to end."""
        try:
            while True:
                command = self._commands.get(block=not scheduler.busy)
                if command is None:
                    return False
                command(scheduler)
        except queue.Empty:
            return True
