"""Lets Telegram bring what is new: a small server behind a secret. Knows nothing of what updates say.

An update is answered with 200 only when it has been taken; anything else makes Telegram bring it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import hmac
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from telegram import WebhookInfo
from telegram.error import TelegramError

from adapters.base import Health
from adapters.telegram.client import ALLOWED_UPDATES, Client
from adapters.telegram.polling import Connect, Take, not_stored, pause
from adapters.telegram.settings import TelegramSettings
from adapters.telegram.timing import Backoff, Timing

HEADER = "X-Telegram-Bot-Api-Secret-Token"
MAX_BODY_BYTES = 1_000_000


class Webhook:
    """Takes part by a webhook until cancelled; `port` is the real one once it listens."""

    def __init__(
        self, settings: TelegramSettings, client: Client, timing: Timing, report: Callable[[Health], None]
    ) -> None:
        self._settings = settings
        self._secret = settings.secret.get_secret_value()
        self._client = client
        self._timing = timing
        self._report = report
        self._backoff = Backoff(timing)
        self._take: Take | None = None  # None until it is known who the bot is
        self._in_turn = asyncio.Lock()
        self.port = 0

    async def run(self, connect: Connect, take: Take) -> None:
        """Give `take` each update in turn; `connect` says as whom it is connected."""
        async with self._listening():
            while True:
                try:
                    name = await connect()
                    self._take = take
                    await self._registered(name)
                except TelegramError as error:
                    self._report(self._client.health(error))
                    await pause(self._backoff, error)

    async def _registered(self, name: str) -> None:
        """Keep Telegram told where to bring updates, and look whether it can."""
        since = None
        while True:
            info = await self._client.bot.get_webhook_info()
            if since is None or info.url != self._settings.webhook_url:
                # One connection at a time, or messages of one chat could overtake each other.
                await self._client.bot.set_webhook(
                    self._settings.webhook_url,
                    secret_token=self._secret,
                    allowed_updates=ALLOWED_UPDATES,
                    max_connections=1,
                )
                since = dt.datetime.now(dt.UTC)
                self._report(Health("online", name))
            else:
                self._report(self._health(info, since, name))
            self._backoff.reset()
            await asyncio.sleep(self._timing.watch)

    def _health(self, info: WebhookInfo, since: dt.datetime, name: str) -> Health:
        if info.pending_update_count and info.last_error_date is not None and info.last_error_date >= since:
            return Health(
                "offline",
                f"Telegram can't bring updates to {self._settings.webhook_url} ({info.last_error_message}): "
                f"it must lead to {self._settings.listen}:{self.port}",
            )
        return Health("online", name)

    @contextlib.asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        listener = await self._bound()
        self.port = listener.getsockname()[1]
        app = Starlette(routes=[Route("/{path:path}", self._post, methods=["POST"])])
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1, server_header=False
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield
        finally:
            server.should_exit = True
            await serving
            listener.close()

    async def _bound(self) -> socket.socket:
        """The socket on which Telegram is awaited; waits for it while another program has it."""
        backoff = Backoff(self._timing)
        while True:
            try:
                return bind(self._settings.listen, self._settings.port)
            except OSError as error:
                where = f"{self._settings.listen}:{self._settings.port}"
                detail = f"the webhook can't listen on {where} ({error.strerror}): free it, or set another port"
                self._report(Health("offline", detail))
                await backoff.pause()

    async def _post(self, request: Request) -> Response:
        given = request.headers.get(HEADER, "")
        if not hmac.compare_digest(given.encode(), self._secret.encode()):
            return PlainTextResponse("wrong secret", 403)
        update = await _body(request)
        if update is None:
            return PlainTextResponse("no update", 400)
        if self._take is None:
            return PlainTextResponse("not ready", 503)
        async with self._in_turn:
            try:
                await self._take(update)
            except Exception as error:
                not_stored(error, self._report)
                return PlainTextResponse("not stored", 500)
        return Response(status_code=200)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(64)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


class _Server(uvicorn.Server):
    """Uvicorn without its own signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _body(request: Request) -> dict[str, Any] | None:
    """The update that was posted; None when it is none."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return None
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and isinstance(content.get("update_id"), int) else None
