"""What people say about replies: by words, buttons or reactions, about exactly one exchange, stored once.

Knows nothing of how words are read or which exchange they mean.
"""

from __future__ import annotations

from typing import cast

from adapters.base import Pressed, Reacted, Reply, Verdict
from bots.arena import Arena, Expired
from bots.call import Call
from bots.database import Database
from bots.intent import Choice, Correction, Rating
from bots.payloads import draft_of
from bots.settle import Settlements
from learner.store.rows import ExchangeView, NewFeedback
from learner.store.store import Store

THANKS = {
    "1": "thanks_choice",
    "2": "thanks_choice",
    "tie": "thanks_tie",
    "both_bad": "thanks_both_bad",
    "good": "thanks_good",
    "bad": "thanks_bad",
}


class Verdicts:
    """Stores feedback for one bot. Each path ends in one transaction that also finishes the inbox row."""

    def __init__(self, arena: Arena, settlements: Settlements, store: Store, database: Database) -> None:
        self._arena = arena
        self._settlements = settlements
        self._store = store
        self._database = database

    async def pressed(self, call: Call, pressed: Pressed) -> None:
        """A button: thanked for in words only where the platform does not show the press itself."""
        exchange = await self._database(self._store.exchange, pressed.exchange)
        if exchange is None or not may_answer(call, exchange):
            return await self._answer(call, call.notice("unknown_exchange"))
        quiet = call.trusted and self._settlements.shows(call.place)
        if pressed.verdict == "retract":
            return await self._retract(call, exchange.id, quiet=quiet)
        await self.give(call, exchange, _word(pressed), quiet=quiet)

    async def reacted(self, call: Call, reacted: Reacted) -> None:
        """A reaction: people see their own, so nothing is said to it. Removed, it takes back no more than ratings."""
        exchange = await self._database(self._store.exchange_of_message, call.place, reacted.message)
        if exchange is None or not is_theirs(call, exchange):  # a platform may not tell a reaction's topic
            return await self._answer(call)
        if reacted.verdict == "retract":
            return await self._retract(call, exchange.id, only="rating", quiet=True)
        await self.give(call, exchange, Rating(reacted.verdict), quiet=True)

    async def give(
        self, call: Call, exchange: ExchangeView, word: Choice | Rating | Correction, quiet: bool = False
    ) -> None:
        """Store `word` about `exchange`, or say why it can't be; thank for it unless `quiet`."""
        feedback = self._arena.resolve(exchange, word, call.teacher, call.trusted, call.arrived)
        if isinstance(feedback, Expired):
            return await self._answer(call, call.notice(feedback.key))
        thanks = [] if quiet else [draft_of(_thanks(call, feedback), call.place)]
        await self._database(self._store.add_feedback, call.row.id, feedback, thanks)
        self._settlements.tell(call.place, exchange.id, cast(Verdict, feedback.value or feedback.kind))

    async def _retract(self, call: Call, exchange: str, *, only: str = "", quiet: bool) -> None:
        feedback = NewFeedback(exchange, call.teacher, call.trusted, "retract", only, "", call.arrived)
        notice = [] if quiet else [draft_of(call.notice("taken_back"), call.place)]
        await self._database(self._store.add_feedback, call.row.id, feedback, notice)
        self._settlements.tell(call.place, exchange, "retract")

    async def _answer(self, call: Call, *replies: Reply) -> None:
        drafts = [draft_of(reply, call.place) for reply in replies]
        await self._database(self._store.answer, call.row.id, drafts)


def may_answer(call: Call, exchange: ExchangeView) -> bool:
    """An exchange belongs to its chat, and an offer to the person it was made to."""
    return exchange.place == call.place and is_theirs(call, exchange)


def is_theirs(call: Call, exchange: ExchangeView) -> bool:
    """Whether the person may judge it: a single reply is anybody's to judge, an offer theirs to whom it was made."""
    return len(exchange.candidates) == 1 or exchange.person == call.known.person


def _thanks(call: Call, feedback: NewFeedback) -> Reply:
    if not feedback.trusted:
        return call.notice("untrusted")
    if feedback.kind == "correction":
        return call.notice("thanks_correction")
    return call.notice(THANKS[feedback.value], choice=feedback.value)


def _word(pressed: Pressed) -> Choice | Rating | Correction:
    match pressed.verdict:
        case "1" | "2" | "both_bad" | "tie" as value:
            return Choice(value)
        case "good" | "bad" as value:
            return Rating(value)
        case _:
            return Correction(pressed.correction.strip())
