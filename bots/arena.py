"""When two candidates are offered, and which exchange a person's word is about.

Knows nothing of platforms or of how a reply is made. A choice expires: people answer "1" to other
things the next day. A word counts only for what its writer could have seen when it arrived.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from bots.curiosity import Curiosity, Question
from bots.database import Database
from bots.intent import Choice, Correction, Rating
from bots.voices import COMMON_VOICE, Voice
from learner.engine.base import Candidate
from learner.store.rows import ExchangeView, NewExchange, NewFeedback, OfferState, Place
from learner.store.store import Store

HOUR = 3600.0
CONSIDERED = 3.0  # so many pairs are made for each that is asked about, where what they would teach can be told
AT_RANDOM = 0.1  # of the offers are made whatever they would teach

Asks = Literal["no", "if it teaches", "yes"]


@dataclass(frozen=True)
class OfferRules:
    """How often two candidates are shown, and for how long (seconds) a choice stays open.

    Who has said fewer than `quarantine` words about replies is new.
    """

    ask_rate: float
    max_per_hour: int
    expires_after: float
    quarantine: int = 10


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
        curiosity: Curiosity | None = None,
    ) -> None:
        """`challenger` names the version that is to duel with the one that speaks, None for no duels.

        `curiosity` tells which pairs are worth asking about; without it all are alike.
        """
        self.rules = rules
        self._curiosity = curiosity
        self._challenger = challenger
        self._store = store
        self._database = database
        self._rng = rng

    async def asks(self, place: Place, now: float, may_wait: bool, voice: Voice = COMMON_VOICE) -> Asks:
        """Whether the next reply in `place` should be an offer. Duels are asked about whatever they would teach.

        `may_wait`: that can be decided when both candidates are there.
        """
        rate, lot = self.rules.ask_rate, self._rng.random()
        curiosity = self._curiosity and self._curiosity.about(voice.folder)
        curious = may_wait and curiosity is not None and curiosity.ready and self._rival(voice) is None
        surely = AT_RANDOM * rate if curious else rate
        if lot >= surely + (self._considered() if curious else 0.0):
            return "no"
        if await self._database(self._store.offers_since, place, now - HOUR) >= self.rules.max_per_hour:
            return "no"
        return "yes" if lot < surely else "if it teaches"

    async def question(
        self, new: NewExchange, pair: Sequence[Candidate], teacher: str | None, voice: Voice = COMMON_VOICE
    ) -> Question | None:
        """What to ask about `pair`, if anything: it was made to see whether it would teach.

        `teacher` is the person where their word counts by what is known of them: none who own, none who don't teach.
        """
        if self._curiosity is None:
            return Question()
        share = (1 - AT_RANDOM) * self.rules.ask_rate / self._considered()
        seeded = teacher is not None and await self._is_new(new.mind, teacher)
        return await self._curiosity.about(voice.folder).question(new.prompt_ids, pair, share, seeded)

    async def _is_new(self, mind: str, teacher: str) -> bool:
        return await self._database(self._store.words_of, mind, teacher) < self.rules.quarantine

    def _considered(self) -> float:
        """How often a pair is made to see whether it is worth asking about."""
        rate = self.rules.ask_rate
        return min(1 - AT_RANDOM * rate, CONSIDERED * (1 - AT_RANDOM) * rate)

    def speakers(self, two: bool, voice: Voice = COMMON_VOICE) -> tuple[str, ...]:
        """Whose candidates are shown, in order: of champion and challenger a fair coin says who comes first."""
        challenger = self._rival(voice) if two else None
        if challenger is None:
            return (voice.lora,) * (2 if two else 1)
        pair = (voice.lora, challenger)
        return pair if self._rng.random() < 0.5 else pair[::-1]

    def _rival(self, voice: Voice) -> str | None:
        """Who duels with whoever speaks; nobody where a choice must not decide about the common LoRA."""
        return self._challenger() if voice.duels else None

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
