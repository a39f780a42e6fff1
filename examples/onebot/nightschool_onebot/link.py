"""One WebSocket connection to a OneBot implementation: events come out, calls go in and are answered.

Knows nothing of what events mean. Errors: LinkLost > TokenRefused.
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import json
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.http11 import Request, Response

from nightschool_onebot.settings import OneBotSettings

log = logging.getLogger(__name__)
MAX_FRAME = 16 * 2**20  # bytes; forwarded conversations come as one event
REFUSED = (1401, 1403)  # retcodes that stand for HTTP's 401 and 403


class LinkLost(Exception):
    """The connection broke, or a call was not answered in time."""


class TokenRefused(LinkLost):
    """The other side does not accept our token."""


class Link:
    """Speaks over one open WebSocket."""

    def __init__(self, socket: Connection, answer_seconds: float) -> None:
        self._socket = socket
        self._answer_seconds = answer_seconds
        self._numbers = itertools.count(1)
        self._calls: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._refused = False

    async def listen(self, take: Callable[[dict[str, Any]], None]) -> None:
        """Pass every event to `take` until the connection ends, which is a LinkLost."""
        reason = "OneBot closed the connection"
        try:
            async for frame in self._socket:
                self._sort(frame, take)
        except ConnectionClosed as error:
            reason = f"the connection to OneBot broke ({type(error).__name__})"
        finally:
            lost = TokenRefused() if self._refused else LinkLost(reason)
            for call in self._calls.values():
                if not call.done():
                    call.set_exception(lost)
        raise lost

    async def call(self, action: str, **params: object) -> dict[str, Any]:
        """OneBot's answer to `action`, whatever it says. Raises LinkLost; then it may have been done or not."""
        echo = str(next(self._numbers))
        self._calls[echo] = answer = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._answer_seconds):
                await self._socket.send(json.dumps({"action": action, "params": params, "echo": echo}))
                return await answer
        except TimeoutError as error:
            raise LinkLost(f"OneBot did not answer {action} in {self._answer_seconds:g} s") from error
        except ConnectionClosed as error:
            raise TokenRefused() if self._refused else LinkLost("OneBot closed the connection") from error
        finally:
            del self._calls[echo]
            answer.cancel()

    def drop(self) -> None:
        """End the connection without waiting for the other side, which may be gone."""
        self._socket.transport.abort()

    def _sort(self, frame: str | bytes, take: Callable[[dict[str, Any]], None]) -> None:
        try:
            got = json.loads(frame)
        except ValueError:
            got = None
        if not isinstance(got, dict):
            log.warning("OneBot sent a frame that is no JSON object")
        elif "post_type" in got:
            take(got)
        elif (call := self._calls.get(str(got.get("echo")))) is not None and not call.done():
            call.set_result(got)
        elif got.get("retcode") in REFUSED:
            self._refused = True


class Line(Protocol):
    """A way to come to a Link."""

    async def hold(self, talk: Callable[[Link], Awaitable[None]]) -> None:
        """Let `talk` have each Link that comes about, until that is over. Raises LinkLost."""
        ...


class Forward:
    """We connect to OneBot."""

    def __init__(self, settings: OneBotSettings) -> None:
        self._settings = settings

    async def hold(self, talk: Callable[[Link], Awaitable[None]]) -> None:
        """One connection, from its start to its end."""
        token = self._settings.token.get_secret_value()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            async with connect(
                self._settings.url, additional_headers=headers, proxy=None, max_size=MAX_FRAME, logger=_wire_log()
            ) as socket:
                await talk(Link(socket, self._settings.answer_seconds))
        except InvalidStatus as error:
            if error.response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                raise TokenRefused() from error
            raise LinkLost(f"OneBot answers with HTTP status {error.response.status_code}") from error
        except (OSError, WebSocketException, EOFError) as error:
            raise LinkLost(f"can't reach OneBot at {self._settings.url} ({type(error).__name__})") from error


class Reverse:
    """OneBot connects to us. Pages in a browser can't: they send an Origin, which is refused."""

    def __init__(self, settings: OneBotSettings) -> None:
        self._settings = settings

    async def hold(self, talk: Callable[[Link], Awaitable[None]]) -> None:
        """Keep the port open; returns never."""

        async def greet(socket: ServerConnection) -> None:
            await talk(Link(socket, self._settings.answer_seconds))

        host, port = self._settings.address
        try:
            async with serve(
                greet, host, port, process_request=self._check, origins=[None], max_size=MAX_FRAME, logger=_wire_log()
            ):
                await asyncio.Event().wait()
        except OSError as error:
            raise LinkLost(f"can't listen on {self._settings.listen} ({error.strerror}); free the port") from error

    def _check(self, socket: ServerConnection, request: Request) -> Response | None:
        token = self._settings.token.get_secret_value()
        _, _, offered = request.headers.get("Authorization", "").partition(" ")
        offered = offered or parse_qs(urlsplit(request.path).query).get("access_token", [""])[0]
        if token and not hmac.compare_digest(offered.encode(), token.encode()):
            log.warning("a OneBot connection with a wrong token was refused")
            return socket.respond(HTTPStatus.UNAUTHORIZED, "wrong access token\n")
        if request.headers.get("X-Client-Role", "Universal") != "Universal":
            return socket.respond(HTTPStatus.BAD_REQUEST, "configure one connection for events and calls (Universal)\n")
        return None


def _wire_log() -> logging.Logger:
    """For the library, which logs headers and frames at DEBUG: the token and people's words."""
    wire = logging.getLogger(f"{__name__}.wire")
    wire.setLevel(logging.WARNING)
    return wire
