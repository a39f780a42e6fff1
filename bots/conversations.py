"""The history that a prompt holds: which turns, within the model's context.

Knows nothing of platforms or of how a reply is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from learner.engine.base import ChatMessage
from learner.store.rows import Turn

Render = Callable[[Sequence[ChatMessage]], tuple[int, ...]]
BLOCK = 8  # turns dropped together, so that the kept prefix stays the same for several turns
HISTORY_LIMIT = 64


@dataclass(frozen=True)
class Prompt:
    """What the model will see, as messages and as token ids."""

    messages: tuple[ChatMessage, ...]
    token_ids: tuple[int, ...]


class MessageTooLong(Exception):
    """The message alone does not fit the model's context."""


def build(system: str, history: Sequence[Turn], text: str, render: Render, budget: int) -> Prompt:
    """Join the system prompt, as much history as fits `budget` tokens, and the new message.

    History goes in blocks of BLOCK turns counted from its start, so that the KV cache of the kept
    prefix serves several turns. Raises MessageTooLong.
    """
    head = (ChatMessage("system", system),) if system else ()
    turns = tuple(_message(turn) for turn in history)
    question = ChatMessage("user", text)
    for start in [*range(0, len(turns), BLOCK), len(turns)]:
        messages = (*head, *_from_user(turns[start:]), question)
        token_ids = render(messages)
        if len(token_ids) <= budget:
            return Prompt(messages, token_ids)
    raise MessageTooLong(f"{len(token_ids)} tokens, and {budget} fit")


def _message(turn: Turn) -> ChatMessage:
    return ChatMessage("user" if turn.role == "user" else "assistant", turn.text)


def _from_user(messages: tuple[ChatMessage, ...]) -> tuple[ChatMessage, ...]:
    """Begin with a person's turn: many chat templates refuse anything else."""
    for index, message in enumerate(messages):
        if message.role == "user":
            return messages[index:]
    return ()
