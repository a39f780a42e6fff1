"""Takes in what arrives during one login, and passes it on. Knows nothing of logging in and of sending."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

from adapters.base import Health, Inbound, OwnerWrote, Person, Receive
from adapters.wechat_itchat.client import Client
from adapters.wechat_itchat.line import Line
from adapters.wechat_itchat.login_cache import LoginCache
from adapters.wechat_itchat.outgoing import OwnMessages
from adapters.wechat_itchat.people import People
from adapters.wechat_itchat.translate import to_inbound
from adapters.wechat_itchat.wire import Item, SendRefused, Unreachable, Unreadable

logger = logging.getLogger(__name__)


class Hearing:
    """`me` is the account itself; with `accept` friend requests are accepted."""

    def __init__(
        self,
        line: Line,
        client: Client,
        cache: LoginCache,
        people: People,
        own: OwnMessages,
        me: Person,
        receive: Receive,
        accept: bool,
        poll_pause: float,
    ) -> None:
        self._line = line
        self._client = client
        self._cache = cache
        self._people = people
        self._own = own
        self._me = me
        self._receive = receive
        self._accept = accept
        self._poll_pause = poll_pause

    async def take(self, wait: bool) -> None:
        """Fetch once, with `wait` when something arrives or half a minute later, and pass it on.

        The next call tells the server up to where we received: not before all was passed on. What was not comes
        again, after a restart too.
        """
        before = self._client.cursor
        messages, contacts = await self._line.ask(partial(self._client.poll, wait))
        try:
            for contact in contacts:
                await self._pass_on(await self._line.ask(partial(self._client.changed, contact)))
            for message in messages:
                await self._pass_on(await self._read(message))
        except BaseException:
            self._client.cursor = before
            raise
        if self._client.cursor != before:
            self._cache.received(self._client.cursor)
        if not messages:
            await asyncio.sleep(self._poll_pause)  # some news never end, and are none

    async def refresh(self) -> None:
        """What was kept may know too few people; whom it lacks is looked up when they write."""
        try:
            await self._line.ask(self._client.refresh)
        except Unreachable as trouble:
            logger.warning("wechat: %s", trouble)

    def tell_unclear(self) -> None:
        """Tell of those who can't be told apart since the login."""
        if names := self._people.unclear():
            logger.warning("%d names on wechat can't be told apart at this login", len(names))
            told = ", ".join(sorted(set(names)))
            what = "not told apart from others at this login, and so new to the bot"
            self._line.tell(Health("online", f"{what}: {told}. Give each a remark name in WeChat"))

    async def _read(self, message: Any) -> Item | None:
        try:
            item = await self._line.ask(partial(self._client.read, message))
        except Unreadable as trouble:
            self._line.tell(Health("online", f"{trouble}; it is left out"))
            return None
        if item and item.trouble:
            self._line.tell(Health("online", f"{item.trouble}; what could be read of it was taken"))
        return await self._requested(item) if item and item.kind == "request" else item

    async def _requested(self, request: Item) -> Item | None:
        """A friend request: accepted, or left for the phone."""
        if not self._accept:
            logger.info("a friend request waits on the phone of wechat (accept_friends is false)")
            return None
        try:
            return Item(request.id, "friend", await self._line.ask(partial(self._client.accept, request)))
        except SendRefused as refused:
            told = f"a friend request was not accepted (WeChat's number {refused.code}); accept it on the phone"
            self._line.tell(Health("online", told))
            return None

    async def _pass_on(self, item: Item | None) -> None:
        if item is None:
            return
        for inbound in to_inbound(item, self._people, self._me):
            if not self._is_echo(inbound):
                await self._receive(inbound)
        self.tell_unclear()

    def _is_echo(self, inbound: Inbound) -> bool:
        """Whether it is a message of the bot's own that came back."""
        return isinstance(inbound, OwnerWrote) and self._own.is_ours(inbound.id, inbound.chat, inbound.text)
