"""How a reply is cut and paced, and which messages were ours. Knows nothing of itchat."""

from __future__ import annotations

import hashlib
from collections import deque
from pathlib import Path

from adapters.base import Reply
from adapters.text import chunks, clauses, offer_text, utf16_length
from adapters.wechat_itchat import private
from adapters.wechat_itchat.settings import ItchatSettings
from adapters.wechat_itchat.translate import MENTION_ENDS

MAX_CHARS = 2000  # in UTF-16 units; WeChat names no limit for its web protocol, and longer ones were seen cut off
MOST_PIECES = 8  # a reply of more clauses goes out whole: nobody sends twenty messages in a row
REMEMBERED = 500


def parts(reply: Reply, group: bool, human_like: bool) -> list[str]:
    """The messages that `reply` becomes. Only a reply that offers nothing is cut into clauses."""
    mention = f"@{reply.to.name}{MENTION_ENDS}" if group and reply.to and reply.to.name else ""
    if reply.candidates is not None:
        return chunks(mention + offer_text(reply), MAX_CHARS, utf16_length)
    pieces = clauses(reply.text) if human_like else [reply.text]
    if len(pieces) > MOST_PIECES:
        pieces = [reply.text]
    whole = [mention + pieces[0], *pieces[1:]]
    return [part for piece in whole for part in chunks(piece, MAX_CHARS, utf16_length)]


def pause(piece: str, settings: ItchatSettings) -> float:
    """How long a person would type at `piece`, in seconds."""
    return min(len(piece) / settings.typing_speed, settings.longest_pause)


class OwnMessages:
    """Tells what we sent from what the owner typed on the phone, which look the same when they come back.

    A message may come back before its id is known, or without: then its chat and a hash of its words tell. On
    disk, because it may come back after a restart.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        kept = private.read_json(path)
        self._ids: deque[str] = deque(kept.get("ids", []), REMEMBERED)
        self._unsure: deque[str] = deque(kept.get("unsure", []), REMEMBERED)

    def sending(self, chat: str, text: str) -> None:
        """A message goes out now."""
        self._unsure.append(_mark(chat, text))
        self._save()

    def sent(self, chat: str, text: str, number: str) -> None:
        """It went out, as `number`."""
        if number:
            self._ids.append(number)
            self._drop(_mark(chat, text))
            self._save()

    def refused(self, chat: str, text: str) -> None:
        """It surely did not go out."""
        self._drop(_mark(chat, text))
        self._save()

    def is_ours(self, number: str, chat: str, text: str) -> bool:
        """Whether we sent what came back."""
        if number in self._ids:
            return True
        if (mark := _mark(chat, text)) not in self._unsure:
            return False
        self._ids.append(number)
        self._drop(mark)
        self._save()
        return True

    def _drop(self, mark: str) -> None:
        if mark in self._unsure:
            self._unsure.remove(mark)

    def _save(self) -> None:
        private.write_json(self._path, {"ids": list(self._ids), "unsure": list(self._unsure)}, flush=False)


def _mark(chat: str, text: str) -> str:
    return hashlib.sha256(f"{chat}\n{''.join(text.split())}".encode()).hexdigest()[:24]
