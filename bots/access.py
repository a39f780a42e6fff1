"""Who may teach: the owner, claimed by a code that the terminal shows; or everyone, if set so.

Knows nothing of what is taught.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass

from adapters.base import Person
from bots.database import Database
from learner.store.rows import Known, Place
from learner.store.store import Store

# Whoever sits at this machine is the owner: the terminal, and the page while it listens on loopback only.
LOCAL_OWNERS = {("console", "local"), ("web", "local")}
TRIES_PER_CODE = 5


def new_code() -> str:
    """A claim code: 6 digits, good for one claim."""
    return f"{secrets.randbelow(1_000_000):06d}"


@dataclass
class ClaimCode:
    """The code that is shown now; a used one, or one that was guessed at too often, is replaced."""

    value: str
    failures: int = 0

    def accepts(self, given: str) -> bool:
        """Whether `given` is the code, compared in constant time."""
        right = hmac.compare_digest(given.strip().encode(), self.value.encode())
        self.failures = 0 if right else self.failures + 1
        if right or self.failures >= TRIES_PER_CODE:
            self.value, self.failures = new_code(), 0
        return right


class Access:
    """Answers for one bot: is this person its owner, does their feedback train?"""

    def __init__(self, bot: str, teachers: str, store: Store, database: Database, code: ClaimCode) -> None:
        self._bot = bot
        self._teachers = teachers
        self._store = store
        self._database = database
        self.code = code

    async def meet(self, place: Place, person: Person) -> Known:
        """Note `person` and say what is known of them."""
        local = (place.platform, person.id) in LOCAL_OWNERS
        known = Known(self._bot, place.platform, person.id, person.name, owner=local, teacher=local)
        await self._database(self._store.note_person, known)
        return await self._database(self._store.known, self._bot, place.platform, person.id) or known

    def teaches(self, known: Known) -> bool:
        """Whether what `known` says about replies may train."""
        return self._teachers == "everyone" or known.owner or known.teacher

    async def claim(self, known: Known, given: str, at: float) -> bool:
        """Make `known` an owner if `given` is the code."""
        if not self.code.accepts(given):
            return False
        await self._database(self._store.claim_owner, self._bot, known.platform, known.person, at)
        return True
