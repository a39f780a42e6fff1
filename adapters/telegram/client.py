"""Telegram's Bot API through python-telegram-bot: connecting, asking for updates, what its errors mean.

Knows nothing of what updates say.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import logging
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import httpx
from telegram import Bot, Update
from telegram.error import BadRequest, Conflict, Forbidden, InvalidToken, RetryAfter, TelegramError
from telegram.request import HTTPXRequest

from adapters.base import AdapterError, DeliveryFailed, Health
from adapters.telegram.settings import TelegramSettings

log = logging.getLogger(__name__)

ALLOWED_UPDATES = ("message", "edited_message", "callback_query", "message_reaction")
_SECONDS = 20.0  # for one request; behind a proxy they are slow
_LONGEST_REASON = 300  # characters; a proxy may answer with a whole page


class _Request(HTTPXRequest):
    """PTB's own, but that it writes no answer into the log: one may hold what people said."""

    @staticmethod
    def parse_json_payload(payload: bytes) -> dict[str, Any]:
        try:
            parsed: dict[str, Any] = json.loads(payload.decode("utf-8", "replace"))
        except ValueError:
            raise TelegramError("the answer is no JSON") from None
        return parsed


class _Masked(logging.Filter):
    """Keeps a token out of the log; httpx writes every address, and the address holds it."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self._token = token

    def filter(self, record: logging.LogRecord) -> bool:
        if self._token in (message := record.getMessage()):
            record.msg, record.args = message.replace(self._token, "***"), ()
        return True


class Client:
    """One bot's connection. Made by `connection`."""

    def __init__(self, settings: TelegramSettings, token: str) -> None:
        self._settings = settings
        self._token = token
        self._polling = _request(settings, connections=2)
        self.bot = Bot(
            token,
            f"{settings.base_url}/bot",
            request=_request(settings, connections=64),
            get_updates_request=self._polling,
        )

    async def close(self) -> None:
        """Close what is open; PTB's own shutdown would leave it where no getMe succeeded."""
        await self._polling.shutdown()
        await self.bot.request.shutdown()

    async def updates(self, offset: int | None, seconds: int) -> list[dict[str, Any]]:
        """What is new from `offset` on, as it came; waits up to `seconds` for it. Confirms all before `offset`.

        Not by PTB's get_updates, which refuses the whole batch for one update that it can't read.
        """
        asked: dict[str, Any] = {"timeout": seconds, "allowed_updates": json.dumps(ALLOWED_UPDATES)}
        if offset is not None:
            asked["offset"] = offset
        url = f"{self.bot.base_url}/getUpdates?{urlencode(asked)}"
        found = await self._polling.post(url, read_timeout=seconds + _SECONDS)
        if not isinstance(found, list):
            raise TelegramError("the answer to getUpdates is no list")
        return found

    def read(self, update: dict[str, Any]) -> Update | None:
        """The update as PTB's object; None when it can't be read, which is logged."""
        try:
            return Update.de_json(update, self.bot)
        except Exception as error:
            log.error("telegram: update %s can't be read (%s)", update.get("update_id"), type(error).__name__)
            log.debug("telegram: the update that can't be read", exc_info=True)
            return None

    def reason(self, error: Exception) -> str:
        """What went wrong, in a line without the token."""
        return str(error).replace(self._token, "***")[:_LONGEST_REASON]

    def health(self, error: TelegramError) -> Health:
        """How the bot stands after `error`, and what to do."""
        named = self._settings.token_env
        if isinstance(error, InvalidToken):
            return Health(
                "offline",
                f"Telegram refuses the token in {named}: copy it from @BotFather (/mybots, API Token) and start again",
            )
        if isinstance(error, Conflict):
            return Health(
                "offline",
                f"another instance is running with this token ({named}): stop it, or make another bot with @BotFather",
            )
        if isinstance(error, RetryAfter):
            return Health("offline", f"Telegram asks to wait {wait_of(error):.0f} s; it is done by itself")
        return Health(
            "offline",
            f"{self._settings.base_url} can't be reached ({self.reason(error)}): check the network; where Telegram "
            'is blocked, set a proxy, such as proxy = "socks5://127.0.0.1:1080"',
        )

    def failure(self, error: TelegramError) -> DeliveryFailed:
        """What an outbox is told of `error`."""
        if isinstance(error, RetryAfter):
            seconds = wait_of(error)
            return DeliveryFailed(f"Telegram asks to wait {seconds:.0f} s", retry_after=seconds)
        if isinstance(error, Forbidden):
            return DeliveryFailed(f"the bot may not write there: {self.reason(error)}", permanent=True)
        if isinstance(error, InvalidToken):
            return DeliveryFailed(self.health(error).detail)
        if isinstance(error, BadRequest):
            return DeliveryFailed(f"Telegram refuses the message: {self.reason(error)}", permanent=True)
        return DeliveryFailed(f"Telegram can't be reached: {self.reason(error)}")


@asynccontextmanager
async def connection(settings: TelegramSettings) -> AsyncIterator[Client]:
    """A client, closed at the end. Connects to nothing yet. Raises AdapterError for settings that can't work."""
    # PTB is about to give times as timedelta; without this it warns at each one that it still gives as a number.
    os.environ.setdefault("PTB_TIMEDELTA", "true")
    token = settings.token.get_secret_value()
    if not token:
        raise AdapterError(
            f"the environment variable {settings.token_env} is not set: put the bot's token there "
            "(@BotFather in Telegram gives one: /newbot)"
        )
    masked = _Masked(token)
    loggers = [logging.getLogger(name) for name in ("httpx", "telegram.Bot")]
    try:
        client = Client(settings, token)
    except (RuntimeError, ValueError, ImportError) as error:
        raise AdapterError(f'telegram: {error}; for a SOCKS proxy: pip install "nightschool[telegram]"') from error
    for logger in loggers:
        logger.addFilter(masked)
    try:
        yield client
    finally:
        await client.close()
        for logger in loggers:
            logger.removeFilter(masked)


def wait_of(error: RetryAfter) -> float:
    """How many seconds Telegram asks to wait."""
    wait = error.retry_after
    return wait.total_seconds() if isinstance(wait, dt.timedelta) else float(wait)


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Whom to trust; read once, because that takes a while."""
    return httpx.create_ssl_context()


def _request(settings: TelegramSettings, connections: int) -> HTTPXRequest:
    return _Request(
        connection_pool_size=connections,
        connect_timeout=_SECONDS,
        read_timeout=_SECONDS,
        write_timeout=_SECONDS,
        pool_timeout=_SECONDS,
        proxy=settings.proxy_url.get_secret_value() or None,
        httpx_kwargs={"verify": _certificates()},
    )
