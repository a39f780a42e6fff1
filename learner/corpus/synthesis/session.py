"""One run: the journal is held, the endpoint asked, and at the end files and a report stand.

Knows nothing of settings, terminals or signals.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from learner.corpus import dialogues
from learner.corpus.synthesis.calls import Calls
from learner.corpus.synthesis.client import Client, Endpoint, Halt
from learner.corpus.synthesis.errors import BudgetReached, EndpointRefused, NothingUsable, SynthesisError
from learner.corpus.synthesis.harvest import Harvest, Rejections
from learner.corpus.synthesis.journal import Journal
from learner.corpus.synthesis.spending import Prices, Spending
from learner.corpus.synthesis.wire import Drawing

AHEAD = 8  # items under way for each call at once: one slow answer must not hold up the others


@dataclass(frozen=True)
class Means:
    """Whom to ask, how, and what it may cost."""

    endpoint: Endpoint
    drawing: Drawing
    prices: Prices
    budget: float | None = None
    retry_refused: bool = False

    @property
    def window(self) -> int:
        """Items that may be under way."""
        return self.endpoint.concurrency * AHEAD


@dataclass(frozen=True)
class Files:
    """What stands beside the dataset: answers that were paid for, what was rejected, and who the character is."""

    output: Path

    @property
    def journal(self) -> Path:
        """Every answer; delete it only when nothing is to be made of them any more."""
        return self._beside("journal.jsonl")

    @property
    def errors(self) -> Path:
        """What was rejected, with reasons."""
        return self._beside("errors.jsonl")

    @property
    def persona(self) -> Path:
        """The character's profile."""
        return self._beside("persona.json")

    def _beside(self, ending: str) -> Path:
        return self.output.with_name(f"{self.output.name}.{ending}")


@dataclass(frozen=True)
class Report:
    """How a run ended. Calls, retried and uncertain are this run's; tokens and cost are of all runs of this output.

    `uncertain`: requests of this run whose answer never arrived, which the endpoint may have charged; `interrupted`:
    calls under way when earlier runs were killed, which it may have charged too. `stopped` is empty when all that was
    wanted was made.
    """

    wanted: int
    made: int
    duplicates: int
    rejected: dict[str, int]
    calls: int = 0
    from_journal: int = 0
    retried: int = 0
    uncertain: int = 0
    interrupted: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_estimated: bool = False
    cost: float = 0.0
    seconds: float = 0.0
    stopped: str = ""

    def row(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@asynccontextmanager
async def opened(
    means: Means, journal: Path, rng: random.Random, answered: Callable[[Calls], None]
) -> AsyncIterator[Calls]:
    """Calls whose answers go into `journal`; `answered` is told after each. Raises SynthesisError."""
    halt = Halt()
    client = Client(means.endpoint, halt, rng)
    try:
        if not means.endpoint.model:
            client.endpoint = replace(means.endpoint, model=_the_only(await client.models()))
        with Journal(journal, means.retry_refused) as held:
            spending = Spending(means.prices, means.budget)
            yield (calls := Calls(client, held, spending, halt, lambda: answered(calls)))
    finally:
        await client.close()


def _the_only(names: Sequence[str]) -> str:
    if len(names) > 1:
        raise EndpointRefused(f"the endpoint has several models, name one with --model: {', '.join(names[:20])}")
    return names[0]


def finish(files: Files, harvests: Sequence[Harvest], stopped: SynthesisError | None) -> bool:
    """Write what was rejected, and the dataset when the run ended by itself; whether the dataset was written.

    The last harvest holds the dialogues. One that was interrupted leaves the output alone, as it can go on.
    """
    Rejections(row for one in harvests for row in one.rejected.rows).write(files.errors)
    by_itself = stopped is None or isinstance(stopped, BudgetReached | NothingUsable)
    if not by_itself or not harvests[-1].made:
        return False
    dialogues.write(files.output, harvests[-1].made)
    return True


def report(
    harvests: Sequence[Harvest], calls: Calls | None, seconds: float, stopped: SynthesisError | None, wanted: int
) -> Report:
    """The report of a run; without `calls` nothing was asked."""
    whole = Rejections(row for one in harvests for row in one.rejected.rows)
    told = Report(
        wanted=wanted,
        made=len(harvests[-1].made),
        duplicates=whole.duplicates,
        rejected=whole.reasons(),
        seconds=round(seconds, 1),
        stopped=str(stopped or ""),
    )
    if calls is None:
        return told
    traffic, spending = calls.client.traffic, calls.spending
    return replace(
        told,
        calls=traffic.calls,
        from_journal=calls.kept,
        retried=traffic.retried,
        uncertain=traffic.uncertain,
        interrupted=calls.interrupted,
        tokens_in=spending.prompt_tokens,
        tokens_out=spending.completion_tokens,
        tokens_estimated=spending.estimated,
        cost=round(spending.cost, 6),
    )
