"""The way into a running bot from another terminal: a few calls on loopback, behind a token.

Knows nothing of how they are carried out. The port and the token stand in a file that only its owner reads.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bots.settings import LOOPBACK

PREFIX = "/control/"
CLIENTS = {*LOOPBACK, "::ffff:127.0.0.1"}

Call = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class ControlError(Exception):
    """What was asked can't be done; the message says why and what to do."""


@dataclass(frozen=True)
class Key:
    """Where the running bot listens, and what it wants to hear."""

    port: int
    token: str


def control_file(data_dir: Path) -> Path:
    """The file that names port and token while a bot runs."""
    return data_dir / "control.json"


def write_key(data_dir: Path, port: int) -> Key:
    """Make a key and keep it where only this user can read it."""
    key = Key(port, secrets.token_urlsafe(32))
    path = control_file(data_dir)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(key), file)
    return key


def control_app(token: Callable[[], str], calls: Mapping[str, Call]) -> Starlette:
    """POST /control/NAME with a JSON object runs `calls[NAME]`."""

    async def serve(request: Request) -> Response:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        local = request.client is not None and request.client.host in CLIENTS
        if not local or not hmac.compare_digest(given.encode(), token().encode()):
            return JSONResponse({"error": "not allowed"}, status_code=403)
        call = calls.get(request.path_params["name"])
        if call is None:
            return JSONResponse({"error": "unknown call"}, status_code=404)
        try:
            return JSONResponse(await call(await request.json()))
        except ControlError as error:
            return JSONResponse({"error": str(error)}, status_code=409)

    return Starlette(routes=[Route(PREFIX + "{name}", serve, methods=["POST"])])


class ControlClient:
    """Talks to the bot that runs on `data_dir`."""

    def __init__(self, data_dir: Path) -> None:
        try:
            self._key = Key(**json.loads(control_file(data_dir).read_text("utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ControlError(
                f"a bot runs on {data_dir}, but {control_file(data_dir)} can't be read; try again in a moment"
            ) from error

    def call(self, name: str, **values: Any) -> dict[str, Any]:
        """Run the call `name`. Raises ControlError with the bot's own words."""
        try:
            answer = httpx.post(
                f"http://127.0.0.1:{self._key.port}{PREFIX}{name}",
                json=values,
                headers={"authorization": f"Bearer {self._key.token}"},
                timeout=60,
                trust_env=False,
            )
        except httpx.HTTPError as error:
            raise ControlError(f"the running bot does not answer: {error}") from error
        body: dict[str, Any] = answer.json()
        if answer.status_code != 200:
            raise ControlError(str(body.get("error", answer.status_code)))
        return body
