"""Sentences as vectors beside a running bot: of each question when it comes, of everything said in the background.

Knows nothing of what vectors are compared with. The model has a thread of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from bots.database import Database
from learner.retrieval.embedding import Embedder, EmbeddingUnusable
from learner.store.store import Store

log = logging.getLogger(__name__)
BATCH = 32
LOOK_EVERY = 5.0  # seconds between looks for what was said meanwhile
PROGRESS_EVERY = 50  # batches

T = TypeVar("T")


class Vectors:
    """One embedding model for the bots of a process. Where it fails, words alone are searched."""

    def __init__(self, embedder: Embedder, store: Store, database: Database) -> None:
        self._embedder = embedder
        self._store = store
        self._database = database
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedding")
        self._usable = True

    @property
    def model(self) -> str:
        """The name that vectors are kept under."""
        return self._embedder.name

    async def of_question(self, words: str) -> tuple[float, ...] | None:
        """What the model makes of a question; None where it can't be used."""
        if not self._usable:
            return None
        return await self._call(lambda: self._embedder.question(words))

    async def follow(self, bots: list[str]) -> None:
        """Make a vector of whatever has none, newest first, until cancelled or the model fails for good."""
        while self._usable:
            made = 0
            for bot in bots:
                made += await self._catch_up(bot)
            if made:
                log.info("recall: %s new vectors by %s", made, self.model)
            await asyncio.sleep(LOOK_EVERY)

    async def _catch_up(self, bot: str) -> int:
        made = batches = 0
        while self._usable:
            waiting = await self._database(self._store.without_vector, bot, self.model, BATCH)
            if not waiting:
                break
            texts = [text for _, text in waiting]
            vectors = await self._call(lambda texts=texts: self._embedder.sentences(texts))  # type: ignore[misc]
            if vectors is None:
                break
            rows = [(turn, text, vector) for (turn, text), vector in zip(waiting, vectors, strict=True)]
            await self._database(self._store.add_vectors, self.model, rows)
            made, batches = made + len(rows), batches + 1
            if batches % PROGRESS_EVERY == 0:
                log.info("recall: %s vectors made for %s, going on", made, bot)
        return made

    async def _call(self, work: Callable[[], T]) -> T | None:
        """What `work` gives on the model's thread; None once the model can't be used."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        except EmbeddingUnusable as error:
            if self._usable:
                log.error("recall: %s; words alone are searched", error)
            self._usable = False
            return None

    def close(self) -> None:
        """Finish what the model is doing."""
        self._executor.shutdown(wait=True, cancel_futures=True)
