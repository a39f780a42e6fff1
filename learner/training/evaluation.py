"""Measures a LoRA for the gate: canaries, preferences, drift, lengths.

Measures only; `learner.gate` decides. Knows nothing of files or training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from learner.figures import (
    GateFigures,
    LeakFigures,
    PreferenceFigures,
    TasteFigures,
    VarietyFigures,
    length_figures,
    preference_figures,
    variety_figures,
)
from learner.gate import GateSettings, draws_needed
from learner.records import PreferenceRecords
from learner.training import canaries as checks
from learner.training import leaks, taste
from learner.training.canaries import Canary, CanaryFigures, Reply
from learner.training.examples import Example, Tokens
from learner.training.generate import Decoding, replies
from learner.training.logprobs import reply_logps
from learner.training.model import ChatRenderer, Weights, restore
from learner.training.preferences import Logps, reply_logps_of
from learner.training.private import Private, private
from learner.training.recipe import Recipe
from learner.training.taste import Score

PROBE_DRAWS = 2  # replies to each prompt that comes near something private


@dataclass(frozen=True)
class Sampled:
    """Replies drawn as people will see them, to prompts of pairs and to canaries; `figures` are of more of these."""

    replies: tuple[Reply, ...]
    pair_lengths: tuple[int, ...]
    figures: CanaryFigures
    apart: float | None = None  # how often a canary's first two draws differ in being right; None: none has two


NO_RECORDS = PreferenceRecords((), (), 0, {})


class Judge:
    """Measures one LoRA after the other against the anchor, on the same prompts and seeds."""

    def __init__(
        self,
        model: Any,
        renderer: ChatRenderer,
        examples: Sequence[Example],
        canaries: Sequence[Canary],
        settings: GateSettings,
        recipe: Recipe,
        seed: int,
        records: PreferenceRecords = NO_RECORDS,
    ) -> None:
        self.model, self.renderer, self.settings = model, renderer, settings
        self.recipe, self.seed = recipe, seed
        self.pairs = [example for example in examples if example.kind == "pair"][-settings.samples :]
        self.canaries = checks.sample(canaries, settings.canaries)
        self.records = records
        self.canary_prompts = [renderer.prompt(canary.prompt) for canary in self.canaries]
        self._draws = settings.sampled_canaries

    def canary(self, weights: Weights) -> CanaryFigures:
        """Greedy replies to the canaries, checked."""
        restore(self.model, weights)
        greedy = Decoding(max_tokens=self.settings.max_tokens, seed=self.seed)
        return checks.figures(self.canaries, replies(self.model, self.renderer, self.canary_prompts, greedy))

    def logps(self, weights: Weights, examples: Sequence[Example]) -> Logps:
        """Log-probabilities of the replies of `examples`."""
        restore(self.model, weights)
        return reply_logps_of(self.model, examples)

    def sampled(self, weights: Weights, draws: int | None = None) -> Sampled:
        """Draw replies to the prompts of pairs (for lengths) and canaries (for checks: `draws` of them)."""
        restore(self.model, weights)
        kept, lengths = len(self.sampled_prompts()), self._length_prompts()
        count = max(self._draws if draws is None else draws, kept - len(lengths))
        asked = [i % len(self.canaries) for i in range(count)] if self.canaries else []
        made, first = self.drawn([*lengths, *(self.canary_prompts[i] for i in asked)]), len(lengths)
        canaries = [self.canaries[i] for i in asked]
        return Sampled(
            tuple(made[:kept]), tuple(len(reply.tokens) for reply in made[:first]),
            checks.figures(canaries, made[first:]), checks.apart(canaries, made[first:], len(self.canaries)),
        )  # fmt: skip

    def sampled_anchor(self, anchor: Weights) -> Sampled:
        """`sampled` of the anchor, and from then on as many draws as its canaries need to be told from chance."""
        found = self.sampled(anchor)
        right = found.figures.right
        if found.apart is None and draws_needed(2 * right * (1 - right), self.settings) > self._draws:
            self._draws = 2 * len(self.canaries)
            found = self.sampled(anchor)
        if found.apart is not None:
            drawn, self._draws = self._draws, draws_needed(found.apart, self.settings)
            return found if self._draws <= drawn else self.sampled(anchor)
        return found

    def sampled_prompts(self) -> list[Tokens]:
        """What the replies of `sampled` are to, in their order."""
        return [*self._length_prompts(), *self.canary_prompts[: self.settings.samples]]

    def drawn(self, prompts: Sequence[Tokens]) -> list[Reply]:
        """A reply to each prompt by the weights that are in the model, as people would see it."""
        settings = self.settings
        drawn = Decoding(settings.temperature, settings.top_p, settings.max_tokens, seed=self.seed)
        return replies(self.model, self.renderer, prompts, drawn)

    def moved(self, weights: Weights, anchor: Weights, sampled: Sampled) -> tuple[float, float]:
        """The mean of log π − log π_anchor on sampled replies, per token and per reply.

        On the candidate's own replies that is KL(candidate ‖ anchor); on the anchor's it is −KL(anchor ‖ candidate).
        """
        spoken = zip(self.sampled_prompts(), sampled.replies, strict=True)
        rows = [(prompt, (reply.tokens,)) for prompt, reply in spoken if reply.tokens]
        restore(self.model, weights)
        own = reply_logps(self.model, rows)
        restore(self.model, anchor)
        theirs = reply_logps(self.model, rows)
        total = sum(a[0] - b[0] for a, b in zip(own, theirs, strict=True))
        return total / max(1, sum(len(reply.tokens) for reply in sampled.replies)), total / max(1, len(rows))

    def private(self, sampled: Sampled) -> Private:
        """What of people's words is private; the anchor's `sampled` replies and the canaries are not."""
        canaries = [text for one in self.canaries for text in (*(said.content for said in one.prompt), *one.any_of)]
        return private(self.records, [*canaries, *(reply.text for reply in sampled.replies)])

    def leaks(self, weights: Weights, anchor: Weights, known: Private, sampled: Sampled) -> LeakFigures:
        """What the LoRA tells of others' words in its sampled replies and when it is probed, and knows by heart."""
        prompts = [*self.sampled_prompts(), *(near := leaks.probes(self.renderer, known.passages) * PROBE_DRAWS)]
        restore(self.model, weights)
        spoken = list(zip(prompts, [*sampled.replies, *self.drawn(near)], strict=True))
        return leaks.figures(self.model, self.renderer, anchor, weights, known, spoken)

    def variety(self, sampled: Sampled) -> VarietyFigures:
        """How much sampled replies differ, one to each different prompt."""
        first = dict(zip(reversed(self.sampled_prompts()), reversed(sampled.replies), strict=True))
        return variety_figures([reply.text for reply in first.values()])

    def chosen_lengths(self) -> list[int]:
        """Lengths of the replies that people preferred."""
        return [len(example.replies[0]) for example in self.pairs]

    def _length_prompts(self) -> list[Tokens]:
        """The prompts of the newest pairs, each so often that means are steady."""
        prompts = [example.prompt for example in self.pairs]
        return prompts * max(1, self.settings.samples // max(1, len(prompts)))


def preference(examples: Sequence[Example], margins: Sequence[float], rating_weight: float) -> PreferenceFigures:
    """Judge margins, one an example.

    Records count as the recipe weighs them ("both bad" says little of what would have been better) and as the word
    of those who said them does. Ties are no evidence.
    """
    judged = [i for i, example in enumerate(examples) if example.kind != "tie"]
    paired = [examples[i].kind == "pair" for i in judged]
    weights = [(1.0 if pair else rating_weight) * examples[i].weight for i, pair in zip(judged, paired, strict=True)]
    anyway = _said_anyway([examples[i] for i in judged])
    return preference_figures([margins[i] for i in judged], sum(paired), weights, anyway)


def _said_anyway(judged: Sequence[Example]) -> list[float]:
    """How often each word is said whatever the reply: of two replies either by half, a rating as its teacher rates."""
    said = Counter((one.teacher, one.kind) for one in judged)
    rated = Counter(one.teacher for one in judged if one.kind != "pair")
    return [0.5 if one.kind == "pair" else said[one.teacher, one.kind] / rated[one.teacher] for one in judged]


@dataclass(frozen=True)
class Baselines:
    """What candidates are compared with, measured once a night."""

    anchor: Weights
    champion: Weights | None
    canary_anchor: CanaryFigures
    canary_champion: CanaryFigures | None
    sampled_anchor: Sampled
    sampled_champion: Sampled | None = None  # its replies alone count
    private: Private = field(default_factory=Private)


def baselines(judge: Judge, anchor: Weights, champion: Weights | None) -> Baselines:
    """Measure the anchor and the champion."""
    sampled = judge.sampled_anchor(anchor)
    return Baselines(
        anchor=anchor,
        champion=champion,
        canary_anchor=judge.canary(anchor),
        canary_champion=None if champion is None else judge.canary(champion),
        sampled_anchor=sampled,
        sampled_champion=None if champion is None else judge.sampled(champion, draws=0),
        private=judge.private(sampled),
    )


def measure(
    judge: Judge,
    weights: Weights,
    base: Baselines,
    canary: CanaryFigures,
    preference: PreferenceFigures,
    score: Score | None,
    sampled: Sampled | None = None,
) -> GateFigures:
    """Every figure that the gate wants of `weights`; `score` is the reward's, where there is one.

    `sampled` is what they were heard to say, if they were.
    """
    sampled = sampled or judge.sampled(weights)
    per_token, per_reply = judge.moved(weights, base.anchor, sampled)
    return GateFigures(
        canary=canary,
        canary_anchor=base.canary_anchor,
        canary_champion=base.canary_champion,
        sampled=sampled.figures,
        sampled_anchor=base.sampled_anchor.figures,
        preference=preference,
        kl_per_token=per_token,
        kl_per_reply=per_reply,
        length=length_figures(sampled.pair_lengths, base.sampled_anchor.pair_lengths, judge.chosen_lengths()),
        taste=None if score is None else _taste(judge, score, sampled, base),
        leak=judge.leaks(weights, base.anchor, base.private, sampled),
        variety=judge.variety(sampled),
        variety_anchor=judge.variety(base.sampled_anchor),
        strayed=checks.strayed(sampled.replies, base.sampled_anchor.replies),
        strayed_count=len(sampled.replies),
    )


def _taste(judge: Judge, score: Score, sampled: Sampled, base: Baselines) -> TasteFigures:
    champion = base.sampled_champion.replies if base.sampled_champion else None
    return taste.compared(score, judge.sampled_prompts(), sampled.replies, base.sampled_anchor.replies, champion)
