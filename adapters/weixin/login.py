"""Logs in by QR code: shows codes until one is confirmed. Knows nothing of messages or files."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from adapters.base import Health
from adapters.weixin.hosts import trusted
from adapters.weixin.pauses import Doubling, Pauses
from adapters.weixin.state import Login
from adapters.weixin.wire import Code, Ilink, IlinkError, Slow, Status

logger = logging.getLogger(__name__)

CODES = 3  # that may expire before a rest
SCAN = "scan this code with Weixin on your phone to log in"
AGAIN = "Weixin ended the login; scan this code with Weixin on your phone to log in again"
WAIT = Status("wait")


@dataclass(frozen=True)
class StillBound:
    """The person is bound to this bot already: the login we hold is valid."""


@dataclass(frozen=True)
class Lapsed:
    """The code is of no more use; `why` is said with the next one."""

    why: str


class QrLogin:
    """One login at a time. `enter` gives it the digits that the phone shows, when it asked for them."""

    def __init__(
        self, client: httpx.AsyncClient, base_url: str, report: Callable[[Health], None], pauses: Pauses
    ) -> None:
        self._ilink = Ilink(client, base_url)
        self._client, self._report, self._pauses = client, report, pauses
        self._asked: asyncio.Future[str] | None = None

    def enter(self, digits: str) -> None:
        """The person typed `digits`. Ignored while nobody asked."""
        if self._asked is not None and not self._asked.done() and digits.strip():
            self._asked.set_result(digits.strip())

    async def run(self, held: tuple[str, ...], why: str) -> Login | StillBound:
        """Show codes until somebody logs in. `held` are the tokens of earlier logins."""
        rest = Doubling(self._pauses.rest, self._pauses.longest_rest)
        while True:
            said = why
            for _ in range(CODES):
                outcome = await self._watch(await self._fresh(held), said)
                if not isinstance(outcome, Lapsed):
                    return outcome
                said = f"{outcome.why}; {why}"
            pause = rest.next()
            waiting = f"{CODES} login codes were not used; the next one is shown in {pause:.0f} s"
            self._report(Health("offline", waiting))
            await asyncio.sleep(pause)

    async def _fresh(self, held: tuple[str, ...]) -> Code:
        """A new code, as soon as the server can be reached."""
        pauses = Doubling(self._pauses.first, self._pauses.longest)
        while True:
            try:
                return await self._ilink.qrcode(held)
            except IlinkError as error:
                pause = pauses.next()
                self._report(Health("offline", f"no login code: {error}; the next try is in {pause:.0f} s"))
                await asyncio.sleep(pause)

    async def _watch(self, code: Code, why: str) -> Login | StillBound | Lapsed:
        """Follow `code` to its end."""
        ilink, digits, before = self._ilink, "", ""
        clock = asyncio.get_running_loop().time
        end = clock() + self._pauses.code_life
        self._report(Health("login", why, qr=code.link))
        while clock() < end:
            status = await self._status(ilink, code, digits, why)
            match status.name:
                case "confirmed" if status.token and status.bot:
                    return self._confirmed(status)
                case "confirmed":
                    return Lapsed("Weixin confirmed the login but sent no credentials")
                case "binded_redirect":
                    return StillBound()
                case "expired":
                    return Lapsed("the last code expired")
                case "verify_code_blocked":
                    return Lapsed("there were too many wrong digits")
                case "need_verifycode":
                    digits = await self._digits(wrong=bool(digits), seconds=end - clock())
                    continue
                case "scaned_but_redirect":
                    ilink = self._redirected(ilink, status.redirect_host)
                case "scaned":
                    digits = ""
                    if before != "scaned":
                        self._report(Health("login", "the code was scanned; confirm the login on the phone"))
            before = status.name
            await asyncio.sleep(self._pauses.poll)
        return Lapsed("the last code expired")

    async def _status(self, ilink: Ilink, code: Code, digits: str, why: str) -> Status:
        """What became of `code`; a server that can't be reached has said nothing yet."""
        try:
            return await ilink.qrcode_status(code, digits)
        except Slow:
            return WAIT
        except IlinkError as error:
            self._report(Health("login", f"{why} ({error}; trying again)", qr=code.link))
            await asyncio.sleep(self._pauses.first)
            return WAIT

    async def _digits(self, *, wrong: bool, seconds: float) -> str:
        """Ask for the digits on the phone; "" where nobody typed any in time."""
        detail = "the digits were wrong; type" if wrong else "type"
        self._report(Health("login", f"{detail} the digits that Weixin shows on your phone", wants_code=True))
        self._asked = asyncio.get_running_loop().create_future()
        try:
            return await asyncio.wait_for(self._asked, max(seconds, 0))
        except TimeoutError:
            return ""
        finally:
            self._asked = None

    def _confirmed(self, status: Status) -> Login:
        base = trusted(self._ilink.base_url, status.base_url) if status.base_url else self._ilink.base_url
        if base is None:
            logger.warning("weixin named an address that is not its own; using %s", self._ilink.base_url)
        logger.info("weixin login confirmed bot=%s", status.bot)
        return Login(status.token, status.bot, base or self._ilink.base_url, status.owner)

    def _redirected(self, ilink: Ilink, host: str) -> Ilink:
        """Go on asking at `host`, where that is Weixin's own."""
        base = trusted(self._ilink.base_url, host) if host else None
        if base is None:
            logger.warning("weixin sent the login on to a host that is not its own; staying at %s", ilink.base_url)
            return ilink
        return Ilink(self._client, base)
