"""What a slash command does. Knows nothing of platforms or models."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from adapters.base import Reply
from bots.access import Access
from bots.call import Call
from bots.database import Database
from bots.inbox import draft_of
from bots.intent import Command
from learner.store.rows import NewFeedback, Place
from learner.store.store import Store


class Nights(Protocol):
    """What commands need of the nightly runs: start one, and tell how things stand."""

    async def begin(self, mind: str, asked_in: Place) -> str | None:
        """Start a run and tell the chat how it ended; a sentence when it can't start."""
        ...

    async def summary(self, mind: str) -> dict[str, object]:
        """model, lora and records, for the status line."""
        ...


class Commands:
    """The commands of one bot: each returns the replies to it."""

    def __init__(self, mind: str, access: Access, nights: Nights, store: Store, database: Database) -> None:
        self._mind = mind
        self._access = access
        self._nights = nights
        self._store = store
        self._database = database
        self._runs: dict[str, Callable[[Call, str], Awaitable[Reply]]] = {
            "help": self._help,
            "undo": self._undo,
            "reset": self._reset,
            "status": self._status,
            "claim": self._claim,
            "learn": self._learn,
        }

    async def run(self, call: Call, command: Command) -> list[Reply]:
        """Do what `command` says."""
        return [await self._runs[command.name](call, command.argument)]

    async def _help(self, call: Call, _argument: str) -> Reply:
        return call.notice("help")

    async def _undo(self, call: Call, _argument: str) -> Reply:
        last = await self._database(self._store.latest_feedback, call.place, call.teacher)
        if last is None:
            return call.notice("nothing_to_take_back")
        trusted = self._access.teaches(call.known)
        retract = NewFeedback(last.exchange, call.teacher, trusted, "retract", "", "", call.arrived)
        notice = call.notice("taken_back")
        # One transaction with the inbox row: repeated after a crash, /undo would take back one more.
        await self._database(self._store.add_feedback, call.row.id, retract, [draft_of(notice, call.place)])
        return notice

    async def _reset(self, call: Call, _argument: str) -> Reply:
        await self._database(self._store.reset, call.place, call.arrived)
        return call.notice("reset")

    async def _status(self, call: Call, _argument: str) -> Reply:
        return call.notice("status", **await self._nights.summary(self._mind))

    async def _claim(self, call: Call, argument: str) -> Reply:
        if call.known.owner:
            return call.notice("claim_already")
        claimed = await self._access.claim(call.known, argument, call.arrived)
        return call.notice("claimed" if claimed else "claim_wrong")

    async def _learn(self, call: Call, _argument: str) -> Reply:
        if not call.known.owner:
            return call.notice("owner_only")
        refusal = await self._nights.begin(self._mind, call.place)
        return call.words(refusal) if refusal else call.notice("night_started")
