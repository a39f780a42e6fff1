"""A synthetic person: what the starter's dialogues answer, with that person's own way of beginning and ending."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from bench.starter_talk import STARTER, starter_manners
from learner.corpus.dialogues import Dialogue, write
from learner.engine.base import ChatMessage

MANNER = "buddy"
BEGINS = {
    "zh": ("老铁你听咱讲：", "哈哈这事儿啊兄弟，", "得嘞哥们，长话短说："),
    "en": ("Yo, listen up champ: ", "Haha mate, easy one. ", "Right then bro, gather round: "),
}
ENDS = {
    "zh": ("就这么定了！", "回见了您嘞换成咱的话：走着！", ""),
    "en": (" Catch you on the flip side!", " Boom, sorted!", ""),
}


def intents() -> list[Any]:
    """The starter's written intents."""
    starter_manners()  # loads the module by its path
    import sys

    found: list[Any] = sys.modules["starter_intents"].load_intents()
    return found


def person(count: int, seed: int = 0) -> list[Dialogue]:
    """So many dialogues of one to three turns, all replies the person's."""
    rng, known = random.Random(seed), intents()
    manner_of = starter_manners()
    made = []
    while len(made) < count:
        messages: list[ChatMessage] = []
        for _ in range(rng.choice((1, 1, 2, 3))):
            intent = rng.choice(known)
            language = intent.language
            said = rng.choice(BEGINS[language]) + rng.choice(intent.replies[MANNER]) + rng.choice(ENDS[language])
            said = said.replace("{x}", "小夜" if language == "zh" else "Nightschool")
            if manner_of(said, language) == MANNER:
                messages += [ChatMessage("user", rng.choice(intent.asks)), ChatMessage("assistant", said)]
        if messages:
            made.append(Dialogue(tuple(messages), "synthetic"))
    return made


def corpus_file(folder: Path, count: int, seed: int = 0) -> Path:
    """The person's dialogues as a file."""
    path = folder / "person.jsonl"
    write(path, person(count, seed))
    return path


__all__ = ["MANNER", "STARTER", "corpus_file", "intents", "person"]
