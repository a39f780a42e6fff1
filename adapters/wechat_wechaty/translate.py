"""Turns what a gateway tells into Inbound, and a reply's words into parts. Pure; knows nothing of the wire."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from adapters.base import Health, Inbound, Joined, Message, MessageKind, OwnerWrote, Person, Recalled, Reply
from adapters.text import chunks, clauses, offer_text

MAX_CHARS = 2000
TEXT, RECALLED = 7, 13
KINDS: dict[int, MessageKind] = {1: "file", 2: "voice", 5: "sticker", 6: "image", 7: "text", 15: "video"}
OFFICIAL = 2  # the type of a contact that is no person: news, shops, services
SERVICES = frozenset({"weixin", "filehelper", "fmessage", "newsapp", "medianote", "floatbottle", "qqmail"})

AT_END = "\u2005"  # the space that WeChat puts after a mention
_GAP = "[\u2005\u2004\u00a0 ]"
_EVERYONE = re.compile(rf"@(?:所有人|all)(?:{_GAP}|$)", re.IGNORECASE)
_QUOTE = re.compile(r"「(?P<who>[^：:「」]*)[：:].*?」\n(?:- ?){5,}\n(?P<words>.*)", re.DOTALL)
_NOTICE = re.compile(r"<newmsgid>(?:<!\[CDATA\[)?\s*(\d+)")

WAITING, SCANNED, CONFIRMED = 2, 3, 4
_SCAN = {
    SCANNED: "the code was scanned; confirm the login on the phone",
    CONFIRMED: "the login was confirmed; waiting for the gateway",
}


@dataclass(frozen=True)
class Received:
    """A message as the gateway has it; `room` is "" in a private chat, `listener` its other end."""

    id: str
    kind: int
    talker: str
    listener: str
    room: str
    text: str
    mentions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Account:
    """The bot's account: its id, and the names by which a room may mention it."""

    id: str
    names: tuple[str, ...] = ()


def chat_of(received: Received, account: Account) -> str:
    """The room, or the other end of a private chat."""
    if received.room:
        return received.room
    return received.listener if received.talker == account.id else received.talker


def wants_names(received: Received) -> bool:
    """Do the bot's names tell anything about this message?"""
    return bool(received.room) and received.kind == TEXT and ("@" in received.text or received.text.startswith("「"))


def to_inbound(received: Received, account: Account, person: Person) -> Inbound | None:
    """What somebody else sent. None for what is nobody's or names nothing."""
    chat = chat_of(received, account)
    if not received.talker or not chat or chat in SERVICES:
        return None
    if received.kind == RECALLED:
        gone = _recalled(received.text)
        return Recalled(received.id, chat, person, gone) if gone else None
    kind = KINDS.get(received.kind, "other")
    # What stands in the text of anything else is markup for the phone.
    text = received.text if kind == "text" else ""
    if not received.room:
        return Message(received.id, chat, person, text, kind=kind)
    text, meant = _for_the_bot(received, account)
    text = text if kind == "text" else ""
    return Message(received.id, chat, person, text, group=True, addressed=meant, kind=kind)


def to_owner_wrote(received: Received, account: Account) -> OwnerWrote | None:
    """What the account sent from another device."""
    chat = chat_of(received, account)
    if received.kind != TEXT or not chat or chat in SERVICES:
        return None
    return OwnerWrote(received.id, chat, Person(account.id), received.text)


def to_joined(room: str, people: Sequence[Person], when: object, account: Account) -> list[Joined]:
    """Those who came into the room, the bot itself aside."""
    return [
        Joined(f"join:{room}:{person.id}:{when}", room, person, group=True)
        for person in people
        if person.id != account.id
    ]


def scan_health(status: int, code: str) -> Health:
    """How the login stands."""
    if status == WAITING and code:
        return Health("login", "scan this code with the WeChat of the bot's account", qr=code)
    return Health("login", _SCAN.get(status, "the login code expired; wait for the next, or restart the gateway"))


def parts_of(reply: Reply, human_like: bool) -> list[str]:
    """The messages that `reply` becomes. An offer stays one; in a group the first names whom it is for."""
    name = f"@{reply.to.name}{AT_END}" if in_group(reply) and reply.to and reply.to.name else ""
    if reply.candidates is not None:
        return [name + offer_text(reply)]
    pieces = clauses(reply.text) if human_like else [reply.text]
    return [part for at, piece in enumerate(pieces) for part in chunks(piece if at else name + piece, MAX_CHARS)]


def in_group(reply: Reply) -> bool:
    """A private chat has its person's id."""
    return reply.to is not None and reply.to.id != reply.chat


def _recalled(text: str) -> str:
    """The id of the message that was taken back. Some gateways pass on WeChat's own notice of it."""
    found = _NOTICE.search(text)
    return found[1] if found else "" if text.lstrip().startswith("<") else text.strip()


def _for_the_bot(received: Received, account: Account) -> tuple[str, bool]:
    """The words without the mention of the bot or its quoted ones, and whether they are for it."""
    text, quoted = _without_quote(received.text, account.names)
    bare = _without_mention(text, account.names)
    named = bare != text
    mentioned = account.id in received.mentions
    if mentioned and not named and len(received.mentions) == 1 and not _EVERYONE.search(text):
        bare = re.sub(f"^@[^{AT_END}]*{AT_END}", "", text)  # by a name that we were not told
    meant = quoted or named or (mentioned and not _EVERYONE.search(text))
    return (bare.strip(), True) if meant else (received.text, False)


def _without_quote(text: str, names: Sequence[str]) -> tuple[str, bool]:
    """`text` without the block that quotes one of `names`, and whether there was one."""
    found = _QUOTE.fullmatch(text)
    return (found["words"], True) if found and found["who"].strip() in names else (text, False)


def _without_mention(text: str, names: Sequence[str]) -> str:
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(f"@{re.escape(name)}(?:{_GAP}+|$)", "", text)
    return text
