"""Keeps other web pages and strangers out: Host, Origin, content type, token. Knows no routes but what is private.

A page elsewhere can make a browser send requests here, and with a DNS name that it points at
127.0.0.1 even read the answers. It can choose neither the Host nor the Origin header.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.base import AdapterError
from adapters.web.wire import Json, error

LOGIN_PATH = "/api/login"
COOKIE_SECONDS = 30 * 24 * 3600
FAILURE_SECONDS = 0.5
SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?")
_ADD = "allowed_hosts under [adapters.web] adds names"
_DEFAULT_PORT = {"http": 80, "https": 443}

Authority = tuple[str, int | None]


def parse_authority(text: str) -> Authority | None:
    """`name:port`, `name`, `[::1]:port` -> (name, port or None); None when it is none of these."""
    match = _AUTHORITY.fullmatch(text.lower())
    if match is None:
        return None
    return match[1].strip("[]"), int(match[2]) if match[2] else None


def is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Hosts:
    """Which Host and Origin headers mean this server. Port 0: whichever port it really listens on."""

    def __init__(self, host: str, port: int, allowed: tuple[str, ...]) -> None:
        own = host.lower().strip("[]")
        self._own = "" if own in ("0.0.0.0", "::") else own  # these mean every address: no name of ours
        self._port = port
        self._allowed = {self._entry(text) for text in allowed}

    @staticmethod
    def _entry(text: str) -> Authority:
        entry = parse_authority(text)
        if entry is None:
            raise AdapterError(
                f"allowed_hosts under [adapters.web] has {text!r}; write 'name' or 'name:port', no http://"
            )
        return entry

    def _is_allowed(self, name: str, port: int | None, own_port: int) -> bool:
        if (name, port) in self._allowed:
            return True
        return (name, None) in self._allowed and port in (None, 80, 443, own_port)

    def accepts_host(self, value: str, bound_port: int) -> bool:
        authority = parse_authority(value)
        if authority is None:
            return False
        name, port = authority
        own_port = self._port or bound_port
        if (is_loopback(name) or name == self._own) and (port or 80) == own_port:
            return True
        return self._is_allowed(name, port, own_port)

    def accepts_origin(self, origin: str, host: str, bound_port: int) -> bool:
        """The page came from `host` itself or from a listed name."""
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        theirs, ours = parse_authority(parts.netloc), parse_authority(host)
        if theirs is None or ours is None or parts.scheme not in _DEFAULT_PORT:
            return False
        default = _DEFAULT_PORT[parts.scheme]
        name, port = theirs[0], theirs[1] or default
        if (name, port) == (ours[0], ours[1] or default):
            return True
        return self._is_allowed(name, port, self._port or bound_port)


class Gate:
    """Who has shown the token, or one of the further keys. Where there are none, everybody is let in."""

    def __init__(self, token: str, port: int, keys: tuple[str, ...] = ()) -> None:
        self._token = token.encode()
        self._keys = tuple(key.encode() for key in (token, *keys) if key)
        # Cookies ignore ports: two bots on one machine must not log each other out.
        self._cookie = f"nightschool_{port}"
        self._pass = hmac.new(self._token, b"nightschool page", hashlib.sha256).hexdigest()

    @property
    def needed(self) -> bool:
        return bool(self._keys)

    def lets_in(self, request: Request) -> bool:
        if not self.needed:
            return True
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            given = shown.strip().encode("latin-1")
            return sum(hmac.compare_digest(given, key) for key in self._keys) > 0
        cookie = request.cookies.get(self._cookie, "")
        return bool(self._token) and hmac.compare_digest(cookie.encode("utf-8", "replace"), self._pass.encode())

    async def login(self, token: object, secure: bool) -> Response:
        shown = token.encode("utf-8", "replace") if isinstance(token, str) else b""
        if not self.needed:
            return Json({"ok": True})
        if not hmac.compare_digest(shown, self._token):
            await asyncio.sleep(FAILURE_SECONDS)
            return error(401, "that is not the token under [adapters.web]")
        answer = Json({"ok": True})
        answer.set_cookie(
            self._cookie,
            self._pass,
            max_age=COOKIE_SECONDS,
            httponly=True,
            samesite="strict",
            secure=secure,
        )
        return answer


class Guard:
    """An ASGI app around another one: what it does not refuse goes through, with safer headers.

    Paths under `private` need the gate's leave; `refuse(status, sentence)` makes the answers that refuse.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Hosts,
        gate: Gate,
        private: str = "/api",
        refuse: Callable[[int, str], Response] = error,
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._gate = gate
        self._private = private
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # nothing here speaks WebSocket
            await send({"type": "websocket.close", "code": 1008})
            return
        request = Request(scope)
        refusal = self._foreign(request) or self._wrong_type(request) or await self._stranger(request)
        await (refusal or self._app)(scope, receive, _safer(send))

    def _foreign(self, request: Request) -> Response | None:
        headers = request.headers
        bound_port = (request.scope.get("server") or ("", 0))[1] or 0
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not self._hosts.accepts_host(hosts[0], bound_port):
            return self._refuse(421, f"this Host is not the bot's; {_ADD}")
        if any(not self._hosts.accepts_origin(origin, hosts[0], bound_port) for origin in origins):
            return self._refuse(403, f"this Origin is not the bot's page; {_ADD}")
        changes = request.method not in ("GET", "HEAD", "OPTIONS")
        elsewhere = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        if elsewhere and not origins and (changes or self._is_private(request.scope)):
            return self._refuse(403, "another site's page asked for this")
        return None

    def _wrong_type(self, request: Request) -> Response | None:
        if request.method not in ("POST", "PUT", "PATCH"):
            return None
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            return None
        return self._refuse(415, "Content-Type must be application/json")

    async def _stranger(self, request: Request) -> Response | None:
        is_login = request.method == "POST" and _path(request.scope) == LOGIN_PATH
        if not self._is_private(request.scope) or is_login or self._gate.lets_in(request):
            return None
        if "authorization" in request.headers:
            await asyncio.sleep(FAILURE_SECONDS)
        return self._refuse(401, "log in, or send 'Authorization: Bearer TOKEN'")

    def _is_private(self, scope: Scope) -> bool:
        path = _path(scope)
        return path == self._private or path.startswith(f"{self._private}/")


def _path(scope: Scope) -> str:
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


def _safer(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return send_with_headers
