"""What must outlive a restart: the login, the cursor, and what is needed to answer each person.

Knows nothing of the network. Every change is a whole new file under a temporary name, flushed, then renamed, and
readable by its owner alone.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from adapters.base import AdapterError

logger = logging.getLogger(__name__)

LOGIN, PLACE = "login.json", "place.json"
VERSION = 1
KEPT = 10  # logins; the server takes as many tokens


@dataclass(frozen=True)
class Login:
    """Who we are there: `bot` is the bot's id, `owner` the person who scanned the code."""

    token: str = field(repr=False)
    bot: str
    base_url: str
    owner: str


@dataclass(frozen=True)
class Contact:
    """What is needed to answer a person; `wrote` is when they last wrote (seconds since 1970)."""

    context_token: str = field(repr=False)
    wrote: float


class State:
    """The files in `folder`. `place.json` belongs to one bot id: another login starts at the beginning."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.logins: tuple[Login, ...] = ()  # the present one and earlier ones, newest first
        self.cursor = ""
        self.contacts: dict[str, Contact] = {}
        self._load()

    @property
    def login(self) -> Login | None:
        """The present login."""
        return self.logins[0] if self.logins else None

    def logged_in(self, login: Login) -> None:
        """Keep `login`. The same bot goes on where it was, another one has read nothing yet.

        Earlier ones are kept too: without a token Weixin may refuse to bind the person to their bot again.
        """
        if self.login is None or self.login.bot != login.bot:
            self.cursor, self.contacts = "", {}
        self.logins = (login, *(one for one in self.logins if one.token != login.token))[:KEPT]
        self._write(LOGIN, {"logins": [asdict(one) for one in self.logins]})

    def wrote(self, person: str, contact: Contact) -> bool:
        """`person` wrote; whether that is news. A message that comes again later changes nothing."""
        known = self.contacts.get(person)
        if known is not None and (known == contact or known.wrote > contact.wrote):
            return False
        self.contacts[person] = contact
        return True

    def save(self, cursor: str = "") -> None:
        """Keep the contacts and, where one is given, the cursor, in one file: both or neither."""
        assert self.login is not None
        self.cursor = cursor or self.cursor
        people = {person: asdict(contact) for person, contact in self.contacts.items()}
        self._write(PLACE, {"bot": self.login.bot, "cursor": self.cursor, "people": people})

    def _load(self) -> None:
        kept = self._read(LOGIN)
        try:
            names = ("token", "bot", "base_url", "owner")
            self.logins = tuple(Login(*(_text(one[name]) for name in names)) for one in kept["logins"]) if kept else ()
        except (KeyError, TypeError):
            self._put_aside(LOGIN)
        if self.login is None:
            return
        place = self._read(PLACE)
        if place.get("bot") != self.login.bot:
            return
        try:
            contacts = {p: Contact(_text(c["context_token"]), float(c["wrote"])) for p, c in place["people"].items()}
            self.cursor, self.contacts = _text(place["cursor"]), contacts
        except (KeyError, TypeError, ValueError, AttributeError):
            self._put_aside(PLACE)

    def _read(self, name: str) -> Mapping[str, Any]:
        path = self._folder / name
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError:
            found = None
        if not isinstance(found, dict):
            self._put_aside(name)
            return {}
        if found.get("version") != VERSION:
            raise AdapterError(
                f"{path} was written by another version of nightschool; update it, or move the file away"
            )
        return found

    def _put_aside(self, name: str) -> None:
        aside = self._folder / f"{name}.unreadable"
        os.replace(self._folder / name, aside)
        logger.warning("weixin file unreadable, put aside: %s", aside)

    def _write(self, name: str, content: Mapping[str, object]) -> None:
        new = self._folder / f"{name}.new"
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"version": VERSION, **content}, file, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self._folder / name)
        _flush_folder(self._folder)


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":  # a folder can't be opened there, and a rename needs no flush
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {type(value).__name__}")
    return value
