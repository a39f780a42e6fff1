"""Logs the account in: by what was kept of the last login, or by codes to scan. Knows nothing of messages."""

from __future__ import annotations

import asyncio
import logging

from adapters.base import Health
from adapters.wechat_itchat.client import Client
from adapters.wechat_itchat.line import Line
from adapters.wechat_itchat.login_cache import LoginCache
from adapters.wechat_itchat.private import Unsafe
from adapters.wechat_itchat.wire import CodeState, LoginRefused

logger = logging.getLogger(__name__)

SCAN = "scan the code with the phone of the alt account, and confirm there"
REFUSED_PAUSE = 4  # times the pause between codes, after WeChat let nobody in


class Login:
    """`code_pause` is between two codes, `poll_pause` between two questions about one."""

    def __init__(self, line: Line, cache: LoginCache, code_pause: float, poll_pause: float) -> None:
        self._line = line
        self._cache = cache
        self._code_pause = code_pause
        self._poll_pause = poll_pause
        self._client: Client | None = None

    def hang_up(self) -> None:
        """End what the client does."""
        if self._client:
            self._client.hang_up()

    async def kept(self) -> tuple[Client | None, str]:
        """A client with the login of the last run, or None and what to say about that."""
        try:
            kept = await self._line.ask(self._cache.load)
            if kept is None:
                return None, ""
            self._client = Client()
            self._client.restore(kept)
            return self._client, ""
        except (Unsafe, ValueError) as error:
            logger.warning("the kept login of wechat is not used: %s", error)
            return None, f"the kept login is not used: {error}; "

    async def fresh(self, said: str) -> Client:
        """A client with a new login; `said` stands before what the codes are shown with."""
        while True:
            self._client = client = Client()
            try:
                await self._show_codes(client, said)
                await self._line.insist(client.open)
                break
            except LoginRefused as refused:
                client.hang_up()
                said = f"{refused}; "
                self._line.tell(Health("offline", str(refused)))
                await asyncio.sleep(self._code_pause * REFUSED_PAUSE)
        try:
            await self._line.ask(lambda: self._cache.keep(client.keep()))
        except (Unsafe, OSError) as error:
            logger.error("the login of wechat can't be kept, the next start wants a scan: %s", error)
        return client

    async def _show_codes(self, client: Client, said: str) -> None:
        """One code at a time, the next only after the last has expired and a pause."""
        while True:
            link = await self._line.insist(client.fresh_code)
            self._line.tell(Health("login", said + SCAN, link))
            if await self._is_confirmed(client, link):
                return
            pause = self._code_pause
            self._line.tell(Health("login", f"{said}the code has expired; the next one comes in {pause:g} s"))
            await asyncio.sleep(pause)

    async def _is_confirmed(self, client: Client, link: str) -> bool:
        """Whether the code was confirmed before it expired."""
        state: CodeState = "waiting"
        while True:
            before, state = state, await self._line.insist(client.code_state)
            if state == "scanned" != before:
                self._line.tell(Health("login", "scanned; now confirm on the phone", link))
            if state in ("in", "expired"):
                return state == "in"
            await asyncio.sleep(self._poll_pause)
