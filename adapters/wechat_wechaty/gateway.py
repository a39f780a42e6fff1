"""The connection to a wechaty gateway: what it tells, and the calls that we make. Knows nothing of a bot."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from adapters.base import Person
from adapters.wechat_wechaty.compat import Library
from adapters.wechat_wechaty.settings import WechatySettings
from adapters.wechat_wechaty.translate import OFFICIAL, Received

MESSAGE, ERROR, FRIENDSHIP, ROOM_JOIN, SCAN, LOGIN, LOGOUT = 2, 16, 17, 19, 22, 25, 26
CONFIRMED, ASKED = 1, 2  # types of a friendship
CALL_SECONDS = 30.0


@dataclass(frozen=True)
class Event:
    """One thing that the gateway told: a number of the protocol, and its fields."""

    kind: int
    fields: dict[str, Any]

    def text(self, name: str) -> str:
        """The field `name`; "" where it is missing."""
        return str(self.fields.get(name) or "")

    def number(self, name: str) -> int:
        """The field `name`; 0 where it is missing."""
        found = self.fields.get(name)
        return found if isinstance(found, int) else 0


class Gateway:
    """One connection. After it was lost, a new one is made."""

    def __init__(
        self,
        library: Library,
        settings: WechatySettings,
        told: Callable[[Event], None],
        patience: float = CALL_SECONDS,
    ) -> None:
        token = settings.token.get_secret_value()
        options = library.PuppetOptions(token=token, end_point=settings.endpoint)
        self._service = _service_class(library)(options, told)
        self._address = settings.host, settings.port
        self._patience = patience
        self._refused = library.refused

    async def listen(self) -> None:
        """Start the account's session there and hand on what is told, until the connection ends."""
        await self._reach()
        await self._service.start()

    async def check(self) -> None:
        """Is it there, and does it take our token? Touches no session. Raises what a call raises."""
        await self._reach()
        self._service.connect()
        await self.alive()

    async def alive(self) -> None:
        """One call that does nothing. Raises when it is not answered."""
        await self._in_time(self._service.puppet_stub.version())

    async def send(self, chat: str, text: str, mention: str = "") -> str:
        """Send `text`; returns its id where the gateway tells one."""
        told = await self._in_time(self._service.message_send_text(chat, text, [mention] if mention else []))
        return told or ""

    async def message(self, id: str) -> Received:
        """The message of which only the id was told."""
        # The client's own message_payload fails at kinds of messages that are newer than it is.
        found = await self._in_time(self._service.puppet_stub.message_payload(id=id))
        mentions = tuple(found.mention_ids)
        return Received(id, int(found.type), found.from_id, found.to_id, found.room_id, found.text, mentions)

    async def contact(self, id: str) -> tuple[Person, bool]:
        """The contact, nameless where the gateway has no name yet, and whether it is an official account."""
        try:
            found = await self._in_time(self._service.contact_payload(id))
        except self._refused:
            return Person(id), False
        return Person(id, found.name), int(found.type) == OFFICIAL

    async def member(self, room: str, id: str) -> Person:
        """The member, by the name that they have in the room, if the gateway has one."""
        try:
            found = await self._in_time(self._service.room_member_payload(room, id))
        except self._refused:
            return Person(id)
        return Person(id, found.room_alias or found.name)

    async def friendship(self, id: str) -> tuple[int, str]:
        """What a friendship event is about: its type and the contact."""
        found = await self._in_time(self._service.puppet_stub.friendship_payload(id=id))
        return int(found.type), str(found.contact_id)

    async def accept(self, id: str) -> None:
        """Become friends with who asked."""
        await self._in_time(self._service.friendship_accept(id))

    def close(self) -> None:
        """Leave; the account stays logged in at the gateway."""
        if self._service.channel is not None:
            self._service.channel.close()

    async def _reach(self) -> None:
        """Fail at once where nobody listens: the client would hold up the whole process to find out."""
        async with asyncio.timeout(self._patience):
            _, writer = await asyncio.open_connection(*self._address)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def _in_time(self, call: Any) -> Any:
        async with asyncio.timeout(self._patience):
            return await call


def _service_class(library: Library) -> Any:
    client: Any = library.PuppetService

    class Service(client):
        """wechaty's client with another reader: its own ends at an error or a logout that has no field `data`,
        as today's gateways tell them, and hands messages on side by side, not in order."""

        def __init__(self, options: Any, told: Callable[[Event], None]) -> None:
            super().__init__(options)
            self._told = told

        def connect(self) -> None:
            """Make the channel, without starting anything."""
            self._init_puppet()

        async def _listen_for_event(self) -> None:
            async for response in self.puppet_stub.event():
                if response is not None:
                    self._told(Event(int(response.type), _fields(response.payload)))

    return Service


def _fields(payload: str) -> dict[str, Any]:
    try:
        found = json.loads(payload or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
