"""Dialogues whose answers are said in another style; the questions stay byte for byte what they were.

Knows nothing of endpoints, journals or files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from learner.corpus.dialogues import Dialogue
from learner.corpus.synthesis import checking
from learner.corpus.synthesis.calls import Calls
from learner.corpus.synthesis.character import Variety, scene
from learner.corpus.synthesis.checking import Restyled, Talk, Unfit
from learner.corpus.synthesis.errors import ItemFailed
from learner.corpus.synthesis.harvest import Harvest, Made, Rejected, letters_in
from learner.corpus.synthesis.near import plain
from learner.corpus.synthesis.ordered import in_order
from learner.corpus.synthesis.prompts import Prompts
from learner.corpus.synthesis.topics import PER_ROUND, Topics
from learner.corpus.synthesis.wire import Ask, Drawing
from learner.engine.base import ChatMessage

TRIES = 3
LENGTHS = (0.2, 8.0)  # a restyled answer as a share of the plain one's length, of answers that are not short
SHORT = 20  # characters


@dataclass(frozen=True)
class Style:
    """A style in words, and how it is asked for."""

    style: str
    prompts: Prompts
    drawing: Drawing
    variety: Variety

    def for_topics(self, avoid: str, number: int) -> Ask:
        """The question for more topics."""
        text = self.prompts.fill("plain_topics", count=PER_ROUND, avoid=avoid)
        return Ask("topics", number, (ChatMessage("user", text),), self.drawing)

    def for_dialogue(self, index: int, topic: str) -> Ask:
        """The question for the plain dialogue number `index`."""
        shown = scene(self.variety, self.prompts.lines("plain_angles"), index)
        text = self.prompts.fill("plain_dialogue", topic=topic, angle=shown.angle, rounds=shown.rounds)
        return Ask("dialogue", index, (ChatMessage("user", text),), self.drawing)

    def for_answer(self, question: str, answer: str, attempt: int) -> Ask:
        """The question for one answer in the style; the same for the same question and answer."""
        text = self.prompts.fill("restyle", style=self.style, question=question or "-", answer=answer)
        return Ask("restyle", attempt, (ChatMessage("user", text),), self.drawing)


def restyled_indices(dialogue: Dialogue) -> tuple[int, ...]:
    """The answers that are to be said otherwise: those that train."""
    if dialogue.learned is not None:
        return dialogue.learned
    return tuple(i for i, one in enumerate(dialogue.messages) if one.role == "assistant" and one.content.strip())


def question_before(dialogue: Dialogue, index: int) -> str:
    """What the answer at `index` replies to; empty when it opens the dialogue."""
    earlier = [one.content for one in dialogue.messages[:index] if one.role == "user"]
    return earlier[-1] if earlier else ""


async def restyle(style: Style, dialogue: Dialogue, calls: Calls) -> Made | Rejected:
    """`dialogue` with its answers in the style, or why not; never a dialogue in which some are and some are not."""
    indices = restyled_indices(dialogue)
    topic = str(dialogue.about.get("topic", ""))
    if not indices:
        return Rejected("restyle", "nothing to restyle", "no answer of the assistant", text_of(dialogue), topic)
    answers = await asyncio.gather(*(_one(style, dialogue, i, calls) for i in indices), return_exceptions=True)
    messages = list(dialogue.messages)
    for index, answer in zip(indices, answers, strict=True):
        if isinstance(answer, Unfit | ItemFailed):
            return Rejected("restyle", answer.reason, answer.detail, text_of(dialogue), topic)
        if isinstance(answer, BaseException):
            raise answer
        messages[index] = ChatMessage("assistant", answer)
    about = dialogue.about | {"style": style.style}
    source = dialogue.source or f"restyle:{style.style}"
    made = replace(dialogue, messages=tuple(messages), source=source, about=about)
    return Made(made, text_of(made))


async def _one(style: Style, dialogue: Dialogue, index: int, calls: Calls) -> str:
    """One answer in the style. Raises Unfit after so many tries, ItemFailed, SynthesisError."""
    plain_answer, question = dialogue.messages[index].content, question_before(dialogue, index)
    for attempt in range(TRIES):
        answer = await calls.ask(style.for_answer(question, plain_answer, attempt))
        try:
            said = checking.read(Restyled, answer).answer
            _compare(plain_answer, said)
            return said
        except Unfit:
            if attempt == TRIES - 1:
                raise
    raise AssertionError("unreachable")


def _compare(before: str, after: str) -> None:
    if plain(before) == plain(after):
        raise Unfit("unchanged", "the answer is what it was")
    share = len(after) / max(1, len(before))
    if len(before) >= SHORT and not LENGTHS[0] <= share <= LENGTHS[1]:
        raise Unfit("wrong length", f"{len(after)} characters from {len(before)}")


async def make(style: Style, calls: Calls, topics: Topics, plainly: Harvest, styled: Harvest, window: int) -> None:
    """Fill `styled` from nothing: topics, dialogues into `plainly`, then their answers restyled.

    Questions that are nearly the same are dropped before anything is paid for their answers. Raises SynthesisError.
    """

    async def one(index: int) -> Made | Rejected:
        topic = await topics.topic(index // style.variety.per_topic)
        text = ""
        try:
            answer = await calls.ask(style.for_dialogue(index, topic))
            text = answer.text
            messages = checking.messages(checking.read(Talk, answer))
            checking.forbid(messages, style.prompts.lines("outside"))
            dialogue = Dialogue(messages, f"restyle:{style.style}", about={"topic": topic, "number": index})
            if not letters_in(dialogue):
                raise Unfit("empty", "nobody says a word")
        except (Unfit, ItemFailed) as failed:
            return Rejected("dialogue", failed.reason, failed.detail, text, topic)
        return Made(dialogue, "\n".join(one.content for one in messages if one.role == "user"))

    tried = 0
    while styled.more():
        plainly.wanted = len(plainly.made) + styled.more()
        await in_order(one, plainly.take, plainly.more, window, plainly.taken)
        await make_from(style, plainly.made[tried:], calls, styled, window)
        tried = len(plainly.made)


async def make_from(style: Style, dialogues: Sequence[Dialogue], calls: Calls, styled: Harvest, window: int) -> None:
    """Fill `styled` from these dialogues, each of which is tried once. Raises SynthesisError."""
    first = styled.taken

    async def one(index: int) -> Made | Rejected:
        return await restyle(style, dialogues[index - first], calls)

    await in_order(one, styled.take, lambda: len(dialogues) - (styled.taken - first), window, first)


def text_of(dialogue: Dialogue) -> str:
    """All that is said, without the system message."""
    return "\n".join(one.content for one in dialogue.messages if one.role != "system")
