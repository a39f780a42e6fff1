"""A WeChat alt account as a platform, by itchat. Knows nothing of bots.

itchat blocks, so it runs in a thread of this adapter's that listens; what it heard is passed on in the event loop,
and it asks for more only after that. A second thread sends, because the first waits at the server for half a minute.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from adapters.base import (
    AdapterError,
    Capabilities,
    Finding,
    Health,
    Host,
    Person,
    Receive,
    Reply,
    Sent,
)
from adapters.wechat_itchat import private
from adapters.wechat_itchat.client import Client
from adapters.wechat_itchat.doctor import findings
from adapters.wechat_itchat.hearing import Hearing
from adapters.wechat_itchat.line import Line, Pauses
from adapters.wechat_itchat.login import Login
from adapters.wechat_itchat.login_cache import LoginCache
from adapters.wechat_itchat.outgoing import MAX_CHARS, OwnMessages
from adapters.wechat_itchat.people import People, new_id
from adapters.wechat_itchat.sending import Outlet
from adapters.wechat_itchat.settings import BAN_RISK, ItchatSettings
from adapters.wechat_itchat.wire import LoggedOut, Unreachable

logger = logging.getLogger(__name__)

NOT_STORED = "what arrived could not be stored, the log says why"


class ItchatAdapter:
    """One account. `first_pause` is the first of the growing ones without a network, `poll_pause` between polls
    that the server answers at once."""

    name = "wechat"
    capabilities = Capabilities(max_chars=MAX_CHARS)

    def __init__(
        self,
        settings: ItchatSettings,
        host: Host,
        *,
        first_pause: float = 1.0,
        poll_pause: float = 1.0,
        new_id: Callable[[], str] = new_id,
    ) -> None:
        self._settings = settings
        self._host = host
        self._poll_pause = poll_pause
        self._new_id = new_id
        self._pauses = Pauses(first_pause)
        self._cache = LoginCache(host.folder)
        self._line = Line(host.report, first_pause)
        self._login = Login(self._line, self._cache, settings.qr_pause, poll_pause)
        self._outlet = Outlet(settings)

    async def run(self, receive: Receive) -> None:
        """Take part until cancelled."""
        logger.warning("wechat for %s: %s", self._host.bot, BAN_RISK)
        self._line.tell(Health("starting"))
        self._line.open()
        self._outlet.open()
        try:
            private.check_folder(self._host.folder)
            await self._take_part(receive)
        except (private.Unsafe, OSError) as error:
            raise AdapterError(f"wechat can't keep its files: {error}") from error
        finally:
            self._login.hang_up()
            await self._line.close()
            await self._outlet.close()

    async def send(self, reply: Reply) -> Sent:
        """Deliver `reply`, piece by piece where that is set. A retry goes on where the last try failed."""
        return await self._outlet.send(reply)

    def stream(self, chat: str, exchange: str, candidate: int, text: str) -> None:
        """Nothing: WeChat shows whole messages only."""

    @staticmethod
    async def diagnose(settings: ItchatSettings, host: Host) -> list[Finding]:
        """What `nightschool doctor` shows."""
        return await findings(host)

    async def _take_part(self, receive: Receive) -> None:
        client, said = await self._login.kept()
        while True:
            kept = client is not None
            client = client or await self._login.fresh(said)
            try:
                await self._hear(client, receive, kept)
            except LoggedOut:
                self._login.hang_up()
                self._outlet.shut()
                self._cache.forget()
                client, said = None, "the login was ended, by the phone or by WeChat; "
                self._line.tell(Health("offline", f"{said}a new code is fetched"))

    async def _hear(self, client: Client, receive: Receive, kept: bool) -> None:
        """Pass on what arrives, until the login is over. A kept login may be: its first call does not wait."""
        hearing = self._enter(client, receive)
        wait = not kept
        if wait:
            self._well(hearing)
        while True:
            try:
                await hearing.take(wait)
            except (LoggedOut, private.Unsafe):
                raise
            except Unreachable as trouble:
                await self._line.wait_out(str(trouble), self._pauses)
            except Exception:  # whatever it is: what is not stored is not acknowledged, and comes again
                logger.exception("what arrived on wechat could not be taken in; it will be fetched again")
                await self._line.wait_out(NOT_STORED, self._pauses)
            else:
                if not wait:
                    await hearing.refresh()
                wait = True
                self._well(hearing)

    def _enter(self, client: Client, receive: Receive) -> Hearing:
        """Know the account's people, and let replies out."""
        account, folder = client.account, self._host.folder
        people = People(folder / f"people-{account.key}.json", self._new_id)
        own = OwnMessages(folder / f"sent-{account.key}.json")
        people.enter(account, client.friends())
        self._outlet.connect(client, people, own)
        me = Person(f"self-{account.key}", account.nickname)
        accept = self._settings.accept_friends
        return Hearing(self._line, client, self._cache, people, own, me, receive, accept, self._poll_pause)

    def _well(self, hearing: Hearing) -> None:
        """All is well again, if it was not."""
        self._pauses.reset()
        if self._line.health.state != "online":
            self._line.tell(Health("online"))
        hearing.tell_unclear()
