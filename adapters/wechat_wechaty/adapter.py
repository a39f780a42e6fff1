"""WeChat as a platform, through a wechaty gateway: keeps the connection and sends. Knows no bot."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from weakref import WeakValueDictionary

from adapters.base import (
    AdapterError,
    Capabilities,
    DeliveryFailed,
    Finding,
    Health,
    Host,
    Receive,
    Reply,
    Sent,
)
from adapters.wechat_wechaty.compat import Library, load
from adapters.wechat_wechaty.events import Events
from adapters.wechat_wechaty.gateway import CALL_SECONDS, Gateway
from adapters.wechat_wechaty.own import Echoes
from adapters.wechat_wechaty.settings import WechatySettings
from adapters.wechat_wechaty.translate import MAX_CHARS, in_group, parts_of

log = logging.getLogger(__name__)

WARNING = (
    "WeChat forbids bots on personal accounts: the account of bot %s may be logged out, barred or closed "
    "for good at any time; use one that you can lose"
)
LONGEST_PAUSE = 60.0
LONGEST_TYPING = 8.0
REMEMBERED = 1000


class WechatyAdapter:
    """One account at one gateway. Any number of these can live in one process, each with its own gateway."""

    name = "wechaty"
    capabilities = Capabilities(max_chars=MAX_CHARS)

    def __init__(
        self,
        settings: WechatySettings,
        host: Host,
        *,
        first_pause: float = 1.0,
        probe: float = 60.0,
        patience: float = CALL_SECONDS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._host = host
        self._first_pause = first_pause
        self._probe = probe
        self._patience = patience
        self._sleep = sleep
        self._echoes = Echoes(time.monotonic)
        self._events = Events(settings, self._echoes, host.report)
        self._gateway: Gateway | None = None
        self._library: Library | None = None
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._out: OrderedDict[str, list[str]] = OrderedDict()  # per reply: the ids of its parts that went out

    async def run(self, receive: Receive) -> None:
        """Take part until cancelled; a lost gateway is looked for again, ever more slowly."""
        self._library = library = load()
        if self._settings.token_fault:
            raise AdapterError(self._settings.token_fault)
        log.warning(WARNING, self._host.bot)
        self._host.report(Health("starting"))
        pause = self._first_pause
        while True:
            began = time.monotonic()
            reason = await self._session(library, receive)
            if time.monotonic() - began > LONGEST_PAUSE:
                pause = self._first_pause
            self._host.report(Health("offline", f"{reason}; trying again in {pause:g} s"))
            log.warning("the gateway is lost: bot=%s reason=%s again_in=%g", self._host.bot, reason, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def send(self, reply: Reply) -> Sent:
        """Send `reply` in parts. What went out before a failure is not sent again with the same id."""
        lock = self._locks.setdefault(reply.chat, asyncio.Lock())
        async with lock:
            done = self._out.setdefault(reply.id, [])
            while len(self._out) > REMEMBERED:
                self._out.popitem(last=False)
            parts = parts_of(reply, self._settings.human_like)
            for part in parts[len(done) :]:
                if self._settings.human_like:
                    await self._sleep(min(len(part) / self._settings.typing_speed, LONGEST_TYPING))
                mention = reply.to.id if reply.to and in_group(reply) and not done else ""
                done.append(await self._send_part(reply.chat, part, mention))
            return Sent(tuple(done) if all(done) else ())

    def stream(self, chat: str, exchange: str, candidate: int, text: str) -> None:
        """WeChat shows no growing text."""

    async def _send_part(self, chat: str, text: str, mention: str) -> str:
        gateway, library = self._gateway, self._library
        if gateway is None or library is None or not self._events.online.is_set():
            raise DeliveryFailed("the wechaty gateway is not connected, or nobody is logged in there")
        self._echoes.expect(chat, text)
        try:
            message = await gateway.send(chat, text, mention)
        except library.failures as error:
            if isinstance(error, library.refused):
                self._echoes.forget(chat, text)
            raise DeliveryFailed(f"the wechaty gateway did not send it: {type(error).__name__}") from error
        self._echoes.sent_as(message, chat, text)
        return message

    async def _session(self, library: Library, receive: Receive) -> str:
        """One connection, until it ends; returns why."""
        self._gateway = gateway = Gateway(library, self._settings, self._events.add, self._patience)
        jobs = [
            asyncio.create_task(gateway.listen()),
            asyncio.create_task(self._events.work(gateway, library, receive)),
            asyncio.create_task(self._watch(gateway, library)),
        ]
        try:
            done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            error = next(job for job in jobs if job in done).exception()
            if error is not None and not isinstance(error, library.failures):
                log.error("the connection ended by a fault of ours: bot=%s", self._host.bot, exc_info=error)
            return _reason(error, self._settings)
        finally:
            self._gateway = None
            self._events.online.clear()
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            gateway.close()

    async def _watch(self, gateway: Gateway, library: Library) -> None:
        """Ends when the gateway stops answering: a tunnel that fell asleep tells nobody."""
        while True:
            await asyncio.sleep(self._probe)
            with contextlib.suppress(library.refused):  # that is an answer, too
                await gateway.alive()

    @staticmethod
    async def diagnose(settings: WechatySettings, host: Host) -> list[Finding]:
        """Is the library there, is a token set, does the gateway take it?"""
        try:
            library = load()
        except AdapterError as error:
            return [Finding("wechaty's library", False, str(error))]
        found = [Finding("wechaty's library", True)]
        if settings.token_fault:
            return [*found, Finding("the gateway's token", False, settings.token_fault)]
        gateway = Gateway(library, settings, lambda event: None)
        try:
            await gateway.check()
        except library.failures as error:
            return [*found, Finding(f"the gateway at {settings.endpoint}", False, _reason(error, settings))]
        finally:
            gateway.close()
        return [*found, Finding(f"the gateway at {settings.endpoint}", True)]


def _reason(error: BaseException | None, settings: WechatySettings) -> str:
    """Why a connection ended, and what to do."""
    if error is None:
        return "the gateway ended the connection: does another program use it? A gateway serves one bot"
    if getattr(getattr(error, "status", None), "name", "") == "UNAUTHENTICATED":
        return f"the gateway refused the token: {settings.token_env} must hold the one that it was started with"
    if isinstance(error, TimeoutError):
        return f"the gateway at {settings.endpoint} does not answer; look at the gateway and the tunnel to it"
    if isinstance(error, OSError):
        return f"nothing listens at {settings.endpoint}; start the gateway, or correct endpoint"
    return f"the connection to the gateway at {settings.endpoint} broke ({type(error).__name__})"
