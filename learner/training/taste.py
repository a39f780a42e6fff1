"""Whether what a LoRA says pleases more, by the reward: its own replies beside others' to the same prompts.

Log-losses on records cannot tell whether a new LoRA is better than the one that speaks: that one is a whole
night's training, those that judge unseen records are parts of one. Knows nothing of models or of how replies are made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from learner.figures import TasteFigures, mean_and_error
from learner.training.canaries import Reply
from learner.training.examples import Tokens
from learner.training.logprobs import Row

Score = Callable[[Sequence[Row]], list[float]]  # rows of one reply each -> the reward's score of each


def compared(
    score: Score,
    prompts: Sequence[Tokens],
    own: Sequence[Reply],
    anchor: Sequence[Reply],
    champion: Sequence[Reply] | None,
) -> TasteFigures:
    """How much more the reward likes `own` than the others' replies, prompt by prompt."""
    mine, theirs = (score(_rows(prompts, made)) for made in (own, anchor))
    better = [a - b for a, b in zip(mine, theirs, strict=True)]
    wins = sum(0.5 if not one else float(one > 0) for one in better) / max(1, len(better))
    over_anchor, anchor_error = mean_and_error(better)
    if champion is None:
        return TasteFigures(len(better), wins, over_anchor, anchor_error)
    before = score(_rows(prompts, champion))
    over_champion, champion_error = mean_and_error([a - b for a, b in zip(mine, before, strict=True)])
    return TasteFigures(len(better), wins, over_anchor, anchor_error, over_champion, champion_error)


def _rows(prompts: Sequence[Tokens], made: Sequence[Reply]) -> list[Row]:
    return [(prompt, (reply.tokens,)) for prompt, reply in zip(prompts, made, strict=True)]
