"""Reads itchat's dicts: messages and contacts. Its lookups may ask the server, so it runs where itchat runs.

Knows nothing of the contract.
"""

from __future__ import annotations

import contextlib
import copy
import html
import json
import logging
import re
from typing import Any

import requests

from adapters.wechat_itchat.library import produce_msg, update_local_chatrooms, update_local_friends
from adapters.wechat_itchat.wire import Contact, Group, Item, ItemKind, Unreadable

logger = logging.getLogger(__name__)

TEXT, PICTURE, VOICE, REQUEST, VIDEO = 1, 3, 34, 37, 43  # MsgType
STICKER, APP, SHORT_VIDEO, NOTE, RECALL = 47, 49, 62, 10000, 10002
NOBODYS = (40, 51, 52, 53, 9999)  # the phone's and the server's talk with each other
FILE, PICTURE_FILE, QUOTING = 6, 8, 57  # AppMsgType
FRIEND, OFFICIAL = 1, 8  # bits of ContactFlag and VerifyFlag
KINDS: dict[int, ItemKind] = {
    TEXT: "text",
    PICTURE: "image",
    VOICE: "voice",
    REQUEST: "request",
    VIDEO: "video",
    SHORT_VIDEO: "video",
    STICKER: "sticker",
    NOTE: "note",
    RECALL: "recall",
}
APP_KINDS: dict[int, ItemKind] = {FILE: "file", PICTURE_FILE: "sticker", QUOTING: "text"}
# What itchat takes for granted in a message, and servers leave out at times.
GAPS: dict[str, Any] = {
    "Url": "",
    "Content": "",
    "AppMsgType": 0,
    "FileName": "",
    "MediaId": "",
    "Ticket": "",
    "Status": 0,
    "StatusNotifyUserName": "",
}
_SENDER = re.compile("(@[0-9a-z]+):\n?(.*)", re.DOTALL)


class Reader:
    """Reads for one Core."""

    def __init__(self, core: Any) -> None:
        self._core = core

    @property
    def my_name(self) -> str:
        """The account's own nickname."""
        return _plain(self._core.storageClass.nickName)

    def friends(self) -> list[Contact]:
        """All friends; the account itself is none."""
        me = self._core.storageClass.userName
        return [_contact(one) for one in list(self._core.memberList) if one["UserName"] != me]

    def changed(self, contact: Any) -> Item | None:
        """Take in a changed contact; an Item where it is a new friend."""
        name = contact["UserName"]
        if "@@" in name:
            update_local_chatrooms(self._core, [{"NickName": "", "MemberList": [], **contact}])
            return None
        known = self._friend(name)
        whole = {"VerifyFlag": 0, "NickName": "", **contact}
        update_local_friends(self._core, [whole])
        official = whole["VerifyFlag"] & OFFICIAL
        if known or official or not name.startswith("@") or not contact.get("ContactFlag", 0) & FRIEND:
            return None
        return Item("", "friend", _contact(whole))

    def known(self, username: str) -> Contact | None:
        """The friend, fetched where they are not among the contacts yet. None for an official account."""
        if not self._friend(username) and not self._official(username):
            self._fetch_friend(username)
        if found := self._friend(username):
            return _contact(found)
        return None if self._official(username) else Contact(username)

    def read(self, message: Any) -> Item | None:
        """What `message` says; None for what is no person's. A gap in it is told as the Item's trouble.

        Raises Unreadable where nothing can be made of it.
        """
        if message.get("MsgType") in NOBODYS:
            with contextlib.suppress(Exception):
                self._produce(message)  # itchat learns from some of them
            return None
        attempts = (
            message,
            {**GAPS, "NewMsgId": message.get("MsgId"), "RecommendInfo": {"UserName": ""}, **message},
            {**GAPS, **message, "MsgType": 0},  # of no kind that itchat looks into
        )
        trouble = ""
        for attempt in attempts:
            try:
                return self._item(self._produce(attempt), trouble)
            except json.JSONDecodeError:
                raise  # it is what the server said to a lookup
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                missing = f" (no {error.args[0]})" if isinstance(error, KeyError) and error.args else ""
                trouble = trouble or f"itchat could not read a message of type {message.get('MsgType')}{missing}"
        raise Unreadable(trouble)

    def _produce(self, message: Any) -> Any:
        """`message` as itchat makes it out; it changes what it is given."""
        return produce_msg(self._core, [copy.deepcopy(message)])[0]

    def _item(self, made: Any, trouble: str) -> Item | None:
        me = self._core.storageClass.userName
        mine = made["FromUserName"] == me
        other = made["ToUserName"] if mine else made["FromUserName"]
        kind, text = _kind(made), _text(made)
        number = str(made["MsgId"])
        if "@@" in other:
            group = self._group(other, made["User"], fresh=kind == "note")
            if mine:
                return Item(number, kind, self._me(), text, group, mine=True, trouble=trouble)
            person, text = self._member(group, made, text)
            return Item(number, kind, person, text, group, at=bool(made.get("IsAt")), trouble=trouble)
        if kind == "request":
            return self._request(made, number)
        friend = self.known(other) if other.startswith("@") and other != me else None
        return Item(number, kind, friend, text, mine=mine, trouble=trouble) if friend else None

    def _request(self, made: Any, number: str) -> Item:
        about = made["RecommendInfo"]
        return Item(number, "request", _contact(about, friend=False), ticket=made["Ticket"] or about.get("Ticket", ""))

    def _member(self, group: Group, made: Any, text: str) -> tuple[Contact, str]:
        """Who wrote in the group, and what: a message that itchat could not split holds its sender still."""
        username = made.get("ActualUserName", "")
        if username in ("", self._core.storageClass.userName) and (found := _SENDER.fullmatch(text)):
            username, text = found.groups()
        for member in group.members:
            if member.username == username:
                return member, text
        return Contact(username if username != self._core.storageClass.userName else "", friend=False), text

    def _group(self, username: str, found: Any, fresh: bool) -> Group:
        if fresh or not found.get("MemberList"):
            found = self._core.update_chatroom(username) or found
        friends = {one["UserName"]: one for one in list(self._core.memberList)}
        mine = found.get("Self") or {}
        return Group(
            username,
            _plain(found.get("NickName")),
            str(found.get("Uin") or ""),
            str(found.get("EncryChatRoomId") or ""),
            tuple(_as_member(one, friends) for one in found.get("MemberList") or []),
            _plain(mine.get("DisplayName")),
        )

    def _me(self) -> Contact:
        return Contact(self._core.storageClass.userName, self.my_name, friend=False)

    def _friend(self, username: str) -> Any:
        return next((one for one in list(self._core.memberList) if one["UserName"] == username), None)

    def _official(self, username: str) -> bool:
        return any(one["UserName"] == username for one in list(self._core.mpList))

    def _fetch_friend(self, username: str) -> None:
        try:
            self._core.update_friend(username)
        except requests.RequestException:
            raise
        except Exception as error:  # itchat trips over an empty answer
            logger.debug("nothing found about a contact: %s", type(error).__name__)


def _kind(made: Any) -> ItemKind:
    if made["MsgType"] == TEXT and made.get("Type") != "Text":
        return "other"  # a place on the map is sent as text
    if made["MsgType"] == APP:
        return APP_KINDS.get(made["AppMsgType"], "other")
    return KINDS.get(made["MsgType"], "other")


def _text(made: Any) -> str:
    """The words; a message that quotes another has them where others have a file's name."""
    if made["MsgType"] == APP:
        return _plain(made["FileName"]) if made["AppMsgType"] == QUOTING else ""
    return str(made["Content"]) if made.get("Type") in ("Text", "Note") else ""


def _as_member(found: Any, friends: dict[str, Any]) -> Contact:
    friend = friends.get(found["UserName"])
    return _contact(friend or found, card=_plain(found.get("DisplayName")), friend=friend is not None)


def _contact(found: Any, card: str = "", friend: bool = True) -> Contact:
    return Contact(
        found["UserName"],
        _plain(found.get("NickName")),
        _plain(found.get("RemarkName")),
        str(found.get("Alias") or ""),
        str(found.get("Uin") or ""),
        _plain(found.get("Signature")),
        card,
        friend,
    )


def _plain(text: object) -> str:
    """A name without the escapes that the server puts in."""
    return html.unescape(str(text or ""))
