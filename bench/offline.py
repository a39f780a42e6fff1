"""Nights of the starter in this process: people's records drawn and judged by the hidden truth, without a bot around.

For benches that need many nights: what is trained and judged is the product's own; only how the records were said is
left out. Knows nothing of what is measured on a night.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import people
import torch
import towns
from people import Person, Truth
from starter_talk import SAMPLING, STARTER, Phrasing, phrasings

from learner.engine.base import ChatMessage
from learner.frozen import Frozen, NightRequest
from learner.records import PreferencePair, PreferenceRecords, Provenance, RatedReply
from learner.training import model
from learner.training.canaries import Canary, Reply
from learner.training.generate import Decoding, replies
from learner.training.model import ChatRenderer, ModelSource, Weights
from learner.training.night import Night

Prompt = tuple[ChatMessage, ...]


@dataclass(frozen=True)
class Asked:
    """What somebody said, with what was said before it, and by whom."""

    prompt: Prompt
    row: Phrasing
    person: Person
    chat: str


class Offline:
    """The starter, what its replies are usually like, and people who judge them by the truth."""

    def __init__(self, threads: int = 1) -> None:
        torch.set_num_threads(threads)
        source = ModelSource(str(STARTER), "cpu", "fp32")
        self.base = model.load_base(source)
        self.base.eval()
        self.renderer = ChatRenderer.load(source, self.base)
        self.parts = phrasings()
        self.canaries = tuple(
            Canary((ChatMessage("user", row.text),), row.any_of, row.language) for row in self.parts["gate"]
        )
        self._settle()

    def _settle(self) -> None:
        """What the start's replies are like, and the slope with which people agree with the truth."""
        rows = self.parts["measured"][: towns.SETTLING_PROMPTS]
        one, two = (self.drawn(self.base, [(ChatMessage("user", row.text),) for row in rows], seed) for seed in (1, 2))
        lengths: dict[str, list[int]] = {}
        for reply, row in zip(one, rows, strict=True):
            lengths.setdefault(row.language, []).append(len(reply.text))
        self.truth = Truth({language: statistics.fmean(found) for language, found in lengths.items()})
        first, second = ([self.truth(c.text, row) for c, row in zip(made, rows, strict=True)] for made in (one, two))
        self.slope = people.slope_of([a - b for a, b in zip(first, second, strict=True)])
        self.usual = statistics.median(first)

    def drawn(self, policy: object, prompts: Sequence[Prompt], seed: int) -> list[Reply]:
        """A reply of whatever is in `policy` to every prompt, as people would see it."""
        decoding = Decoding(SAMPLING["temperature"], SAMPLING["top_p"], SAMPLING["max_tokens"], seed=seed)
        return replies(policy, self.renderer, [self.renderer.prompt(prompt) for prompt in prompts], decoding)

    def records(self, choices: Sequence[Asked], ratings: Sequence[Asked], seed: int) -> PreferenceRecords:
        """What these people say of two replies each, and of one; two that are the same say nothing."""
        rng, base = random.Random(seed), 10 * seed
        one, two = (self.drawn(self.base, [asked.prompt for asked in choices], base + part) for part in (1, 2))
        pairs = [
            self._pair(number, asked, a, b, rng)
            for number, (asked, a, b) in enumerate(zip(choices, one, two, strict=True))
            if a.text != b.text
        ]
        single = self.drawn(self.base, [asked.prompt for asked in ratings], base + 3)
        rated = [
            self._rated(len(choices) + number, asked, reply, rng)
            for number, (asked, reply) in enumerate(zip(ratings, single, strict=True))
        ]
        return PreferenceRecords(tuple(pairs), tuple(rated), ties=0, left_out={})

    def _pair(self, number: int, asked: Asked, first: Reply, second: Reply, rng: random.Random) -> PreferencePair:
        apart = self.truth(first.text, asked.row) - self.truth(second.text, asked.row)
        liked = asked.person.likes(apart, self.slope, rng)
        chosen, rejected = (first, second) if liked else (second, first)
        return PreferencePair(
            asked.prompt, self.renderer.prompt(asked.prompt), chosen.text, rejected.text, chosen.tokens,
            rejected.tokens, "choice", _told(number, asked), 1 if liked else 2,
        )  # fmt: skip

    def _rated(self, number: int, asked: Asked, reply: Reply, rng: random.Random) -> RatedReply:
        good = asked.person.likes(self.truth(reply.text, asked.row) - self.usual, self.slope, rng)
        return RatedReply(
            asked.prompt, self.renderer.prompt(asked.prompt), reply.text, reply.tokens, good, "rating",
            _told(number, asked),
        )  # fmt: skip

    def night(self, records: PreferenceRecords, seed: int, scratch: str) -> Night:
        """A night on `records` as it would begin, with the product's own settings."""
        request = NightRequest(1, "default", str(STARTER), "", device="cpu", threads=1, nice=0, seed=seed)
        return Night(Frozen(request, records, self.canaries), scratch, lambda *_: None)

    def win_rate(self, night: Night, weights: Weights, rows: Sequence[Phrasing], seed: int) -> float:
        """How often one draw of `weights` beats one of the anchor by the truth, a tie as half."""
        prompts = [(ChatMessage("user", row.text),) for row in rows]
        theirs = self.drawn(self.base, prompts, seed + 1)
        model.restore(night.model, weights)
        mine = self.drawn(night.model, prompts, seed)
        return statistics.fmean(
            people.win(self.truth(a.text, row), self.truth(b.text, row))
            for a, b, row in zip(mine, theirs, rows, strict=True)
        )


def _told(number: int, asked: Asked) -> Provenance:
    return Provenance(f"x{number}", asked.chat, asked.person.name, "s", float(number), (None, None))
