"""Small worlds for the tests of the store, the records and the formats."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from learner.engine.base import ChatMessage
from learner.records import ShownCandidate
from learner.store import Store
from learner.store.rows import (
    ExchangeView,
    InboxRow,
    NewExchange,
    NewFeedback,
    NewInbound,
    OutboxDraft,
    Place,
    Turn,
)

PLACE = Place("bot", "web", "chat")
HOUR = 3600.0


def candidate(text: str, side: int = 1, finish: str = "stop") -> ShownCandidate:
    sampling = {"temperature": 0.9, "max_tokens": 128}
    ids = tuple(range(len(text)))
    return ShownCandidate(text, ids, tuple(-0.1 * i for i in ids), "0001", sampling, 2**40, side, finish)


@dataclass
class Scene:
    """Drives a store the way the router does, with one clock that ticks at each step."""

    store: Store
    place: Place = PLACE
    mind: str = "default"
    now: float = 1000.0
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def tick(self) -> float:
        self.now += 1.0
        return self.now

    def arrive(self, text: str, person: str = "ann") -> InboxRow:
        external = f"{self.place.chat}-m{next(self._numbers)}"
        inbound = NewInbound(self.place, external, person, "Message", {"text": text}, self.tick())
        return self.store.receive(self.mind, inbound).row

    def begin(self, row: InboxRow, prompt: tuple[ChatMessage, ...] | None = None) -> str:
        text = row.inbound.payload["text"]
        messages = prompt or (ChatMessage("system", "Be kind."), ChatMessage("user", text))
        name = f"{self.place.chat}-e{next(self._numbers)}"
        new = NewExchange(name, self.mind, self.place, row.inbound.person, row.id, messages, (1, 2, 3), self.tick())
        self.store.begin_exchange(new)
        return name

    def finish(self, exchange: str, row: InboxRow, *texts: str) -> ExchangeView:
        shown = [candidate(text, side) for side, text in enumerate(texts, 1)]
        question = Turn("user", row.inbound.person, row.inbound.payload["text"], None, row.inbound.at)
        payload = {"text": texts[0], "exchange": exchange, "candidates": list(texts)}
        at = self.tick()
        expires_at = at + HOUR if len(texts) == 2 else None
        draft = OutboxDraft(f"out-{exchange}", self.place, payload)
        self.store.finish_exchange(exchange, shown, question, expires_at, [draft], at)
        view = self.store.exchange(exchange)
        assert view is not None
        return view

    def talk(
        self,
        text: str,
        *replies: str,
        person: str = "ann",
        prompt: tuple[ChatMessage, ...] | None = None,
    ) -> ExchangeView:
        row = self.arrive(text, person)
        return self.finish(self.begin(row, prompt), row, *replies)

    def say(self, exchange: str, kind: str, value: str = "", teacher: str = "web:ann", **more: object) -> int:
        fields: dict[str, object] = {"trusted": True, "correction": "", **more}
        fed = NewFeedback(exchange=exchange, teacher=teacher, kind=kind, value=value, at=self.tick(), **fields)  # type: ignore[arg-type]
        return self.store.add_feedback(None, fed, [])

    def choose(self, exchange: str, value: str, teacher: str = "web:ann", **more: object) -> int:
        keep = int(value) if value in ("1", "2") else None
        return self.say(exchange, "choice", value, teacher, keep=keep, offer="chosen", **more)

    def correct(self, exchange: str, words: str, teacher: str = "web:ann") -> int:
        return self.say(exchange, "correction", "", teacher, correction=words, keep_text=words)

    def history(self) -> list[str]:
        return [turn.text for turn in self.store.history(self.place, 50)]
