"""Judges what people said by trainings that did not see it: each fold by a LoRA trained on the other folds.

So every record is evidence and every record trains: the candidate learns from all of them, and a night
of forty choices is judged by forty instead of by the few that could be spared. The folds show whether
what people said carries over to what they did not say; whether content holds is the canaries' part, so
a fold's training is short and replays nothing. Knows nothing of files or of how a LoRA is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from learner.training.evaluation import Evidence
from learner.training.model import Weights

TrainOn = Callable[[Sequence[int]], Weights]  # indices of examples -> the weights that they give


def cross_fitted(evidence: Evidence, folds: int, train: TrainOn) -> list[float]:
    """The margin of every example under weights trained without its fold, in the order of the examples.

    An example whose fold holds everything cannot be judged and gets the anchor's margin, zero; so does a tie,
    which is no evidence.
    """
    examples = evidence.examples
    found = [0.0] * len(examples)
    for fold in range(folds):
        inside = [i for i, example in enumerate(examples) if example.fold == fold and example.kind != "tie"]
        outside = [i for i, example in enumerate(examples) if example.fold != fold]
        if not inside or not outside:
            continue
        for i, margin in zip(inside, evidence.margins(train(outside), inside), strict=True):
            found[i] = margin
    return found
