"""Takes what a gateway told, one thing after the other, and passes on what it means. Sends nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from adapters.base import Health, Inbound, Joined, Person, Receive
from adapters.wechat_wechaty import gateway as wire
from adapters.wechat_wechaty.compat import Library
from adapters.wechat_wechaty.gateway import Event, Gateway
from adapters.wechat_wechaty.own import Echoes
from adapters.wechat_wechaty.settings import WechatySettings
from adapters.wechat_wechaty.translate import (
    Account,
    Received,
    chat_of,
    scan_health,
    to_inbound,
    to_joined,
    to_owner_wrote,
    wants_names,
)

log = logging.getLogger(__name__)

LOGGED_OUT = "the account was logged out; a login code follows, or restart the gateway"
TRIES = 2  # connections on which one thing is asked for
LOST = ("CANCELLED", "DEADLINE_EXCEEDED", "UNAUTHENTICATED", "UNAVAILABLE")  # nothing is wrong with what was asked for


class Events:
    """What was told. How the login stands is known at once; the rest waits here for a login, also over a lost
    connection: what could not be asked for on one is asked for on the next."""

    def __init__(self, settings: WechatySettings, echoes: Echoes, report: Callable[[Health], None]) -> None:
        self.online = asyncio.Event()
        self._account = Account("")  # who was logged in last
        self._settings = settings
        self._echoes = echoes
        self._report = report
        self._told: asyncio.Queue[Event] = asyncio.Queue()
        self._open: Event | None = None
        self._tries = 0
        self._login_seen = False

    def add(self, event: Event) -> None:
        """Called by the gateway's reader."""
        match event.kind:
            case wire.SCAN:
                self._login_seen = True
                self.online.clear()
                self._report(scan_health(event.number("status"), event.text("qrcode")))
            case wire.LOGIN:
                self._login_seen = True
                self._account = Account(event.text("contactId"))
                self.online.set()
                self._report(Health("online"))
            case wire.LOGOUT:
                self.online.clear()
                self._report(Health("offline", LOGGED_OUT))
            case wire.ERROR:
                log.debug("the gateway told of an error: %s", event.fields)
                if not self._login_seen:
                    self._report(Health("offline", "the gateway can't begin a login; its own log says why"))
            case wire.MESSAGE | wire.ROOM_JOIN | wire.FRIENDSHIP:
                self._told.put_nowait(event)

    async def work(self, gateway: Gateway, library: Library, receive: Receive) -> None:
        """Handle things in their order until the connection fails or this is cancelled."""
        while True:
            if self._open is None:
                self._open, self._tries = await self._told.get(), 0
            await self.online.wait()
            self._tries += 1
            try:
                for inbound in await self._understand(self._open, gateway):
                    await receive(inbound)
            except library.failures as error:
                status = _status(error)
                lost = not isinstance(error, library.refused) or status in LOST
                if not lost or self._tries >= TRIES:
                    log.warning("the gateway does not tell more: event=%d status=%s", self._open.kind, status)
                    self._open = None
                if lost:
                    raise
            except Exception:  # one event that fails keeps no later one from being heard
                log.exception("an event could not be handled: event=%d", self._open.kind)
            self._open = None

    async def _understand(self, event: Event, gateway: Gateway) -> list[Inbound]:
        if event.kind == wire.ROOM_JOIN:
            return await self._newcomers(event, gateway)
        if event.kind == wire.FRIENDSHIP:
            return await self._friendship(event.text("friendshipId"), gateway)
        found = await self._message(event.text("messageId"), gateway)
        return [found] if found else []

    async def _message(self, id: str, gateway: Gateway) -> Inbound | None:
        received = await gateway.message(id)
        if not received.talker:
            return None
        if received.talker == self._account.id:
            chat = chat_of(received, self._account)
            ours = self._echoes.is_ours(received.id, chat, received.text)
            return None if ours else to_owner_wrote(received, self._account)
        if received.room:
            person = await gateway.member(received.room, received.talker)
            return to_inbound(received, await self._named(self._account, received, gateway), person)
        person, official = await gateway.contact(received.talker)
        return None if official else to_inbound(received, self._account, person)

    async def _named(self, account: Account, received: Received, gateway: Gateway) -> Account:
        """The account with its names in the message's room, where they matter."""
        if not wants_names(received):
            return account
        member = await gateway.member(received.room, account.id)
        contact, _ = await gateway.contact(account.id)
        return Account(account.id, tuple(name for name in (member.name, contact.name) if name))

    async def _newcomers(self, event: Event, gateway: Gateway) -> list[Inbound]:
        room, ids = event.text("roomId"), event.fields.get("inviteeIdList") or []
        people: list[Person] = [await gateway.member(room, str(id)) for id in ids]
        return [*to_joined(room, people, event.text("timestamp"), self._account)]

    async def _friendship(self, id: str, gateway: Gateway) -> list[Inbound]:
        kind, contact = await gateway.friendship(id)
        if kind == wire.ASKED and self._settings.accept_friends:
            await gateway.accept(id)
        if kind != wire.CONFIRMED:
            return []
        person, _ = await gateway.contact(contact)
        return [Joined(f"friend:{id}", contact, person)]


def _status(error: Exception) -> str:
    return str(getattr(getattr(error, "status", None), "name", ""))
