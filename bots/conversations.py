"""The history that a prompt holds: which turns, within the model's context.

Knows nothing of platforms or of how a reply is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from learner.engine.base import ChatMessage
from learner.engine.lengths import estimated_tokens
from learner.store.rows import Turn

Render = Callable[[Sequence[ChatMessage]], tuple[int, ...]]
BLOCK = 8  # turns dropped together, so that the kept prefix stays the same for several turns
HISTORY_LIMIT = 64


@dataclass(frozen=True)
class Prompt:
    """What the model will see, as messages and as token ids (none where only a server knows them).

    The history begins at index `start` of what was given, `first` is the id of the first turn held (None: none is);
    `recalled` are the turns from before that the system prompt quotes.
    """

    messages: tuple[ChatMessage, ...]
    token_ids: tuple[int, ...]
    start: int = 0
    first: int | None = None
    recalled: tuple[int, ...] = ()


class MessageTooLong(Exception):
    """The message alone does not fit the model's context."""


def build(
    system: str,
    history: Sequence[Turn],
    text: str,
    render: Render,
    budget: int,
    names: Mapping[str, str] | None = None,
    begin: int = 0,
) -> Prompt:
    """Join the system prompt, as much history as fits `budget` tokens, and the new message.

    With `names`, by person, the history says who said what, as a group's does. It holds nothing before index `begin`.

    History goes in blocks of BLOCK turns counted from its start, so that the KV cache of the kept
    prefix serves several turns. Raises MessageTooLong.
    """
    head = (ChatMessage("system", system),) if system else ()
    question = ChatMessage("user", text)
    for start in [*range(begin, len(history), BLOCK), len(history)]:
        held = _opened(history[start:])
        messages = (*head, *(_message(turn, names or {}) for turn in held), question)
        token_ids = render(messages)
        length = len(token_ids) or estimated_tokens(messages)
        if length <= budget:
            return Prompt(messages, token_ids, start, held[0].id if held else None)
    raise MessageTooLong(f"{length} tokens, and {budget} fit")


def said_by(name: str, text: str) -> str:
    """What `name` said, as a prompt shows it: further lines are indented, so that nobody speaks as another."""
    lines = text.replace("\n", "\n  ")
    return f"{name}: {lines}" if name else text


def _message(turn: Turn, names: Mapping[str, str]) -> ChatMessage:
    """A turn as the model sees it: what the owner wrote in the bot's place is the bot's."""
    if turn.role == "user":
        return ChatMessage("user", said_by(names.get(turn.person, ""), turn.text))
    return ChatMessage("assistant", turn.text)


def _opened(turns: Sequence[Turn]) -> Sequence[Turn]:
    """Begin with a person's turn, or with the bot's greeting: a reply without what it answers only confuses."""
    for index, turn in enumerate(turns):
        if turn.role == "user" or (turn.role == "assistant" and turn.exchange is None):
            return turns[index:]
    return ()
