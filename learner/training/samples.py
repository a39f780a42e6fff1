"""Before and after: what two LoRAs answer to the same prompts, which people wrote.

Knows nothing of how a LoRA is trained or of where the samples are shown.
"""

from __future__ import annotations

from collections.abc import Sequence

from learner.engine.base import ChatMessage
from learner.records import PreferencePair, PreferenceRecords, RatedReply
from learner.training.evaluation import Judge
from learner.training.examples import Example, Tokens
from learner.training.model import Weights, restore
from learner.training.trace import Sample

SAMPLES = 10
PROMPT_CHARS, REPLY_CHARS = 120, 400


def asked(records: PreferenceRecords, examples: Sequence[Example]) -> dict[str, Tokens]:
    """The newest different things that people asked, each with the tokens that it was learned with."""
    tokens = {example.exchange: example.prompt for example in examples}
    found: dict[str, Tokens] = {}
    told: list[PreferencePair | RatedReply] = [*records.pairs, *records.ratings]
    for record in sorted(told, key=lambda record: -record.provenance.created_at):
        text, prompt = shortened(_last_words(record.prompt), PROMPT_CHARS), tokens.get(record.provenance.exchange)
        if text and prompt and len(found) < SAMPLES:
            found.setdefault(text, prompt)
    return found


def before_and_after(judge: Judge, prompts: dict[str, Tokens], before: Weights, after: Weights) -> list[Sample]:
    """The replies of both, drawn with the judge's settings and seed."""
    old, new = (_replies(judge, weights, list(prompts.values())) for weights in (before, after))
    return [Sample(*texts) for texts in zip(prompts, old, new, strict=True)]


def shortened(text: str, most: int) -> str:
    """`text` on one line, cut where it is longer than `most` characters, without what no file can hold."""
    line = " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def _replies(judge: Judge, weights: Weights, prompts: Sequence[Tokens]) -> list[str]:
    restore(judge.model, weights)
    return [shortened(reply.text, REPLY_CHARS) for reply in judge.drawn(prompts)]


def _last_words(prompt: Sequence[ChatMessage]) -> str:
    """What the person said last."""
    return next((message.content for message in reversed(prompt) if message.role == "user"), "")
