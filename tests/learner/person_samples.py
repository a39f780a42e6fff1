"""A synthetic person: the one of examples/own_chats, who answers what the starter does, in a manner of their own."""

from __future__ import annotations

from pathlib import Path

import synthetic_chats
from synthetic_chats import MANNER

from bench.starter_talk import STARTER
from learner.corpus.dialogues import Dialogue, write
from learner.engine.base import ChatMessage, Role

ROLES: tuple[Role, Role] = ("user", "assistant")


def person(count: int, seed: int = 0) -> list[Dialogue]:
    """So many dialogues of one to three turns, all replies the person's."""
    made = []
    for turns in synthetic_chats.dialogues(count, seed):
        messages = [ChatMessage(role, text) for turn in turns for role, text in zip(ROLES, turn, strict=True)]
        made.append(Dialogue(tuple(messages), "synthetic"))
    return made


def corpus_file(folder: Path, count: int, seed: int = 0) -> Path:
    """The person's dialogues as a file."""
    path = folder / "person.jsonl"
    write(path, person(count, seed))
    return path


def chats_file(folder: Path, count: int, seed: int = 0) -> tuple[Path, int]:
    """The person's chats as MemoTrace exports them, and how many rows that are."""
    path = folder / "chats.csv"
    return path, synthetic_chats.write(path, synthetic_chats.dialogues(count, seed), seed)


__all__ = ["MANNER", "STARTER", "chats_file", "corpus_file", "person"]
