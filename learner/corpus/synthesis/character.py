"""Dialogues of a character, from nothing but its name: topics, then a conversation for each, checked.

Knows nothing of endpoints, journals or files.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from learner.corpus.dialogues import Dialogue
from learner.corpus.synthesis import checking
from learner.corpus.synthesis.calls import Calls
from learner.corpus.synthesis.checking import Talk, Unfit
from learner.corpus.synthesis.errors import ItemFailed
from learner.corpus.synthesis.harvest import Harvest, Made, Rejected, letters_in
from learner.corpus.synthesis.ordered import in_order
from learner.corpus.synthesis.profile import Profile
from learner.corpus.synthesis.prompts import Prompts
from learner.corpus.synthesis.topics import PER_ROUND, Topics
from learner.corpus.synthesis.wire import Ask, Drawing
from learner.engine.base import ChatMessage


@dataclass(frozen=True)
class Variety:
    """How dialogues differ: rounds from fewest to most, how often the character speaks first, dialogues a topic."""

    rounds: tuple[int, int] = (2, 5)
    speaks_first: float = 0.5
    per_topic: int = 4
    seed: int = 0


@dataclass(frozen=True)
class Scene:
    """What is drawn for one dialogue, by its number alone."""

    topic: int
    angle: str
    rounds: int
    character_opens: bool


def scene(variety: Variety, angles: tuple[str, ...], index: int) -> Scene:
    """Scene number `index`: the same in every run with the same seed; one topic's have different angles."""
    topic, nth = divmod(index, variety.per_topic)
    order = random.Random(f"{variety.seed}:{topic}").sample(angles, len(angles))
    drawn = random.Random(f"{variety.seed}:{topic}:{nth}")
    opens = drawn.random() < variety.speaks_first
    return Scene(topic, order[nth % len(order)], drawn.randint(*variety.rounds), opens)


@dataclass(frozen=True)
class Character:
    """A character and how it is asked for. `system` is the system message of its dialogues; "": none."""

    profile: Profile
    system: str
    prompts: Prompts
    drawing: Drawing
    variety: Variety = Variety()

    def for_topics(self, avoid: str, number: int) -> Ask:
        """The question for more topics."""
        who = {"name": self.profile.name, "profile": self.profile.profile}
        text = self.prompts.fill("topics", **who, count=PER_ROUND, avoid=avoid)
        return Ask("topics", number, (ChatMessage("user", text),), self.drawing)

    def for_dialogue(self, index: int, topic: str) -> Ask:
        """The question for dialogue number `index`."""
        shown = self.scene(index)
        opening = "opening_character" if shown.character_opens else "opening_person"
        text = self.prompts.fill(
            "dialogue",
            name=self.profile.name,
            profile=self.profile.profile,
            topic=topic,
            angle=shown.angle,
            rounds=shown.rounds,
            opening=self.prompts.fill(opening, name=self.profile.name),
        )
        return Ask("dialogue", index, (ChatMessage("user", text),), self.drawing)

    def scene(self, index: int) -> Scene:
        """What is drawn for dialogue number `index`."""
        return scene(self.variety, self.prompts.lines("angles"), index)

    def fit(self, messages: tuple[ChatMessage, ...], about: dict[str, object]) -> Made:
        """A dialogue of these messages, the system message first. Raises Unfit."""
        checking.forbid(messages, self.prompts.lines("outside"))
        system = (ChatMessage("system", self.system),) if self.system else ()
        spoken = tuple(one for one in messages if one.role != "system")
        dialogue = Dialogue(system + spoken, f"character:{self.profile.name}", about=about)
        if not letters_in(dialogue):
            raise Unfit("empty", "nobody says a word")
        return Made(dialogue, "\n".join(one.content for one in spoken))


async def make(character: Character, calls: Calls, topics: Topics, harvest: Harvest, window: int) -> None:
    """Fill `harvest`. Raises SynthesisError; what was brought in until then stays in it."""

    async def one(index: int) -> Made | Rejected:
        topic = await topics.topic(character.scene(index).topic)
        text = ""
        try:
            answer = await calls.ask(character.for_dialogue(index, topic))
            text = answer.text
            messages = checking.messages(checking.read(Talk, answer), character.profile.name)
            opens = "character" if messages[0].role == "assistant" else "person"
            return character.fit(messages, {"topic": topic, "number": index, "opens": opens})
        except (Unfit, ItemFailed) as failed:
            return Rejected("dialogue", failed.reason, failed.detail, text, topic)

    await in_order(one, harvest.take, harvest.more, window)
