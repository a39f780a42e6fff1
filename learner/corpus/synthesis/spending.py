"""Counts what answers cost, and reserves what the next one may cost at most.

Knows nothing of endpoints or journals.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from learner.corpus.synthesis.errors import BudgetReached
from learner.corpus.synthesis.wire import Answer, Ask, prompt_tokens

UNLIMITED_ANSWER = 4096  # tokens that are reserved where max_tokens is not set


@dataclass(frozen=True)
class Prices:
    """What a million tokens cost, in whatever currency the endpoint bills; 0: nothing, or not known."""

    per_million_in: float = 0.0
    per_million_out: float = 0.0

    def cost(self, prompt: float, completion: float) -> float:
        """The price of so many tokens."""
        return (prompt * self.per_million_in + completion * self.per_million_out) / 1e6


class Spending:
    """Tokens and money of one dataset, over all the runs that made it; `limit` None: no budget."""

    def __init__(self, prices: Prices, limit: float | None = None) -> None:
        self.prices = prices
        self.limit = limit
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.estimated = False
        self._longer = 1.0  # than we think are questions as the endpoint counts them
        self._reserved = 0.0
        self._settled = asyncio.Condition()

    @property
    def cost(self) -> float:
        """What was spent so far."""
        return self.prices.cost(self.prompt_tokens, self.completion_tokens)

    def add(self, answer: Answer, ask: Ask | None = None) -> None:
        """Count an answer, this run's or an earlier one's; from `ask` it is learned how the endpoint counts."""
        if ask is not None:
            self._longer = max(self._longer, answer.prompt_tokens / prompt_tokens(ask))
        self.prompt_tokens += answer.prompt_tokens
        self.completion_tokens += answer.completion_tokens
        self.estimated |= not answer.counted

    async def reserve(self, ask: Ask) -> float:
        """Set aside what `ask` may cost at most; waits while calls under way hold what it needs.

        Raises BudgetReached when there is not so much left.
        """
        most = self.prices.cost(prompt_tokens(ask) * self._longer, ask.drawing.max_tokens or UNLIMITED_ANSWER)
        if self.limit is None:
            return 0.0
        async with self._settled:
            while self.cost + self._reserved + most > self.limit:
                if self._reserved <= 0 or self.cost + most > self.limit:
                    raise BudgetReached(
                        f"the budget of {self.limit:g} is used up: {self.cost:.4f} spent, and the next call may cost "
                        f"{most:.4f}. Raise --budget to go on; nothing is paid twice"
                    )
                await self._settled.wait()
            self._reserved += most
        return most

    async def settle(self, reserved: float) -> None:
        """Give back what `reserve` set aside."""
        if self.limit is not None:
            async with self._settled:
                self._reserved = max(0.0, self._reserved - reserved)
                self._reserved = 0.0 if self._reserved < 1e-12 else self._reserved
                self._settled.notify_all()
