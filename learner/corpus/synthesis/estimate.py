"""What a run will take before it is begun: calls, tokens and money. Makes no call.

Knows nothing of endpoints. Where a journal has answers of a kind, their own lengths are taken instead of a guess.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from learner.corpus.dialogues import Dialogue
from learner.corpus.synthesis.character import Character
from learner.corpus.synthesis.journal import Entry
from learner.corpus.synthesis.restyle import Style, question_before, restyled_indices
from learner.corpus.synthesis.spending import Prices
from learner.corpus.synthesis.topics import PER_ROUND
from learner.corpus.synthesis.wire import Ask, estimated_tokens, prompt_tokens

ENOUGH = 5  # answers of a kind from which their mean is better than a guess
TOPIC = "a topic of some words"
GUESSED = {"profile": 350, "topics": PER_ROUND * 12}  # tokens of an answer
PER_MESSAGE = 40  # tokens, of a dialogue's


@dataclass(frozen=True)
class Part:
    """Calls of one kind: how many in all, how many are in the journal, tokens of one question and one answer."""

    kind: str
    calls: int
    answered: int
    tokens_in: float
    tokens_out: float

    @property
    def left(self) -> int:
        """Calls that are still to be made."""
        return max(0, self.calls - self.answered)


@dataclass(frozen=True)
class Estimate:
    """All parts. Answers that turn out unfit are replaced by further calls, which no estimate knows."""

    parts: tuple[Part, ...]

    @property
    def calls(self) -> int:
        """Calls that are still to be made."""
        return sum(part.left for part in self.parts)

    @property
    def tokens(self) -> tuple[int, int]:
        """Tokens of their questions, and of their answers."""
        return (
            round(sum(part.left * part.tokens_in for part in self.parts)),
            round(sum(part.left * part.tokens_out for part in self.parts)),
        )

    def cost(self, prices: Prices) -> float:
        """What they will cost."""
        return prices.cost(*self.tokens)


def of_character(character: Character, wanted: int, with_profile: Ask | None, own_topics: bool) -> list[Part]:
    """The parts of a character's dialogues; `with_profile` is the question for its profile, if that is asked."""
    parts = [] if with_profile is None else [_part("profile", 1, [with_profile], GUESSED["profile"])]
    variety = character.variety
    if not own_topics:
        rounds = math.ceil(math.ceil(wanted / variety.per_topic) / PER_ROUND)
        parts.append(_part("topics", rounds, [character.for_topics(TOPIC * 4, 0)], GUESSED["topics"]))
    asks = [character.for_dialogue(index, TOPIC) for index in range(min(wanted, 20))]
    return [*parts, _part("dialogue", wanted, asks, _dialogue_tokens(variety.rounds))]


def of_style(style: Style, wanted: int, own_topics: bool) -> list[Part]:
    """The parts of restyled dialogues that are made from nothing."""
    variety, parts = style.variety, []
    if not own_topics:
        rounds = math.ceil(math.ceil(wanted / variety.per_topic) / PER_ROUND)
        parts.append(_part("topics", rounds, [style.for_topics(TOPIC * 4, 0)], GUESSED["topics"]))
    asks = [style.for_dialogue(index, TOPIC) for index in range(min(wanted, 20))]
    answers = round(wanted * sum(variety.rounds) / 2)
    question, answer = "x" * 40, "x" * 3 * 2 * PER_MESSAGE
    restyled = _part("restyle", answers, [style.for_answer(question, answer, 0)], 2.5 * PER_MESSAGE)
    return [*parts, _part("dialogue", wanted, asks, _dialogue_tokens(variety.rounds)), restyled]


def of_dialogues(style: Style, dialogues: Sequence[Dialogue]) -> list[Part]:
    """The parts of restyling these."""
    asks: list[Ask] = []
    lengths: list[int] = []
    for dialogue in dialogues:
        for index in restyled_indices(dialogue):
            answer = dialogue.messages[index].content
            asks.append(style.for_answer(question_before(dialogue, index), answer, 0))
            lengths.append(estimated_tokens(answer))
    return [_part("restyle", len(asks), asks, 1.3 * sum(lengths) / max(1, len(lengths)) + 10)]


def with_journal(parts: Iterable[Part], entries: Sequence[Entry]) -> Estimate:
    """The estimate where these answers are there already."""
    told: list[Part] = []
    for part in parts:
        mine = [one.answer for one in entries if one.kind == part.kind and one.answer is not None]
        tokens_in, tokens_out = part.tokens_in, part.tokens_out
        if len(mine) >= ENOUGH:
            tokens_in = sum(one.prompt_tokens for one in mine) / len(mine)
            tokens_out = sum(one.completion_tokens for one in mine) / len(mine)
        told.append(Part(part.kind, part.calls, min(part.calls, len(mine)), tokens_in, tokens_out))
    return Estimate(tuple(told))


def _part(kind: str, calls: int, asks: Sequence[Ask], tokens_out: float) -> Part:
    return Part(kind, calls, 0, sum(map(prompt_tokens, asks)) / max(1, len(asks)), tokens_out)


def _dialogue_tokens(rounds: tuple[int, int]) -> float:
    return sum(rounds) * PER_MESSAGE + 20
