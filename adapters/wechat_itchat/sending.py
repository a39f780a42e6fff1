"""Sends replies through a client, in a thread of its own. Knows nothing of how one logs in."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol
from weakref import WeakValueDictionary

from adapters.base import DeliveryFailed, Reply, Sent
from adapters.wechat_itchat.outgoing import OwnMessages, parts, pause
from adapters.wechat_itchat.settings import ItchatSettings
from adapters.wechat_itchat.wire import SendRefused, Unreachable

BEGUN = 1000  # replies of which is known how far they went
TOO_OFTEN = 1205
OFTEN_PAUSE = 120.0
UNKNOWN_PAUSE = 600.0
GROUP = "@@"  # begins the platform's id of a group
OVER = (1100, 1101, 1102)


class Sends(Protocol):
    """What can send plain text to somebody of this login."""

    def send(self, username: str, text: str) -> str: ...


class Knows(Protocol):
    """Who somebody is in this login."""

    def username(self, lasting: str) -> str | None: ...


class Outlet:
    """Where replies leave. Each chat has its own order; a chat that pauses keeps no other waiting."""

    def __init__(self, settings: ItchatSettings) -> None:
        self._settings = settings
        self._thread: ThreadPoolExecutor | None = None
        self._to: tuple[Sends, Knows, OwnMessages] | None = None
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._begun: OrderedDict[str, list[str]] = OrderedDict()

    def open(self) -> None:
        """Have a thread."""
        self._thread = ThreadPoolExecutor(1, "wechat-sending")

    def connect(self, client: Sends, people: Knows, own: OwnMessages) -> None:
        """Send by `client` from now on."""
        self._to = client, people, own

    def shut(self) -> None:
        """Send nothing from now on."""
        self._to = None

    async def close(self) -> None:
        """End the thread; waits for what is under way."""
        self.shut()
        if self._thread:
            await asyncio.to_thread(partial(self._thread.shutdown, cancel_futures=True))

    async def send(self, reply: Reply) -> Sent:
        """Send what of `reply` has not gone out yet. Raises DeliveryFailed."""
        async with self._locks.setdefault(reply.chat, asyncio.Lock()):
            done = self._progress(reply.id)
            pieces = parts(reply, self._username(reply.chat).startswith(GROUP), self._settings.human_like)
            for number, piece in enumerate(pieces):
                if number < len(done):
                    continue
                if number and self._settings.human_like and reply.candidates is None:
                    await asyncio.sleep(pause(piece, self._settings))
                done.append(await self._deliver(reply.chat, piece))
            return Sent(tuple(done) if all(done) else ())

    def _progress(self, reply: str) -> list[str]:
        """The ids of the pieces that went out; a retry finds them again."""
        done = self._begun.setdefault(reply, [])
        self._begun.move_to_end(reply)
        if len(self._begun) > BEGUN:
            self._begun.popitem(last=False)
        return done

    async def _deliver(self, chat: str, text: str) -> str:
        """Send one message; its id, or ""."""
        username = self._username(chat)
        client, _, own = self._connected()
        own.sending(chat, text)
        try:
            number = await self._call(partial(client.send, username, text))
        except Unreachable as trouble:
            raise DeliveryFailed(str(trouble)) from trouble
        except SendRefused as refused:
            own.refused(chat, text)
            raise _failure(refused.code) from refused
        own.sent(chat, text, number)
        return number

    def _username(self, chat: str) -> str:
        """What the platform calls `chat` now."""
        _, people, _ = self._connected()
        if found := people.username(chat):
            return found
        raise DeliveryFailed(
            "since the last login this chat was not met or not recognised; it is found when they write",
            retry_after=UNKNOWN_PAUSE,
        )

    def _connected(self) -> tuple[Sends, Knows, OwnMessages]:
        if self._to is None:
            raise DeliveryFailed("wechat is not logged in; scan the login code")
        return self._to

    async def _call(self, call: Callable[[], str]) -> str:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except RuntimeError as closed:  # the thread was ended while this waited
            raise Unreachable("wechat was stopped") from closed


def _failure(code: int) -> DeliveryFailed:
    if code == TOO_OFTEN:
        return DeliveryFailed("WeChat says that this account sends too often (1205)", retry_after=OFTEN_PAUSE)
    if code in OVER:
        return DeliveryFailed(f"the login is over ({code}); scan the login code")
    return DeliveryFailed(f"WeChat refused the message (number {code})")
