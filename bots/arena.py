"""When two candidates are offered, and which exchange a person's word is about.

Knows nothing of platforms or of how a reply is made. A choice expires: people answer "1" to other
things the next day. A word counts only for what its writer could have seen when it arrived.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from bots.database import Database
from bots.intent import Choice, Correction, Rating
from learner.store.rows import ExchangeView, NewFeedback, OfferState, Place
from learner.store.store import Store

HOUR = 3600.0


@dataclass(frozen=True)
class OfferRules:
    """How often two candidates are shown, and for how long (seconds) a choice stays open."""

    ask_rate: float
    max_per_hour: int
    expires_after: float


@dataclass(frozen=True)
class Expired:
    """The exchange can't take that feedback any more (or yet)."""

    key: str


class Arena:
    """Decides about offers for one bot."""

    def __init__(
        self,
        rules: OfferRules,
        store: Store,
        database: Database,
        rng: random.Random,
        challenger: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`challenger` names the version that is to duel with the one that speaks, None for no duels."""
        self.rules = rules
        self._challenger = challenger
        self._store = store
        self._database = database
        self._rng = rng

    async def wants_two(self, place: Place, now: float) -> bool:
        """Whether the next reply in `place` should be an offer."""
        if self._rng.random() >= self.rules.ask_rate:
            return False
        return await self._database(self._store.offers_since, place, now - HOUR) < self.rules.max_per_hour

    def speakers(self, two: bool) -> tuple[str, ...]:
        """Whose candidates are shown, in order: of champion and challenger a fair coin says who comes first."""
        challenger = self._challenger() if two else None
        if challenger is None:
            return ("active",) * (2 if two else 1)
        pair = ("active", challenger)
        return pair if self._rng.random() < 0.5 else pair[::-1]

    async def pending(self, place: Place, person: str, arrived: float) -> ExchangeView | None:
        """The open offer that `person` could see in `place` when their word arrived."""
        offer = await self._database(self._store.open_offer, place, person, arrived)
        return offer if offer is not None and _seen(offer, arrived) else None

    async def latest(self, place: Place, arrived: float) -> ExchangeView | None:
        """The last reply in `place`, if it was there when the word arrived and is not a refused offer."""
        exchange = await self._database(self._store.latest_exchange, place)
        return exchange if exchange is not None and _seen(exchange, arrived) else None

    def resolve(
        self, exchange: ExchangeView, word: Choice | Rating | Correction, teacher: str, trusted: bool, at: float
    ) -> NewFeedback | Expired:
        """What `word` about `exchange` is to be stored as, or why it can't be."""
        if exchange.state != "final":
            return Expired("not_ratable")
        if len(exchange.candidates) == 1:
            return self._about_reply(exchange, word, teacher, trusted, at)
        return self._about_offer(exchange, word, teacher, trusted, at)

    def _about_reply(
        self, exchange: ExchangeView, word: Choice | Rating | Correction, teacher: str, trusted: bool, at: float
    ) -> NewFeedback | Expired:
        match word:
            case Rating(value):
                return NewFeedback(exchange.id, teacher, trusted, "rating", value, "", at)
            case Correction(text):
                return NewFeedback(exchange.id, teacher, trusted, "correction", "", text, at, keep_text=text)
            case _:
                return Expired("not_ratable")

    def _about_offer(
        self, exchange: ExchangeView, word: Choice | Rating | Correction, teacher: str, trusted: bool, at: float
    ) -> NewFeedback | Expired:
        if self._is_over(exchange, at):
            return Expired("expired")
        resolved = exchange.kept is not None
        state: OfferState = "chosen"
        match word:
            case Choice(value):
                keep = int(value) if value in ("1", "2") else None
                return NewFeedback(exchange.id, teacher, trusted, "choice", value, "", at, keep=keep, offer=state)
            case Correction(text):
                return NewFeedback(
                    exchange.id, teacher, trusted, "correction", "", text, at, keep_text=text, offer=state
                )
            case Rating(value) if resolved:
                return NewFeedback(exchange.id, teacher, trusted, "rating", value, "", at)
            case Rating(value):
                both = "tie" if value == "good" else "both_bad"
                return NewFeedback(exchange.id, teacher, trusted, "choice", both, "", at, offer=state)

    def _is_over(self, exchange: ExchangeView, at: float) -> bool:
        if exchange.kept is not None or exchange.offer == "chosen":
            return False
        return exchange.expires_at is None or at > exchange.expires_at


def _seen(exchange: ExchangeView, arrived: float) -> bool:
    return exchange.shown_at is not None and exchange.shown_at <= arrived
