"""Turns what arrived into the contract's inbound things. Pure; knows nothing of itchat."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

from adapters.base import Inbound, Joined, Message, MessageKind, OwnerWrote, Person, Recalled
from adapters.wechat_itchat.wire import Contact, Group, Item

MENTION_ENDS = "\u2005"  # the phone puts it after a mention that was picked from the list
_QUOTED = re.compile("「.*?」\n(?:- ?){5,}\n(.*)", re.DOTALL)  # how an older client sends a quote and the words below
_RECALLS = tuple(re.compile(f"<{tag}>([0-9]+)</{tag}>") for tag in ("newmsgid", "msgid", "oldmsgid"))
_JOINS = tuple(
    re.compile(pattern)
    for pattern in (
        '邀请[“"](?P<names>.+?)[”"]加入了群聊',
        '^\\s*[“"](?P<names>.+?)[”"]通过扫描.*二维码加入群聊',
        'invited [“"]?(?P<names>.+?)[”"]? to the group chat',
        '^\\s*[“"](?P<names>.+?)[”"] joined (?:the )?group chat via',
    )
)
_AND = re.compile("、|, ")


class Ids(Protocol):
    """Where the ids that last come from (see people.People)."""

    def friend(self, contact: Contact) -> str: ...

    def member(self, group: Group, contact: Contact) -> str: ...

    def group(self, group: Group) -> str: ...


def to_inbound(item: Item, ids: Ids, me: Person) -> list[Inbound]:
    """What `item` means; nothing for the platform's own notes and for friend requests."""
    if item.kind == "request" or (item.mine and item.kind not in ("text", "recall")):
        return []
    chat, person = _where(item, ids, me)
    if item.kind == "note":
        return list(_joined(item, chat, ids))
    if item.kind == "recall":
        return [Recalled(item.id, chat, person, found)] if (found := recalled(item.text)) else []
    if item.kind == "friend":
        return [Joined(f"friend-{chat}", chat, person)]
    if item.mine:
        return [OwnerWrote(item.id, chat, me, item.text)]
    return [_message(item, item.kind, chat, person, me)]


def recalled(text: str) -> str | None:
    """The id of the message that was taken back: the long number, where there is a short one too."""
    for pattern in _RECALLS:
        if found := pattern.search(text):
            return found[1]
    return None


def without_mention(text: str, names: tuple[str, ...], picked: bool) -> tuple[str, bool]:
    """`text` without "@name", and whether there was one.

    Where it was `picked`, or ends as those do, it goes from anywhere; one that was typed counts at either end only.
    """
    meant = picked
    for name in sorted({one for one in names if one}, key=len, reverse=True):
        at = re.escape("@" + name)
        anywhere = f"{at}{MENTION_ENDS}" + (f"|{at} " if picked else "")
        text, found = re.subn(f"{anywhere}|^\\s*{at}(?:\\s|$)|{at}\\s*$", "", text)
        meant = meant or bool(found)
    return text.strip(), meant


def newcomers(text: str) -> list[str]:
    """The names in a note that says who joined a group."""
    for pattern in _JOINS:
        if found := pattern.search(text):
            return [name.strip('“”" ') for name in _AND.split(found["names"])]
    return []


def _where(item: Item, ids: Ids, me: Person) -> tuple[str, Person]:
    """The chat, and who did it."""
    if item.group is None:
        chat = ids.friend(item.person)
        return chat, me if item.mine else Person(chat, item.person.shown)
    chat = ids.group(item.group)
    if item.mine or not item.person.username:
        return chat, me
    return chat, Person(ids.member(item.group, item.person), item.person.shown_in_group)


def _message(item: Item, kind: MessageKind, chat: str, person: Person, me: Person) -> Message:
    text, group = item.text, item.group is not None
    addressed = not group
    if item.group is not None:
        text, addressed = without_mention(text, (item.group.my_name, me.name), item.at)
    if quoting := _QUOTED.fullmatch(text):
        text = quoting[1].strip()
    return Message(item.id, chat, person, text, group=group, addressed=addressed, kind=kind)


def _joined(item: Item, chat: str, ids: Ids) -> Iterator[Joined]:
    """Who joined the group: of those whom the note names, the ones whose name nobody else there has."""
    if item.group is None:
        return
    for name in newcomers(item.text):
        found = [one for one in item.group.members if name in (one.nickname, one.card, one.remark)]
        if len(found) == 1:
            person = Person(ids.member(item.group, found[0]), found[0].shown_in_group)
            yield Joined(f"{item.id}-{person.id}", chat, person, group=True)
