"""The calls of Weixin's bot interface over HTTP, as its server takes them: one method for each.

Knows nothing of chats, replies or files. Tokens and codes stay out of errors, logs and `repr`.
"""

from __future__ import annotations

import base64
import json
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import urlsplit

import httpx

from adapters.weixin.hosts import is_loopback

APP_ID = "bot"
CHANNEL_VERSION = "2.4.9"  # the published client whose interface this follows; `bot_agent` says who we are
BOT_TYPE = "3"
LONG_POLL = 35.0
SEND = 15.0
QUICK = 10.0
SHORTEST_POLL, LONGEST_POLL = 1.0, 120.0
STALE, THROTTLED = -14, -2
GATEWAY_TIMEOUTS = (408, 504, 524)
USER, BOT, FINISHED, TEXT = 1, 2, 2, 1

Json = Mapping[str, Any]


# IlinkError
#   Unreachable    no answer, or none that makes sense
#     Slow         a long poll ended without news
#   Refused        the server's own error
#     StaleLogin   the login is no longer valid
#     Throttled    too much was sent, or too long after the person wrote
class IlinkError(Exception):
    """Base of what a call raises."""


class Unreachable(IlinkError):
    """The server gave no answer that makes sense."""


class Slow(Unreachable):
    """No answer within the time: for a long poll, no news."""


class Refused(IlinkError):
    """The server answered with an error of its own."""

    def __init__(self, call: str, ret: int, message: str) -> None:
        super().__init__(f"Weixin answered {call} with error {ret}" + (f" ({message[:200]})" if message else ""))
        self.ret = ret


class StaleLogin(Refused):
    """The login is no longer valid: a new one is needed."""


class Throttled(Refused):
    """Weixin takes no more for this person now."""


@dataclass(frozen=True)
class Code:
    """A login code: `link` is what the QR code holds."""

    value: str = field(repr=False)
    link: str = field(repr=False)


@dataclass(frozen=True)
class Status:
    """What became of a code."""

    name: str
    redirect_host: str = ""
    token: str = field(default="", repr=False)
    bot: str = ""
    base_url: str = ""
    owner: str = ""


@dataclass(frozen=True)
class Updates:
    """What arrived. `cursor` covers all of `messages`; "" where the server named none."""

    messages: tuple[Json, ...] = ()
    cursor: str = field(default="", repr=False)
    next_poll: float | None = None


class _NoQueries(logging.Filter):
    """httpx logs each address at INFO, and ours hold login codes: their query is left out."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_without_query(part) for part in record.args)
        return True


_NO_QUERIES = _NoQueries()


def http_client(base_url: str) -> httpx.AsyncClient:
    """The client for `base_url`. This machine is called directly, anything else by the environment's proxy."""
    logging.getLogger("httpx").addFilter(_NO_QUERIES)
    return httpx.AsyncClient(trust_env=not is_loopback(urlsplit(base_url).hostname or ""))


class Ilink:
    """The calls to one server, with one login or (for the codes) none."""

    def __init__(self, client: httpx.AsyncClient, base_url: str, token: str = "") -> None:
        self._client, self._token = client, token
        self.base_url = base_url

    async def qrcode(self, held: tuple[str, ...]) -> Code:
        """A fresh login code. `held` are the tokens of earlier logins, newest first."""
        answer = await self._post(f"get_bot_qrcode?bot_type={BOT_TYPE}", {"local_token_list": list(held[:10])}, SEND)
        value, link = _text(answer.get("qrcode")), _text(answer.get("qrcode_img_content"))
        if not value or not link:
            raise Unreachable("Weixin sent no login code")
        return Code(value, link)

    async def qrcode_status(self, code: Code, digits: str) -> Status:
        """Wait for news of `code`; `digits` is the verification code, if one was asked for."""
        query = {"qrcode": code.value, **({"verify_code": digits} if digits else {})}
        url = httpx.URL(f"{self.base_url}/ilink/bot/get_qrcode_status", params=query)
        answer = await self._call("GET", url, None, LONG_POLL)
        names = ("status", "redirect_host", "bot_token", "ilink_bot_id", "baseurl", "ilink_user_id")
        return Status(*(_text(answer.get(name)) for name in names))

    async def updates(self, cursor: str, seconds: float) -> Updates:
        """Wait for what comes after `cursor`. Raises Slow where nothing did."""
        answer = await self._post("getupdates", {"get_updates_buf": cursor, "base_info": _base_info()}, seconds)
        found = answer.get("msgs")
        messages = tuple(one for one in found if isinstance(one, dict)) if isinstance(found, list) else ()
        hint = answer.get("longpolling_timeout_ms")
        poll = min(max(hint / 1000, SHORTEST_POLL), LONGEST_POLL) if isinstance(hint, int) and hint > 0 else None
        return Updates(messages, _text(answer.get("get_updates_buf")), poll)

    async def send(self, to: str, text: str, client_id: str, context_token: str) -> str:
        """Send `text`; the id that a quote of it will name, "" where the server tells none."""
        message = {
            "from_user_id": "",
            "to_user_id": to,
            "client_id": client_id,
            "message_type": BOT,
            "message_state": FINISHED,
            "item_list": [{"type": TEXT, "text_item": {"text": text}}],
            "context_token": context_token,
        }
        answer = await self._post("sendmessage", {"msg": message, "base_info": _base_info()}, SEND)
        return id_text(answer.get("message_id"))

    async def typing_ticket(self, person: str, context_token: str) -> str:
        """What `typing` needs to be told; "" where the server gives none."""
        body = {"ilink_user_id": person, "context_token": context_token, "base_info": _base_info()}
        return _text((await self._post("getconfig", body, QUICK)).get("typing_ticket"))

    async def typing(self, person: str, ticket: str, on: bool) -> None:
        """Show `person` that the bot types, or that it no longer does."""
        status = 1 if on else 2
        body = {"ilink_user_id": person, "typing_ticket": ticket, "status": status, "base_info": _base_info()}
        await self._post("sendtyping", body, QUICK)

    async def notify(self, comes: bool) -> None:
        """Tell the server that this client comes, or goes."""
        await self._post(f"msg/notify{'start' if comes else 'stop'}", {"base_info": _base_info()}, QUICK)

    async def _post(self, call: str, body: Json, seconds: float) -> Json:
        answer = await self._call("POST", httpx.URL(f"{self.base_url}/ilink/bot/{call}"), body, seconds)
        ret = _number(answer.get("errcode")) or _number(answer.get("ret"))
        if ret:
            kind = {STALE: StaleLogin, THROTTLED: Throttled}.get(ret, Refused)
            raise kind(call.partition("?")[0], ret, _text(answer.get("errmsg")))
        return answer

    async def _call(self, method: str, url: httpx.URL, body: Json | None, seconds: float) -> Json:
        """One call. The one place where the HTTP library's errors become ours."""
        name = url.path.rpartition("/")[2]
        content = None if body is None else json.dumps(body).encode()
        limits = httpx.Timeout(seconds, connect=QUICK)
        try:
            response = await self._client.request(
                method, url, content=content, headers=self._headers(body is not None), timeout=limits
            )
        except httpx.ReadTimeout as error:
            raise Slow(f"Weixin did not answer {name} in time") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(f"Weixin can't be reached ({type(error).__name__} at {name})") from error
        if response.status_code in GATEWAY_TIMEOUTS:
            raise Slow(f"Weixin answered {name} with HTTP {response.status_code}")
        if not response.is_success:
            raise Unreachable(f"Weixin answered {name} with HTTP {response.status_code}")
        try:
            answer = json.loads(response.content.strip() or b"{}")
        except ValueError as error:
            raise Unreachable(f"Weixin answered {name} with something that is no JSON") from error
        if not isinstance(answer, dict):
            raise Unreachable(f"Weixin answered {name} with JSON that is no object")
        return answer

    def _headers(self, post: bool) -> dict[str, str]:
        major, minor, patch = (int(part) for part in CHANNEL_VERSION.split("."))
        headers = {"iLink-App-Id": APP_ID, "iLink-App-ClientVersion": str(major << 16 | minor << 8 | patch)}
        if post:
            headers["Content-Type"] = "application/json"
            headers["AuthorizationType"] = "ilink_bot_token"
            headers["X-WECHAT-UIN"] = base64.b64encode(str(secrets.randbits(32)).encode()).decode()
            if self._token:
                headers["Authorization"] = f"Bearer {self._token}"
        return headers


def id_text(value: object) -> str:
    """An id as exact text, whether the server sent a number or text; "" for none."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(value)
    return "" if text == "0" else text


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _number(value: object) -> int:
    try:
        return int(value) if isinstance(value, int | str) else 0
    except ValueError:
        return 0


def _without_query(part: object) -> object:
    ours = isinstance(part, httpx.URL) and part.path.startswith("/ilink/")
    return part.copy_with(query=None) if ours and isinstance(part, httpx.URL) else part


def _base_info() -> Json:
    try:
        ours = version("nightschool")
    except PackageNotFoundError:
        ours = "0"
    return {"channel_version": CHANNEL_VERSION, "bot_agent": f"nightschool/{ours}"}
