"""Judges what people said by trainings that did not see it: each fold by a LoRA trained on the other folds.

So every record is evidence and every record trains: the candidate learns from all of them, and a night
of forty choices is judged by forty instead of by the few that could be spared. The folds show whether
what people said carries over to what they did not say; whether content holds is the canaries' part, so
a fold's training is short and replays nothing. Knows nothing of files or of how a LoRA is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from learner.training.evaluation import Heard, Judge, margins
from learner.training.examples import Example
from learner.training.model import Weights
from learner.training.preferences import Logps

TrainOn = Callable[[Sequence[int]], Weights]  # indices of examples -> the weights that they give


def cross_fitted(
    judge: Judge,
    examples: Sequence[Example],
    anchor: Logps,
    folds: int,
    train: TrainOn,
    typical: Callable[[Weights], float],
) -> list[float]:
    """The margin of every example under weights trained without its fold, in the order of `examples`.

    `typical` gives the mean log-ratio of the anchor's own replies under some weights, see `Heard`. An
    example whose fold holds everything cannot be judged and gets the anchor's margin, zero.
    """
    found = [0.0] * len(examples)
    for fold in range(folds):
        inside = [i for i, example in enumerate(examples) if example.fold == fold]
        outside = [i for i, example in enumerate(examples) if example.fold != fold]
        if not inside or not outside:
            continue
        weights = train(outside)
        left = [examples[i] for i in inside]
        heard = Heard(judge.logps(weights, left), typical(weights))
        judged = margins(left, heard, [anchor[i] for i in inside], judge.recipe.beta)
        for i, margin in zip(inside, judged, strict=True):
            found[i] = margin
    return found
