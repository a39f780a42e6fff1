"""Who may talk and who may teach: the owner, claimed by a code that the terminal shows; others as set.

Knows nothing of what is said or taught.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass, field, replace
from typing import Literal

from adapters.base import Person
from bots.database import Database
from learner.store.rows import ChatState, Known, Place
from learner.store.store import Store

# Whoever sits at this machine is the owner: the terminal, and the page while it listens on loopback only.
LOCAL_OWNERS = {("console", "local"), ("web", "local")}
# Whoever gets in there was let in: by sitting at the machine, or by the page's token.
GUARDED = {"console", "web"}
TRIES_PER_PERSON = 5
NAME_LENGTH = 40


def new_code() -> str:
    """A claim code: 8 digits and letters, good for one claim."""
    return secrets.token_hex(4).upper()


@dataclass
class ClaimCode:
    """The code that is shown now; one that was used is replaced, and who guesses too often is not heard any more."""

    value: str
    failures: dict[str, int] = field(default_factory=dict)

    def accepts(self, given: str, by: str) -> bool:
        """Whether `given` is the code, compared in constant time; `by` is who says so."""
        if self.failures.get(by, 0) >= TRIES_PER_PERSON:
            return False
        if not hmac.compare_digest(given.strip().upper().encode(), self.value.encode()):
            self.failures[by] = self.failures.get(by, 0) + 1
            return False
        self.value = new_code()
        return True


def plain_name(name: str) -> str:
    """A display name as a prompt may hold it: one short line that can't pass for somebody else's words."""
    line = re.sub(r"[\s:：<>\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e]+", " ", name)
    return line.strip()[:NAME_LENGTH].strip()


@dataclass(frozen=True)
class AccessRules:
    """Who may talk in private, who besides, which groups, and whose word trains."""

    talkers: Literal["everyone", "allowlist", "paired"] = "everyone"
    allow: frozenset[str] = frozenset()  # "platform:person id"
    groups: frozenset[str] = frozenset()  # "platform:chat id"
    teachers: Literal["owner", "everyone"] = "owner"


class Access:
    """Answers for one bot: may this person talk here, is it its owner, does their feedback train?"""

    def __init__(self, bot: str, rules: AccessRules, store: Store, database: Database, code: ClaimCode) -> None:
        self._bot = bot
        self._rules = rules
        self._store = store
        self._database = database
        self.code = code

    async def meet(self, place: Place, person: Person) -> Known:
        """Note `person` and say what is known of them."""
        local = (place.platform, person.id) in LOCAL_OWNERS
        name = plain_name(person.name)
        known = await self._database(self._store.known, self._bot, place.platform, person.id)
        if known is not None and known.owner >= local and known.name == (name or known.name):
            return known
        met = Known(self._bot, place.platform, person.id, name, owner=local, teacher=local)
        await self._database(self._store.note_person, met)
        return await self._database(self._store.known, self._bot, place.platform, person.id) or met

    def may_talk(self, known: Known, place: Place, group: bool, chat: ChatState) -> bool:
        """Whether `known` is heard in this chat: a group is let in as a whole, in private each person is."""
        if known.owner or place.platform in GUARDED:
            return True
        if group:
            return chat.allowed or f"{place.platform}:{place.chat}" in self._rules.groups
        return (
            self._rules.talkers == "everyone"
            or known.teacher
            or known.admitted
            or f"{known.platform}:{known.person}" in self._rules.allow
        )

    async def pairing_code(self, known: Known) -> str | None:
        """The code by which the owner can let `known` in; None where nobody is let in that way."""
        if self._rules.talkers != "paired":
            return None
        if known.code is None:
            known = replace(known, code=new_code())
            await self._database(self._store.note_person, known)
        return known.code

    def teaches(self, known: Known) -> bool:
        """Whether what `known` says about replies may train."""
        return self._rules.teachers == "everyone" or known.owner or known.teacher

    async def claim(self, known: Known, given: str, at: float) -> bool:
        """Make `known` an owner if `given` is the code."""
        if not self.code.accepts(given, f"{known.platform}:{known.person}"):
            return False
        await self.own(known.platform, known.person, at)
        return True

    async def own(self, platform: str, person: str, at: float) -> None:
        """Let the person own the bot."""
        await self._database(self._store.claim_owner, self._bot, platform, person, at)

    async def admit(self, code: str) -> Known | None:
        """Let the person talk who was given `code`."""
        return await self._database(self._store.admit, self._bot, code.strip().upper())
