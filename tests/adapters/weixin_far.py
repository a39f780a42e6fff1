"""Weixin's side of its bot interface on loopback: a server that people scan, write to and read from.

It refuses what the real one would: wrong headers, stale tokens, foreign context tokens, more replies than a person's
message pays for. Knows nothing of our client, and Tencent's own passes it too (test_weixin_node.py).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import secrets
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from adapters.testing import FarEnd, Shown, TestHost
from adapters.text import utf16_length
from adapters.weixin.adapter import WeixinAdapter
from adapters.weixin.pauses import Pauses
from adapters.weixin.settings import WeixinSettings

HOLD = 15.0  # seconds of a long poll without news
REPLIES = 10  # per message of a person
DAY = 24 * 3600.0
DIGITS_TRIES = 3
QUICK = Pauses(
    first=0.02, longest=0.1, refused=0.02, refused_often=0.1, poll=0.01, code_life=30, rest=0.05, typing=0.05
)
Json = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One request as it came."""

    name: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: Json


@dataclass
class Bot:
    """A bot that somebody's scan made, all that was said to it, and all that it sent."""

    id: str
    owner: str
    token: str = ""
    inbox: list[Json] = field(default_factory=list)
    read: int = 0  # how much of it the cursor covers that was sent last
    contexts: dict[str, str] = field(default_factory=dict)  # context token -> person
    left: dict[str, int] = field(default_factory=dict)  # replies that the person's last message still pays for
    wrote: dict[str, float] = field(default_factory=dict)
    sent: list[tuple[str, str, Shown]] = field(default_factory=list)  # client id, person, message
    tickets: dict[str, str] = field(default_factory=dict)
    typing: list[tuple[str, int]] = field(default_factory=list)
    notified: list[str] = field(default_factory=list)

    def shown(self, person: str) -> list[Shown]:
        """What `person` sees of the bot."""
        return [shown for _, to, shown in self.sent if to == person]


@dataclass
class QrCode:
    """A login code; `digits` are what the phone will ask for, once it is scanned."""

    value: str
    held: list[str]
    status: str = "wait"
    told: str = ""
    by: str = ""
    digits: str = ""
    wrong: int = 0
    redirected: bool = False


class FakeIlink:
    """The server. Its people are names like "alice"; their ids are `person_id(name)`."""

    def __init__(self) -> None:
        self.port = 0
        self.calls: list[Call] = []
        self.bots: list[Bot] = []
        self.codes: list[QrCode] = []
        self.faults: dict[str, list[Json | int | bytes]] = defaultdict(list)  # next answers to a call
        self.lost: list[str] = []  # calls that are done, but whose answer never arrives
        self.scanner = ""  # who scans every code at once
        self.same_bot = True  # a person who scans again gets the same bot
        self.ids_as_text = False
        self.skew = 0.0  # how much later than now it is
        self.hold = HOLD
        self.poll_hint = 35_000
        self.names_base: str | None = None  # the `baseurl` of a confirmed login
        self.redirect_host = ""
        self._cursors: dict[str, int] = {}
        self._number = 2**64 - 10_000_000
        self._changed = asyncio.Event()
        self._wire = Wire(self._answer)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen, on the port of before if there was one."""
        self.port = await self._wire.start(self.port)

    async def stop(self) -> None:
        """Refuse connections, and break those that are open."""
        await self._wire.stop()

    def now(self) -> float:
        """The time there."""
        return time.time() + self.skew

    def named(self, name: str) -> list[Call]:
        """The calls of that name, oldest first."""
        return [call for call in self.calls if call.name == name]

    # What people do.

    def bind(self, person: str) -> Bot:
        """`person` has a bot from now on, with a new token; an old token of theirs is stale."""
        mine = [bot for bot in self.bots if bot.owner == person]
        if mine and self.same_bot:
            bot = mine[-1]
        else:
            for old in mine:
                old.token = ""
            bot = Bot(f"{secrets.token_hex(6)}@im.bot", person)
            self.bots.append(bot)
        bot.token = f"{bot.id}:{secrets.token_hex(16)}"
        self.touch()
        return bot

    def bot_of(self, person: str) -> Bot:
        """The bot that `person` scanned last."""
        return [bot for bot in self.bots if bot.owner == person][-1]

    def scan(self, person: str, *, status: str = "confirmed", digits: str = "") -> None:
        """`person` scans the newest code, which then has `status`, or asks for `digits` first."""
        code = self.codes[-1]
        code.by, code.digits = person, digits
        self.set_status("need_verifycode" if digits else status)

    def set_status(self, status: str) -> None:
        """The newest code's status changes."""
        self.codes[-1].status, self.codes[-1].told = status, ""
        self.touch()

    def say(self, bot: Bot, person: str, *items: Json, **fields: Any) -> str:
        """`person` sends `items` to `bot`; returns the message's id."""
        number, context = self.number(), f"ctx-{secrets.token_hex(8)}"
        bot.contexts[context] = person
        bot.left[person], bot.wrote[person] = REPLIES, self.now()
        told: Json = {
            "seq": len(bot.inbox) + 1,
            "message_id": self.id(number),
            "from_user_id": person_id(person),
            "to_user_id": bot.id,
            "client_id": secrets.token_hex(8),
            "create_time_ms": int(self.now() * 1000),
            "session_id": f"{person}#{bot.id}",
            "message_type": 1,
            "message_state": 2,
            "item_list": list(items),
            "context_token": context,
        }
        self.deliver(bot, {**told, **fields})
        return str(number)

    def deliver(self, bot: Bot, message: Json) -> None:
        """`message` waits for `bot`."""
        bot.inbox.append(message)
        self.touch()

    def number(self) -> int:
        """A new id, of the size that a double can't hold."""
        self._number += 1
        return self._number

    def id(self, number: int) -> int | str:
        """`number` as this server writes ids."""
        return str(number) if self.ids_as_text else number

    def touch(self) -> None:
        """Something changed: whoever waits looks again."""
        self._changed.set()
        self._changed = asyncio.Event()

    # What clients call.

    async def _answer(self, method: str, target: str, headers: Mapping[str, str], content: bytes) -> tuple[int, bytes]:
        parts = urlsplit(target)
        name = parts.path.removeprefix("/ilink/bot/")
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        if not parts.path.startswith("/ilink/bot/"):
            return 404, b"not found"
        body = json.loads(content) if content else {}
        self.calls.append(Call(name, headers, query, body))
        if self.faults[name]:
            fault = self.faults[name].pop(0)
            if isinstance(fault, dict):
                return 200, json.dumps(fault).encode()
            return (fault, b"") if isinstance(fault, int) else (200, fault)
        wrong = _wrong_headers(method, name, headers, body)
        if wrong:
            return 400, wrong.encode()
        answer = await self._call(name, headers, query, body)
        if name in self.lost:
            self.lost.remove(name)
            return 500, b""
        return 200, json.dumps(answer).encode()

    async def _call(self, name: str, headers: Mapping[str, str], query: Mapping[str, str], body: Json) -> Json:
        if name == "get_bot_qrcode":
            return self._get_bot_qrcode(query, body)
        if name == "get_qrcode_status":
            return await self._get_qrcode_status(headers["host"], query)
        token = headers.get("authorization", "").removeprefix("Bearer ")
        bot = next((bot for bot in self.bots if token and bot.token == token), None)
        if bot is None:
            return {"errcode": -14, "errmsg": "session timeout"}
        match name:
            case "getupdates":
                return await self._getupdates(bot, token, body)
            case "sendmessage":
                return self._sendmessage(bot, body["msg"])
            case "getconfig":
                ticket = base64.b64encode(secrets.token_bytes(12)).decode()
                bot.tickets[ticket] = body["ilink_user_id"]
                return {"ret": 0, "typing_ticket": ticket}
            case "sendtyping":
                person = body["ilink_user_id"]
                if bot.tickets.get(body["typing_ticket"]) != person or body["status"] not in (1, 2):
                    return {"ret": -1, "errmsg": "wrong ticket"}
                bot.typing.append((person, body["status"]))
                return {"ret": 0}
            case "msg/notifystart" | "msg/notifystop":
                bot.notified.append(name.removeprefix("msg/notify"))
                return {"ret": 0}
        return {"ret": -1, "errmsg": "no such call"}

    def _get_bot_qrcode(self, query: Mapping[str, str], body: Json) -> Json:
        held = body["local_token_list"]
        if query.get("bot_type") != "3" or not isinstance(held, list) or len(held) > 10:
            return {"ret": 2, "errmsg": "bad request"}
        code = QrCode(secrets.token_hex(16), held)
        self.codes.append(code)
        if self.scanner:
            self.scan(self.scanner)
        return {"qrcode": code.value, "qrcode_img_content": f"https://liteapp.weixin.qq.com/q/{code.value}"}

    async def _get_qrcode_status(self, host: str, query: Mapping[str, str]) -> Json:
        code = next((code for code in self.codes if code.value == query["qrcode"]), None)
        if code is None:
            return {"status": "expired"}
        if code.status == "need_verifycode":
            self._check_digits(code, query.get("verify_code", ""))
        await self._until(lambda: code.status != code.told, self.hold)
        code.told = code.status
        if code.status == "need_verifycode":
            code.told = ""
        if code.status == "scaned_but_redirect":
            if not host.startswith("localhost"):
                code.told = ""
                return {"status": code.status, "redirect_host": self.redirect_host or f"localhost:{self.port}"}
            code.redirected, code.status = True, "confirmed"
        return self._confirmed(code) if code.status == "confirmed" else {"status": code.status}

    def _check_digits(self, code: QrCode, digits: str) -> None:
        if digits == code.digits:
            code.status = "scaned"
        elif digits:
            code.wrong += 1
            code.status = "verify_code_blocked" if code.wrong >= DIGITS_TRIES else code.status

    def _confirmed(self, code: QrCode) -> Json:
        mine = [bot for bot in self.bots if bot.owner == code.by and bot.token]
        if any(bot.token in code.held for bot in mine):
            return {"status": "binded_redirect"}
        bot = self.bind(code.by)
        base = f"http://localhost:{self.port}" if self.names_base is None else self.names_base
        owner = person_id(bot.owner)
        credentials = {"bot_token": bot.token, "ilink_bot_id": bot.id, "baseurl": base, "ilink_user_id": owner}
        return {"status": "confirmed", **credentials}

    async def _getupdates(self, bot: Bot, token: str, body: Json) -> Json:
        cursor = body["get_updates_buf"]
        if cursor and cursor not in self._cursors:
            return {"ret": -1, "errmsg": "unknown cursor"}
        seen = bot.read = self._cursors.get(cursor, 0)
        await self._until(lambda: len(bot.inbox) > seen or bot.token != token, self.hold)
        if bot.token != token:
            return {"ret": -14, "errmsg": "session timeout"}
        messages = bot.inbox[seen:]
        cursor = f"{bot.id}/{len(bot.inbox)}/{secrets.token_hex(4)}" if messages else cursor
        self._cursors[cursor] = len(bot.inbox)
        return {"ret": 0, "msgs": messages, "get_updates_buf": cursor, "longpolling_timeout_ms": self.poll_hint}

    def _sendmessage(self, bot: Bot, message: Json) -> Json:
        (item,) = message["item_list"]
        text, client, context = item["text_item"]["text"], message["client_id"], message.get("context_token", "")
        shape = (message["from_user_id"], message["message_type"], message["message_state"], item["type"])
        if shape != ("", 2, 2, 1) or not client or not text or utf16_length(text) > 4000:
            return {"ret": -3, "errmsg": "bad message"}
        for before, _, shown in bot.sent:
            if before == client:
                return {"ret": 0, "message_id": self.id(int(shown.id))}
        person = bot.contexts.get(context, "")
        if person_id(person) != message["to_user_id"] or self.now() - bot.wrote[person] > DAY:
            return {"ret": -2, "errmsg": "prepare failed"}
        if bot.left[person] <= 0:
            return {"ret": -2, "errmsg": "rate limited"}
        bot.left[person] -= 1
        number = self.number()
        bot.sent.append((client, person, Shown(str(number), text)))
        return {"ret": 0, "message_id": self.id(number)}

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition():
                    await self._changed.wait()


class Wire:
    """HTTP/1.1 with kept-alive connections, as little of it as these clients need."""

    def __init__(self, answer: Callable[[str, str, Mapping[str, str], bytes], Awaitable[tuple[int, bytes]]]) -> None:
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def start(self, port: int) -> int:
        """Listen on `port`, 0 for any; the port."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", port)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close everything at once, as a cut cable does."""
        if self._server is None:
            return
        self._server.close()
        for task, writer in self._open.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            del self._open[task]
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        line = await reader.readline()
        if not line:
            return False
        method, target, _ = line.decode("ascii").split()
        headers: dict[str, str] = {}
        while (header := (await reader.readline()).decode("latin-1").strip()) != "":
            name, _, value = header.partition(":")
            headers[name.strip().lower()] = value.strip()
        content = await reader.readexactly(int(headers.get("content-length", "0")))
        status, answer = await self._answer(method, target, headers, content)
        head = f"HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {len(answer)}\r\n\r\n"
        writer.write(head.encode("ascii") + answer)
        await writer.drain()
        return True


class WeixinFar(FarEnd):
    """One bot of "owner", who scans every code at once; alice and others write to it."""

    can = frozenset({"quote", "cut", "acknowledge"})
    limit_in = staticmethod(utf16_length)

    def __init__(self, folder: Path) -> None:
        self.fake = FakeIlink()
        self.fake.scanner = "owner"
        self.host = host_in(folder / "weixin")
        self._said: dict[str, Json] = {}

    async def __aenter__(self) -> WeixinFar:
        await self.fake.start()
        self.bot = self.fake.bind("owner")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.fake.stop()

    def adapter(self) -> WeixinAdapter:
        return WeixinAdapter(WeixinSettings(base_url=self.fake.url), self.host, pauses=QUICK, clock=self.fake.now)

    def chat_id(self, chat: str) -> str:
        return person_id(chat)

    def person_id(self, person: str) -> str:
        return person_id(person)

    async def say(
        self, text: str, *, chat: str = "alice", person: str = "alice", mention: bool = False, quote: str | None = None
    ) -> str:
        assert chat == person, "there are no groups"
        reference = {"ref_msg": {"svr_id": self.fake.id(int(quote))}} if quote else {}
        return self._keep(self.fake.say(self.bot, person, {**words(text), **reference}))

    async def again(self, message: str) -> None:
        self.fake.deliver(self.bot, self._said[message])

    async def own(self, text: str, *, chat: str = "alice") -> None:
        own = {"message_type": 2, "from_user_id": self.bot.id, "to_user_id": person_id(chat)}
        self.fake.say(self.bot, chat, words(text), **own)

    async def unknown(self, *, chat: str = "alice", person: str = "alice") -> str:
        return self._keep(self.fake.say(self.bot, person, {"type": 99, "hologram_item": {"text": "?"}}))

    def shown(self, chat: str = "alice") -> list[Shown]:
        return self.bot.shown(chat)

    def acknowledged(self) -> list[str]:
        return [str(message["message_id"]) for message in self.bot.inbox[: self.bot.read]]

    async def cut(self) -> None:
        await self.fake.stop()

    async def mend(self) -> None:
        await self.fake.start()

    def _keep(self, message: str) -> str:
        self._said[message] = self.bot.inbox[-1]
        return message


def host_in(folder: Path, bot: str = "tester") -> TestHost:
    """A host with its private folder."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return TestHost(bot, folder)


def person_id(name: str) -> str:
    """The lasting id of a person."""
    return f"{name}@im.wechat" if name else ""


def words(text: str) -> Json:
    """An item that is text."""
    return {"type": 1, "text_item": {"text": text}}


def _wrong_headers(method: str, name: str, headers: Mapping[str, str], body: Json) -> str:
    """What the real server would not like, "" where all is well."""
    if headers.get("ilink-app-id") != "bot" or not headers.get("ilink-app-clientversion", "").isdigit():
        return "app headers"
    if name == "get_qrcode_status":
        return "" if method == "GET" else "method"
    uin = base64.b64decode(headers.get("x-wechat-uin", ""), validate=True).decode("ascii")
    if method != "POST" or headers.get("content-type") != "application/json":
        return "method or content type"
    if headers.get("authorizationtype") != "ilink_bot_token" or not uin.isdigit() or int(uin) >= 2**32:
        return "authorization type or uin"
    if name == "get_bot_qrcode":
        return ""
    info = body.get("base_info", {})
    agent = info.get("bot_agent", "")
    fine = re.fullmatch(r"\d+\.\d+\.\d+", info.get("channel_version", "")) and agent.isascii() and len(agent) <= 256
    return "" if fine else "base_info"
