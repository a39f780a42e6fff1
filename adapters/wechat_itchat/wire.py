"""What is taken out of itchat's dicts, and what can go wrong there. Knows nothing of itchat's own types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ItemKind = Literal["text", "voice", "image", "sticker", "video", "file", "other", "note", "recall", "request", "friend"]
CodeState = Literal["waiting", "scanned", "expired", "in"]


@dataclass(frozen=True)
class Contact:
    """A friend, or a member of a group. `username` lasts for one login only; the others may be empty."""

    username: str
    nickname: str = ""
    remark: str = ""  # what the account's owner calls them
    alias: str = ""
    uin: str = ""
    signature: str = ""
    card: str = ""  # their name in the group
    friend: bool = True

    @property
    def shown(self) -> str:
        """Their name, to the account."""
        return self.remark or self.nickname

    @property
    def shown_in_group(self) -> str:
        """Their name, to everybody in the group; the remark is for the account's eyes only."""
        return self.card or self.nickname


@dataclass(frozen=True)
class Group:
    """A group. `username` lasts for one login only; `my_name` is what the account is called there."""

    username: str
    nickname: str = ""
    uin: str = ""
    room: str = ""
    members: tuple[Contact, ...] = ()
    my_name: str = ""


@dataclass(frozen=True)
class Item:
    """One thing that arrived. Without `group` it is between the account and `person`.

    `mine`: the account itself wrote it, here or on another device. `ticket` accepts a friend request.
    `trouble` says what itchat could not read of it.
    """

    id: str
    kind: ItemKind
    person: Contact
    text: str = ""
    group: Group | None = None
    mine: bool = False
    at: bool = False
    ticket: str = ""
    trouble: str = ""


@dataclass(frozen=True)
class Account:
    """Who is logged in: `key` lasts, `login` is another after each scan."""

    key: str
    login: str
    nickname: str


class Unreachable(Exception):
    """The server can't be reached, or does not answer as it should. Trying again may help."""


class LoggedOut(Exception):
    """The login is over: ended by the phone, by another login or by WeChat."""


class LoginRefused(Exception):
    """The code was scanned and confirmed, and WeChat let nobody in."""


class Unreadable(Exception):
    """Nothing can be made of a message."""


class SendRefused(Exception):
    """The server refused a message. Its number is `code`."""

    def __init__(self, code: int) -> None:
        super().__init__(f"WeChat refused the message with the number {code}")
        self.code = code
