"""Weixin as a platform, through its official bot interface. Knows no bot; the calls and the files are its helpers'."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

import httpx

from adapters.base import Capabilities, DeliveryFailed, Finding, Health, Host, Person, Receive, Reply, Sent
from adapters.weixin.busy import GOODBYE, Typing
from adapters.weixin.doctor import findings
from adapters.weixin.hosts import trusted
from adapters.weixin.login import AGAIN, SCAN, QrLogin, StillBound
from adapters.weixin.pauses import Pauses
from adapters.weixin.receiving import Receiver
from adapters.weixin.sending import MAX_CHARS, Sender
from adapters.weixin.settings import WeixinSettings
from adapters.weixin.state import Login, State
from adapters.weixin.wire import Ilink, IlinkError, StaleLogin, http_client


class WeixinAdapter:
    """One login, which is one bot. Several of them can run in one process, each with its own folder.

    Not thread-safe: everything is called in the loop that `run` runs in.
    """

    name = "weixin"
    capabilities = Capabilities(max_chars=MAX_CHARS)

    def __init__(
        self,
        settings: WeixinSettings,
        host: Host,
        *,
        pauses: Pauses | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._base_url, self._host, self._clock = settings.base_url, host, clock
        self._pauses = pauses or Pauses()
        self._state = State(host.folder)
        self._sender = Sender(self._state, host.bot, clock)
        self._typing = Typing(self._state, self._pauses, clock)
        self._login: QrLogin | None = None
        self._ilink: Ilink | None = None  # while logged in
        self._doubted = False  # Weixin called the login valid, but has not answered to it since

    @staticmethod
    async def diagnose(settings: WeixinSettings, host: Host) -> list[Finding]:
        """What `nightschool doctor` shows."""
        return await findings(settings, host)

    async def run(self, receive: Receive) -> None:
        """Take part until cancelled, logging in whenever that is needed."""
        self._host.report(Health("starting"))
        async with http_client(self._base_url) as client:
            self._login = QrLogin(client, self._base_url, self._host.report, self._pauses)
            login = self._state.login or await self._log_in(client, SCAN)
            while True:
                await self._take_part(client, login, receive)
                login = await self._log_in(client, AGAIN)

    async def send(self, reply: Reply) -> Sent:
        """Deliver `reply`. Raises DeliveryFailed."""
        if self._ilink is None:
            raise DeliveryFailed("the bot is not logged in to Weixin; it sends once somebody scanned the login code")
        return await self._sender.send(self._ilink, reply)

    def stream(self, chat: str, exchange: str, candidate: int, text: str) -> None:
        """Nothing: a message can't grow here."""

    def busy(self, chat: str, on: bool) -> None:
        """Show "typing" in the chat, or end it."""
        if not on:
            self._typing.hide(chat)
        elif self._ilink is not None:
            self._typing.show(self._ilink, chat)

    def enter_code(self, code: str) -> None:
        """The digits that the phone shows at the login."""
        if self._login is not None:
            self._login.enter(code)

    async def _log_in(self, client: httpx.AsyncClient, why: str) -> Login:
        """A valid login, kept. Told in vain that an old one still is, we no longer offer its token."""
        assert self._login is not None
        while True:
            held = () if self._doubted else tuple(one.token for one in self._state.logins)
            outcome = await self._login.run(held, why)
            self._doubted = isinstance(outcome, StillBound)
            found = await self._still_valid(client) if isinstance(outcome, StillBound) else outcome
            if found is not None:
                self._state.logged_in(found)
                return found

    async def _still_valid(self, client: httpx.AsyncClient) -> Login | None:
        """The newest of our logins that Weixin does not call stale."""
        for login in self._state.logins:
            try:
                await self._calls(client, login).notify(True)
            except StaleLogin:
                continue
            except IlinkError:
                pass  # it says nothing of the login; receiving finds out
            return login
        return None

    def _calls(self, client: httpx.AsyncClient, login: Login) -> Ilink:
        return Ilink(client, trusted(self._base_url, login.base_url) or self._base_url, login.token)

    async def _take_part(self, client: httpx.AsyncClient, login: Login, receive: Receive) -> None:
        """Send and receive until the login is no longer valid."""
        if login.owner:
            await self._host.owned_by(Person(login.owner))
        ilink = self._calls(client, login)
        receiver = Receiver(ilink, login.bot, self._state, self._host.report, self._pauses, self._clock)
        self._ilink = ilink
        try:
            await receiver.run(receive)
        except asyncio.CancelledError:
            await self._say_goodbye(ilink)
            raise
        finally:
            self._ilink = None
            await self._typing.stop()
            self._doubted = self._doubted and not receiver.valid

    async def _say_goodbye(self, ilink: Ilink) -> None:
        with contextlib.suppress(IlinkError, TimeoutError):
            async with asyncio.timeout(GOODBYE):
                await ilink.notify(False)
