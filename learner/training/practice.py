"""Practice beyond what people said: replies are drawn, the reward orders them, and the LoRA trains on both, in rounds.

A pair teaches what its two replies differ in most. Once the LoRA has learned that, the pair has nothing more to say;
replies that the LoRA itself draws differ in what is still open. So each round draws anew. The reward never changes
within a night, and it is fitted to people's records alone. Knows nothing of gates, files or canaries.
"""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import torch
from peft import PeftModel

from learner import asking
from learner.training import preferences, reward, teachers
from learner.training.examples import Example, Tokens
from learner.training.generate import Decoding, replies
from learner.training.logprobs import Row
from learner.training.model import ChatRenderer, Weights, restore
from learner.training.preferences import Logps, OnStep, Rung, Trained, reply_logps_of
from learner.training.recipe import Recipe
from learner.training.replay import Kept
from learner.training.reward import Comparison, Features, Reward, Scale
from learner.training.taste import Score
from learner.training.teachers import Rules, Trust
from learner.training.trace import Trace

log = logging.getLogger(__name__)

TRUST_SEED = 0  # not the night's: the same records give everybody the same weight


@dataclass(frozen=True)
class Drawn:
    """Different replies to each of some prompts, and what the anchor makes of them."""

    rows: tuple[Row, ...]
    features: tuple[Features, ...]


@dataclass
class Practice:
    """Trains one night's LoRAs. `prompts` are those that replies are drawn to."""

    model: PeftModel
    renderer: ChatRenderer
    anchor: Weights
    recipe: Recipe
    prompts: Sequence[Tokens]
    seed: int
    scratch: str
    start: Weights | None = None  # where training starts; None: at the anchor
    _first: Drawn | None = None  # the anchor's own
    _features: dict[Row, Features] = field(default_factory=dict)
    _rewarded: tuple[Sequence[Example], Reward | None] | None = None  # the examples that were asked about last

    def train(
        self,
        examples: Sequence[Example],
        reference: Logps,
        recipe: Recipe,
        rate: float,
        on_step: OnStep,
        kept: Sequence[Kept] = (),
        trace: Trace | None = None,
    ) -> Trained:
        """Train on `examples` and on what their reward orders; without a reward on `examples` alone, in one round.

        `reference` are the anchor's log-probabilities of the examples' replies. All steps of all rounds together
        are those that `recipe` wants.
        """
        trace = trace or Trace()
        known = self.reward(examples)
        trace.note("reward", known and {"penalty": known.penalty, "gain": known.gain, "error": known.error})
        rounds = recipe.rounds if known and self._practises() else 1
        part, weights, steps, losses = recipe.part(rounds), self.start or self.anchor, 0, 0.0
        for number in range(rounds):
            pairs = self._ordered(known, self._drawn(weights, number)) if known and self._practises() else []
            restore(self.model, self.anchor)
            trace.round(rate, len(pairs))
            trained = preferences.train(
                self.model, self.renderer.tokenizer, [*examples, *pairs],
                [*reference, *reply_logps_of(self.model, pairs)], weights, part, Rung(rate, self.seed + number),
                self.scratch, partial(_part_done, on_step, number, rounds), kept, trace,
            )  # fmt: skip
            weights, steps, losses = trained.weights, steps + trained.steps, losses + trained.loss / rounds
        return Trained(weights, rate, steps, losses)

    def reward(self, examples: Sequence[Example]) -> Reward | None:
        """What `examples` tell of people's taste; None when there is too little or it contradicts itself."""
        if self._rewarded is None or self._rewarded[0] is not examples:
            self._rewarded = examples, self._fitted(examples)
        return self._rewarded[1]

    def _fitted(self, examples: Sequence[Example]) -> Reward | None:
        compared = self._compared(examples)
        if compared is None:
            return None
        known = reward.fit(*compared, self.seed)
        if known is None:
            log.info("%d examples give no reward", len(examples))
        else:
            log.info("reward: penalty %g, gain %.3f ± %.3f nats", known.penalty, known.gain, known.error)
        return known

    def score(self, examples: Sequence[Example]) -> Score | None:
        """What scores replies by the reward of `examples`; None where there is no reward."""
        known = self.reward(examples)
        return None if known is None else partial(self._scored, known)

    def asking(self, examples: Sequence[Example]) -> asking.Known | None:
        """What the reward of `examples` knows, for telling what to ask next; None where there is no reward."""
        known, compared = self.reward(examples), self._compared(examples)
        return None if known is None or compared is None else reward.kept(compared[0], known)

    def unseen(self, examples: Sequence[Example]) -> list[float]:
        """The log-odds of each of `examples` by rewards that saw nothing of its fold; zero for ties.

        What was said of several replies alike counts by their mean.
        """
        compared = self._compared(examples)
        margins = iter(reward.unseen(*compared, self.seed) if compared else ())
        wanted = [len(reward.comparisons([one], [self._features[one.prompt, one.replies]])) for one in examples]
        return [statistics.fmean(some) if (some := list(islice(margins, count))) else 0.0 for count in wanted]

    def _scored(self, known: Reward, rows: Sequence[Row]) -> list[float]:
        restore(self.model, self.anchor)
        return [float(known.scores(one)[0]) for one in reward.features(self.model, rows)]

    def trust(self, examples: Sequence[Example], rules: Rules) -> list[Trust]:
        """What the word of everybody who said something of `examples` counts: the same in every night."""
        if len({example.teacher for example in examples}) < 2:
            return teachers.trust(examples, None, TRUST_SEED, rules)
        self._look_at(examples)
        scale = Scale.of(torch.cat([self._features[one.prompt, one.replies] for one in examples]))
        return teachers.trust(examples, (self._rows(examples, scale), scale), TRUST_SEED, rules)

    def hanging(self, examples: Sequence[Example], owners: Collection[str], floor: float) -> list[str]:
        """Who of several teachers alone decides what the reward likes."""
        compared = self._compared(examples) if len({example.teacher for example in examples}) > 1 else None
        if compared is None:
            return []
        return teachers.hanging(*compared, self.seed, self._usual(examples), owners, floor)

    def _compared(self, examples: Sequence[Example]) -> tuple[list[Comparison], Scale] | None:
        """What `examples` say as the rows of a regression; None where they say nothing."""
        if all(example.kind == "tie" for example in examples):
            return None
        scale = Scale.of(self._usual(examples))
        return self._rows(examples, scale), scale

    def _usual(self, examples: Sequence[Example]) -> Features:
        """What replies are usually like: the anchor's own where some are drawn, else those that people judged."""
        self._look_at(examples)
        own = [self._features[one.prompt, one.replies] for one in examples]
        return torch.cat(list(self._drawn(self.anchor, 0).features) if self._practises() else own)

    def _practises(self) -> bool:
        return bool(self.recipe.drawn and self.prompts and self._drawn(self.anchor, 0).rows)

    def _rows(self, examples: Sequence[Example], scale: Scale) -> list[Comparison]:
        return reward.comparisons(examples, [scale(self._features[one.prompt, one.replies]) for one in examples])

    def _look_at(self, examples: Sequence[Example]) -> None:
        """Note the anchor's features of the examples' replies, once a night."""
        rows = dict.fromkeys((one.prompt, one.replies) for one in examples)
        new = [row for row in rows if row not in self._features]
        restore(self.model, self.anchor)
        self._features.update(zip(new, reward.features(self.model, new), strict=True))

    def _drawn(self, weights: Weights, number: int) -> Drawn:
        """Replies of `weights`; the anchor's are drawn once a night."""
        if weights is self.anchor:
            self._first = self._first or self._draw(self.anchor, 0)
            return self._first
        return self._draw(weights, number)

    def _draw(self, weights: Weights, number: int) -> Drawn:
        restore(self.model, weights)
        each = self.recipe.drawn_each
        prompts = [prompt for prompt in self.prompts for _ in range(each)]
        made = replies(self.model, self.renderer, prompts, Decoding(1.0, seed=self.seed + 1 + number))
        rows: list[Row] = []
        for place, prompt in enumerate(self.prompts):
            ended = (
                reply.tokens for reply in made[place * each : (place + 1) * each] if reply.ended and not reply.thought
            )
            different = tuple(dict.fromkeys(ended))
            if len(different) > 1:
                rows.append((prompt, different))
        restore(self.model, self.anchor)
        return Drawn(tuple(rows), tuple(reward.features(self.model, rows)))

    @staticmethod
    def _ordered(known: Reward, drawn: Drawn) -> list[Example]:
        """Of each prompt's replies the best and the worst, as a pair with its doubt."""
        pairs: list[Example] = []
        for (prompt, made), features in zip(drawn.rows, drawn.features, strict=True):
            scores = known.scores(features)
            best, worst = int(scores.argmax()), int(scores.argmin())
            doubt = 1 / (1 + math.exp(min(50.0, float(scores[best] - scores[worst]))))
            pairs.append(Example("drawn", prompt, (made[best], made[worst]), "", doubt=doubt))
        return pairs


def _part_done(on_step: OnStep, number: int, rounds: int, share: float) -> None:
    on_step((number + share) / rounds)
