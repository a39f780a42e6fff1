"""Finds in a message's words whom they are for, and takes the mention out. Pure; Telegram counts in UTF-16 units."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from telegram import Message, MessageEntity

from adapters.telegram.labels import COMMANDS

_KNOWN = {name for commands in COMMANDS.values() for name in commands}
_SPACES = " \u3000"
_AFTER_A_NAME = _SPACES + ",，:：、"
_CLOSING = "\n,，.。!！?？:：;；、"


@dataclass(frozen=True)
class Me:
    """Who the bot is."""

    id: int
    username: str


@dataclass(frozen=True)
class Words:
    """A message's words without the mention, and whether they are for this bot or for another one."""

    text: str
    to_me: bool = False
    to_another: bool = False


def read(message: Message, me: Me, group: bool) -> Words:
    """The words of `message`. In a private chat a mention is no address and stays."""
    text = message.text or message.caption or ""
    entities = message.entities or message.caption_entities
    words = _command(text, entities, me, group)
    if not group or words.to_another:
        return words
    text, mentioned = words.text, False
    # What was cut from a command stands before every mention: from the end on, the places are still right.
    shift = _units(words.text) - _units(message.text or message.caption or "")
    for entity in sorted(entities, key=lambda entity: -entity.offset):
        start = entity.offset + shift
        if start >= 0 and _is_me(entity, _slice(text, start, entity.length), me):
            text, mentioned = _without(text, start, entity.length), True
    return Words(text, words.to_me or mentioned)


def _command(text: str, entities: Iterable[MessageEntity], me: Me, group: bool) -> Words:
    """What a command at the start says of its addressee."""
    found = next((one for one in entities if one.type == MessageEntity.BOT_COMMAND and one.offset == 0), None)
    if found is None:
        return Words(text)
    command, rest = text[: found.length], text[found.length :]  # a command is ASCII
    name, _, bot = command.partition("@")
    if bot and bot.lower() != me.username.lower():
        return Words(text, to_another=group)
    return Words(name + rest, to_me=bool(bot) or name[1:] in _KNOWN)


def _is_me(entity: MessageEntity, word: str, me: Me) -> bool:
    if entity.type == MessageEntity.TEXT_MENTION:
        return entity.user is not None and entity.user.id == me.id
    return entity.type == MessageEntity.MENTION and word.lower() == f"@{me.username}".lower()


def _without(text: str, start: int, length: int) -> str:
    """`text` without a mention, and without the gap that it would leave."""
    before, after = _slice(text, 0, start), _slice(text, start + length, _units(text))
    left, right = before.rstrip(_SPACES), after.lstrip(_SPACES)
    if not left or left.endswith("\n"):
        return left + after.lstrip(_AFTER_A_NAME)
    gap = " " if right and right[0] not in _CLOSING and (left, right) != (before, after) else ""
    return left + gap + right


def _slice(text: str, start: int, length: int) -> str:
    units = text.encode("utf-16-le", "surrogatepass")
    return units[start * 2 : (start + length) * 2].decode("utf-16-le", "surrogatepass")


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
