"""Asks each question once, whatever happens: from the journal if it was answered, else from the endpoint.

Knows nothing of what is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from weakref import WeakValueDictionary

from learner.corpus.synthesis.client import Client, Halt
from learner.corpus.synthesis.errors import Interrupted, ItemFailed, SynthesisError
from learner.corpus.synthesis.journal import Entry, Journal
from learner.corpus.synthesis.spending import Spending
from learner.corpus.synthesis.wire import Answer, Ask


class Calls:
    """A client behind a journal and a budget. `kept` counts the answers that were there already."""

    def __init__(
        self, client: Client, journal: Journal, spending: Spending, halt: Halt, answered: Callable[[], None]
    ) -> None:
        self.client = client
        self.spending = spending
        self.halt = halt
        self.kept = 0
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._journal = journal
        self._answered = answered
        for entry in journal.entries():
            if entry.answer is not None:
                spending.add(entry.answer)

    async def ask(self, ask: Ask) -> Answer:
        """The answer. Raises ItemFailed when this one can't be had, SynthesisError when no further one can."""
        key = ask.key(self.client.endpoint.model)
        async with self._turns.setdefault(key, asyncio.Lock()):  # two that ask the same pay once
            known = self._journal.answer(key)
            if known is not None:
                self.kept += 1
                return known
            self.halt.check()
            try:
                return await self._paid(ask, key)
            except SynthesisError as error:
                self.halt.stop(error)
                raise
            finally:
                self._answered()

    async def _paid(self, ask: Ask, key: str) -> Answer:
        reserved = await self.spending.reserve(ask)
        begun = False

        def begin() -> None:
            nonlocal begun
            begun = True
            self._journal.begin(key)

        try:
            answer = await self.client.ask(ask, begin)
            self._journal.keep(Entry(key, ask.kind, answer))
            self.spending.add(answer, ask)
            return answer
        except (ItemFailed, SynthesisError) as failed:
            if isinstance(failed, ItemFailed) and failed.lasting:
                self._journal.keep(Entry(key, ask.kind, None, failed.detail))
            elif begun:
                self._journal.end(key)
            raise
        finally:
            await self.spending.settle(reserved)

    @property
    def interrupted(self) -> int:
        """Calls that were under way when earlier runs were killed."""
        return self._journal.interrupted

    def interrupt(self) -> None:
        """Make no further call, because somebody said so."""
        self.halt.stop(Interrupted("stopped; run the same command again to go on"))
