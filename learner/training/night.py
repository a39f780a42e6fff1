"""The night itself: load, train up or down the ladder, judge, write the LoRA.

Knows nothing of processes, progress bars or where a LoRA is published.
"""

from __future__ import annotations

import dataclasses
import logging
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from peft import get_peft_model
from transformers import set_seed

from learner import gate, lora_folder, threads
from learner.engine.fingerprint import fingerprint
from learner.figures import GateFigures, PreferenceFigures
from learner.frozen import Frozen
from learner.gate import Check
from learner.training import evaluation, examples, frozen_linear, ladder, model, private, teachers
from learner.training.canaries import Canary, CanaryFigures
from learner.training.continuing import Portion, portion
from learner.training.evaluation import Baselines, Judge, Sampled
from learner.training.examples import Tokens
from learner.training.generate import Decoding, replies
from learner.training.ladder import Tried
from learner.training.model import ChatRenderer, ModelSource, Weights
from learner.training.outcome import Evidence, Outcome, faults_of, told
from learner.training.practice import Practice
from learner.training.preferences import Trained
from learner.training.replay import Kept, keep
from learner.training.samples import asked, before_and_after
from learner.training.teachers import Rules, Trust, weighed
from learner.training.trace import Trace

log = logging.getLogger(__name__)

BASELINE_SHARE = 0.15  # of the time that training takes, for measuring the anchor before it
OnProgress = Callable[[Any, float, str], None]


class Night:
    """One night's model, LoRA, examples and judge."""

    def __init__(self, frozen: Frozen, scratch: str, progress: OnProgress, trace: Trace | None = None) -> None:
        self.trace = trace or Trace()
        self.portion = _portion(frozen)
        self.numbers = private.numbers(self.portion.records)
        frozen = dataclasses.replace(frozen, records=private.discreet(self.portion.records, self.numbers))
        self.trace.note("learned", told(frozen.records) | {"rested": self.portion.rested})
        self.frozen, self.request, self.scratch, self.progress = frozen, frozen.request, scratch, progress
        with self.trace.phase("load"):
            self._load()
        recipe = self.request.recipe
        self.examples = examples.build(
            frozen.records, self.renderer, recipe.room(self.parameters), recipe.folds, recipe.half_life
        )
        self.judge = self._new_judge()
        self.practice = Practice(
            self.model, self.renderer, self.anchor, recipe, self._free_prompts(recipe.drawn),
            self.request.seed, self.scratch, self.champion if self.portion.continues else None,
        )  # fmt: skip
        log.info("examples: %s cut: %s", self.examples.counts(), self.examples.cut)

    def _new_judge(self) -> Judge:
        request = self.request
        return Judge(
            self.model, self.renderer, self.examples.all, self.frozen.canaries,
            request.gate, request.recipe, request.seed, self.frozen.records,
        )  # fmt: skip

    def _load(self) -> None:
        request = self.request
        began = lora_folder.read(Path(request.anchor)) if request.anchor else None
        template = began.template if began and began.template and request.template == "auto" else request.template
        source = ModelSource(request.model, request.device, request.dtype, request.quantisation, template)
        self.progress("load", 0.5, "loading the model")
        base = model.load_base(source)
        self.renderer = ChatRenderer.load(source, base)
        self.parameters = sum(parameter.numel() for parameter in base.parameters())
        threads.settle(request.threads, self.parameters)
        self.shape = self._shape(base)
        self.config = model.lora_config(base, self.shape.rank, self.shape.alpha, self.shape.target_modules)
        set_seed(request.seed)
        frozen_linear.install(base)
        self.model = get_peft_model(base, self.config)
        self.model.eval()
        self.anchor = model.read_weights(Path(request.anchor)) if request.anchor else model.snapshot(self.model)
        self.champion = self._folder(request.champion)
        self.progress("load", 1.0, "model loaded")

    def _shape(self, base: Any) -> lora_folder.Shape:
        """What this night's LoRA is like: as the anchor, where there is one, else as the recipe says."""
        request, recipe, named = self.request, self.request.recipe, fingerprint(self.request.model)
        if request.anchor is None:
            return lora_folder.Shape(named, recipe.rank, recipe.alpha, tuple(model.linear_names(base)))
        shape = lora_folder.check_anchor(Path(request.anchor), named)
        return dataclasses.replace(shape, anchor=lora_folder.anchor_id(Path(request.anchor)))

    def _folder(self, folder: str | None) -> Weights | None:
        """The weights of a LoRA that must fit as if it were to be published."""
        if folder is None:
            return None
        lora_folder.check(Path(folder), self.shape)
        return model.read_weights(Path(folder))

    def judged(self) -> Outcome:
        """Train and judge. Too little to train on or to judge by is a refusal, not an error."""
        records = self.frozen.records
        counts = {"pairs": len(records.pairs), "ratings": len(records.ratings), "tied": len(records.tied)}
        counts |= {"rested": self.portion.rested} if self.portion.continues else {}
        counts |= {f"cut_{name}": count for name, count in self.examples.cut.items()}
        self.progress("train", 0.0, "judging what people said")
        with self.trace.phase("evidence"):
            evidence = self.evidence()
        counts |= {"distrusted": evidence.distrusted} if evidence.trusted else {}
        if not all(check.held for check in evidence.checks):
            return self._refused(counts, evidence.checks, evidence.trusted)
        with self.trace.phase("baselines"):
            base = self.baselines()
        with self.trace.phase("training"):
            pick, tried = self.climbed(base)
        self.progress("gate", 0.0, "judging")
        with self.trace.phase("judging"):
            figures, checks = self.stands(pick.weights, pick.canary, base, evidence, pick.sampled)
            self._compare(pick.weights)
        rate, faults = pick.trained.learning_rate, faults_of(checks)
        return Outcome(
            pick.weights, rate, pick.share, tuple(tried), figures, counts, faults, checks, evidence.trusted
        )  # fmt: skip

    def evidence(self) -> Evidence:
        """Judge what people said by rewards that did not see it, each by what their word counts."""
        given = self._enough()
        if not given.held:
            return Evidence((given,))
        trusted, distrusted = self._weigh()
        given = self._enough(contradicted=True)
        if not given.held:
            return Evidence((given,), trusted, distrusted)
        preference = self._preference()
        split = gate.split(teachers.dissent(trusted), self.request.gate)
        said = (*gate.preference_checks(preference, self.request.gate), split, self._hanging())
        return Evidence(said, trusted, distrusted, preference)

    def baselines(self) -> Baselines:
        """Measure the anchor and the champion."""
        return evaluation.baselines(self.judge, self.anchor, self.champion)

    def stands(
        self,
        weights: Weights,
        canary: CanaryFigures,
        base: Baselines,
        evidence: Evidence,
        sampled: Sampled | None = None,
    ) -> tuple[GateFigures, tuple[Check, ...]]:
        """Every figure of a candidate whose greedy canaries are `canary`, and how it stands to what the gate asks."""
        assert evidence.preference is not None
        score = self.practice.score(self.examples.all)
        figures = evaluation.measure(self.judge, weights, base, canary, evidence.preference, score, sampled)
        return figures, (*gate.checks(figures, self.request.gate), *evidence.checks[-2:])

    def _refused(self, counts: dict[str, int], checks: Sequence[Check], trusted: tuple[Trust, ...] = ()) -> Outcome:
        """Nothing is trained on what would be refused whatever came of it."""
        return Outcome(self.anchor, 0.0, 0.0, (), None, counts, faults_of(checks), tuple(checks), trusted)

    def write(self, folder: Path, outcome: Outcome) -> None:
        """Write the LoRA's own files."""
        model.write(folder, outcome.weights, self.config, self.request.model)
        if outcome.published and (known := self.practice.asking(self.examples.all)):
            known.save(folder)

    def _compare(self, weights: Weights) -> None:
        """Note what whoever spoke before says to people's prompts, and what `weights` say."""
        before = self.champion or self.anchor
        prompts = asked(self.frozen.records, self.examples.all)
        self.trace.samples(self.champion is not None, before_and_after(self.judge, prompts, before, weights))

    def _enough(self, contradicted: bool = False) -> Check:
        return gate.enough(
            sum(self.examples.counts().values()), max(1, self.request.gate.min_judged), contradicted=contradicted
        )

    def _weigh(self) -> tuple[tuple[Trust, ...], int]:
        """Give every example its teacher's weight, leave out what counts nothing, and say who counts what."""
        recipe, owners, every = self.request.recipe, frozenset(self.request.owners), self.examples.all
        rules = Rules(owners, recipe.quarantine, recipe.quarantine_weight)
        trusted = tuple(self.practice.trust(every, rules))
        kept = tuple(weighed(every, trusted, owners))
        if kept != every:
            self.examples = dataclasses.replace(self.examples, all=kept)
            self.judge = self._new_judge()
        log.info("teachers: %s; %d of %d examples count nothing", Counter(one.state for one in trusted),
                 len(every) - len(kept), len(every))  # fmt: skip
        return trusted, len(every) - len(kept)

    def _hanging(self) -> Check:
        least = self.request.gate.without_one
        return gate.hanging(self.practice.hanging(self.examples.all, self.request.owners, least))

    def climbed(self, base: Baselines) -> tuple[Tried, list[Tried]]:
        """Train, and walk back until the canaries hold: the pick, and all that was tried."""
        recipe = self.request.recipe
        reference = self.judge.logps(self.anchor, self.examples.all)
        model.restore(self.model, self.anchor)
        kept = self._replayed()
        rates = recipe.ladder(self.parameters)
        rungs: list[float] = []

        def on_step(share: float) -> None:
            done = BASELINE_SHARE + (1 - BASELINE_SHARE) * (len(rungs) - 1 + share) / len(rates)
            self.progress("train", done, f"learning rate {rungs[-1]:g}")

        def train(rate: float) -> Trained:
            rungs.append(rate)
            return self.practice.train(self.examples.all, reference, recipe, rate, on_step, kept, self.trace)

        def try_share(trained: Trained, share: float) -> Tried:
            weights = model.between(self.anchor, trained.weights, share)
            canary, sampled = self.judge.canary(weights), None
            holds = gate.canaries_hold(canary, base.canary_anchor, base.canary_champion, recipe.canary_drop)
            if holds:
                sampled = self.judge.sampled(weights)
                drop = recipe.sampled_within * self.request.gate.sampled_drop
                holds = gate.samples_hold(sampled.figures, base.sampled_anchor.figures, drop)
            log.info("rate %g, share %g: canaries %.4f, holds %s", trained.learning_rate, share, canary.right, holds)
            return Tried(trained, share, weights, canary, holds, sampled)

        return ladder.climb(rates, recipe.shares, train, try_share, recipe.start(self.parameters))

    def _preference(self) -> PreferenceFigures:
        """Judge what people said by rewards that did not see it."""
        every = self.examples.all
        return evaluation.preference(every, self.practice.unseen(every), self.request.recipe.rating_weight)

    def _free_prompts(self, count: int) -> list[Tokens]:
        """So many of what people said and of canaries that the judge does not ask.

        None that holds a private number, which the anchor's reply might repeat.
        """
        recipe, judged = self.request.recipe, set(self.judge.canary_prompts)
        spare = [prompt for prompt in map(self._canary_prompt, self.frozen.canaries) if prompt not in judged]
        said = [example.prompt for example in self.examples.all if not self._has_number(example.prompt)]
        every = list(dict.fromkeys([*said, *spare]))
        prompts = [prompt for prompt in every if len(prompt) <= recipe.replay_tokens] or every
        return prompts if len(prompts) <= count else random.Random(self.request.seed).sample(prompts, count)

    def _replayed(self) -> list[Kept]:
        """The anchor's own replies to other prompts, and its odds along them."""
        recipe = self.request.recipe
        prompts = self._free_prompts(recipe.replay) if recipe.replay_weight else []
        made = replies(self.model, self.renderer, prompts, Decoding(1.0, seed=self.request.seed))
        return keep(self.model, [(prompt, (reply.tokens,)) for prompt, reply in zip(prompts, made, strict=True)])

    def _has_number(self, prompt: Tokens) -> bool:
        return bool(self.numbers) and private.tells(self.renderer.text(prompt), self.numbers)

    def _canary_prompt(self, canary: Canary) -> Tokens:
        return self.renderer.prompt(canary.prompt)


def _portion(frozen: Frozen) -> Portion:
    """What this night trains on; from the champion on when there are too many records to begin anew with."""
    request, recipe = frozen.request, frozen.request.recipe
    champion = lora_folder.read(Path(request.champion)) if request.champion else None
    # Chats of their own begin anew even where the common LoRA is their champion: what it learned is not theirs.
    own = champion is not None and champion.scope == request.scope
    learned = champion.records.get("exchanges") if champion is not None and own else None
    return portion(frozen.records, learned, recipe.whole_until, recipe.portion, request.seed)
