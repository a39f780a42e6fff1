"""Turns preference records into token rows, exactly as the model saw and made them.

Knows nothing of torch, losses or where the records come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from learner.engine.base import ChatMessage
from learner.records import PreferencePair, PreferenceRecords, RatedReply, fold_of

Tokens = tuple[int, ...]
Kind = Literal["pair", "good", "bad", "drawn", "tie"]
DAY = 86400.0


class PromptRenderer(Protocol):
    """What turns messages into tokens."""

    def prompt(self, messages: Sequence[ChatMessage]) -> Tokens: ...


class Renderer(Protocol):
    """What turns messages and texts into tokens: the model's tokenizer and chat template."""

    def prompt(self, messages: Sequence[ChatMessage]) -> Tokens: ...

    def reply(self, text: str) -> Tokens:
        """Tokens of a reply that ends itself, the end token included."""
        ...


@dataclass(frozen=True)
class Example:
    """One record as tokens: (chosen, rejected) of a pair, or the replies that were rated alike.

    Both replies of an offer that was answered "both bad" are one example: they share their prompt.
    `fold` is the part of the records that it is judged with. A "drawn" pair is nobody's record: the anchor drew
    both replies, the reward ordered them, and `doubt` is the probability that it did so wrongly; of a "pair" it
    is the probability that its teacher meant the opposite. The replies of a "tie" were called equally good. `weight`
    is how much the example counts beside others, by its age and by who said it; `side` is where the chosen reply
    of a choice was shown, `expected` where the better one was if that was known before it was asked.
    """

    kind: Kind
    prompt: Tokens
    replies: tuple[Tokens, ...]
    exchange: str
    fold: int = 0
    doubt: float = 0.0
    teacher: str = ""
    weight: float = 1.0
    side: Literal[1, 2] | None = None
    expected: Literal[1, 2] | None = None


@dataclass(frozen=True)
class Examples:
    """What there is to learn from, and how often a text had to be cut."""

    all: tuple[Example, ...]
    cut: dict[str, int] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """How many examples of each kind there are."""
        return {kind: sum(example.kind == kind for example in self.all) for kind in ("pair", "good", "bad")}


def build(
    records: PreferenceRecords, renderer: Renderer, max_tokens: int, folds: int, half_life: float = 0.0
) -> Examples:
    """Tokenise `records`, cut what does not fit, and say which fold each is judged with and how much it counts.

    With a `half_life` in days a record counts half for each that it is older than the newest record.
    """
    built: list[Example] = []
    cut = {"prompts": 0, "replies": 0}
    everything: list[PreferencePair | RatedReply] = [*records.pairs, *records.ratings, *records.tied]
    newest = max((record.provenance.created_at for record in everything), default=0.0)
    for record in everything:
        example = _fitted(_example(record, renderer), record, renderer, max_tokens, cut)
        weight = _aged(newest - record.provenance.created_at, half_life)
        built.append(replace(example, fold=fold_of(record, folds), weight=weight))
    return Examples(_merged(built), cut)


def _merged(examples: Sequence[Example]) -> tuple[Example, ...]:
    """Join one teacher's ratings of one exchange and kind, where their prompts are the same."""
    found: dict[object, Example] = {}
    for number, example in enumerate(examples):
        rated = example.kind in ("good", "bad")
        key = (example.kind, example.exchange, example.prompt, example.teacher) if rated else number
        if key in found:
            example = replace(example, replies=(*found[key].replies, *example.replies))
        found[key] = example
    return tuple(found.values())


def _example(record: PreferencePair | RatedReply, renderer: Renderer) -> Example:
    prompt, told = record.prompt_ids or renderer.prompt(record.prompt), record.provenance
    if isinstance(record, PreferencePair):
        chosen = record.chosen_ids or renderer.reply(record.chosen)
        rejected = record.rejected_ids or renderer.reply(record.rejected)
        kind: Kind = "tie" if record.source == "tie" else "pair"
        return Example(
            kind, prompt, (chosen, rejected), told.exchange, teacher=told.teacher,
            side=record.chosen_side, expected=record.expected_side,
        )  # fmt: skip
    reply = record.completion_ids or renderer.reply(record.completion)
    return Example("good" if record.desirable else "bad", prompt, (reply,), told.exchange, teacher=told.teacher)


def _aged(seconds: float, half_life: float) -> float:
    return 0.5 ** (seconds / DAY / half_life) if half_life else 1.0


def _fitted(
    example: Example,
    record: PreferencePair | RatedReply,
    renderer: Renderer,
    max_tokens: int,
    cut: dict[str, int],
) -> Example:
    """Cut replies to half of the room and then the prompt's oldest turns, and count both."""
    replies = tuple(reply[: max_tokens // 2] for reply in example.replies)
    cut["replies"] += replies != example.replies
    room = max_tokens - max(map(len, replies))
    if len(example.prompt) <= room:
        return replace(example, replies=replies)
    cut["prompts"] += 1
    return replace(example, prompt=shorter(record.prompt, renderer, room), replies=replies)


def shorter(prompt: Sequence[ChatMessage], renderer: PromptRenderer, room: int) -> Tokens:
    """The newest of `prompt` in at most `room` tokens.

    Whole turns are dropped from the oldest on (never the system's or the last), then tokens.
    """
    system = [message for message in prompt if message.role == "system"]
    turns = [message for message in prompt if message.role != "system"]
    tokens = renderer.prompt([*system, *turns])
    while len(tokens) > room and len(turns) > 1:
        del turns[0]
        if turns[0].role == "assistant" and len(turns) > 1:
            del turns[0]
        tokens = renderer.prompt([*system, *turns])
    return tokens[-room:]
