"""A OneBot v11 implementation with a QQ behind it that nobody owns: the far end of the adapter's WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from nightschool_onebot.adapter import OneBotAdapter
from nightschool_onebot.settings import OneBotSettings
from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from adapters.testing import FarEnd, Shown, TestHost

BOT = 10000
TOKEN = "the-token-of-the-test"
TOKEN_ENV = "ONEBOT_TEST_TOKEN"
NUMBERS = {"alice": 20001, "bob": 20002, "carol": 20003, "club": 30001}
Segments = list[dict[str, Any]]


class OneBotFarEnd(FarEnd):
    """Listens for the adapter ("forward") or connects to it ("reverse"); events hold segments or CQ strings."""

    can = frozenset({"quote", "group", "recall", "join", "owner_writes", "cut"})

    def __init__(
        self,
        folder: Path,
        direction: Literal["forward", "reverse"] = "forward",
        format: Literal["array", "string"] = "array",
        token: str = TOKEN,
    ) -> None:
        self.host = TestHost("tester", folder)
        self.port = _free_port()
        self.direction, self.format, self.token = direction, format, token
        self.said: list[tuple[str, str, Segments]] = []  # chat, message_id and segments of the bot's messages
        self.calls: list[dict[str, Any]] = []
        self.fail_next: list[dict[str, Any]] = []  # answers to the next sends, instead of sending
        self.swallow_answers = False
        self.logged_in = self.online = self.redials = True
        self.headers: Mapping[str, str] = {}
        self._events: dict[str, dict[str, Any]] = {}
        self._message_ids = itertools.count(1001)
        self._socket: Connection | None = None
        self._connected = asyncio.Event()
        self._server: Server | None = None
        self.dialling: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.mend()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.cut()

    def settings(self, **changes: Any) -> OneBotSettings:
        """Settings that point at this far end."""
        where = {"url": f"ws://127.0.0.1:{self.port}"} if self.direction == "forward" else {}
        where = where or {"listen": f"127.0.0.1:{self.port}"}
        return OneBotSettings.model_validate({**where, "token_env": TOKEN_ENV, "answer_seconds": 5.0, **changes})

    def adapter(self, **changes: Any) -> OneBotAdapter:
        return OneBotAdapter(self.settings(**changes), self.host, first_pause=0.02)

    def chat_id(self, chat: str) -> str:
        return f"group:{NUMBERS[chat]}" if chat == "club" else str(NUMBERS[chat])

    def person_id(self, person: str) -> str:
        return str(NUMBERS[person])

    # What people do ---------------------------------------------------------------------------

    async def say(
        self, text: str, *, chat: str = "alice", person: str = "alice", mention: bool = False, quote: str | None = None
    ) -> str:
        segments: Segments = [{"type": "text", "data": {"text": f" {text}" if mention else text}}]
        if mention:
            segments.insert(0, {"type": "at", "data": {"qq": str(BOT)}})
        if quote is not None:
            segments.insert(0, {"type": "reply", "data": {"id": quote}})
        return await self.say_segments(segments, chat=chat, person=person)

    async def say_segments(self, segments: Segments, *, chat: str = "alice", person: str = "alice") -> str:
        """`person` writes a message of `segments`."""
        sender = {"user_id": NUMBERS[person], "nickname": person.title(), "card": ""}
        event = {**self._message(segments, chat), "user_id": NUMBERS[person], "sender": sender}
        self._events[str(event["message_id"])] = event
        await self.emit(event)
        return str(event["message_id"])

    async def again(self, message: str) -> None:
        await self.emit(self._events[message])

    async def own(self, text: str, *, chat: str = "alice") -> None:
        message = next(number for where, number, parts in self.said if where == chat and _words(parts) == text)
        await self.emit(self._sent_event(chat, int(message), [{"type": "text", "data": {"text": text}}]))

    async def unknown(self, *, chat: str = "alice", person: str = "alice") -> str:
        return await self.say_segments([{"type": "hologram", "data": {"file": "x"}}], chat=chat, person=person)

    def shown(self, chat: str = "alice") -> list[Shown]:
        return [Shown(number, _words(parts)) for where, number, parts in self.said if where == chat]

    async def recall(self, message: str, *, chat: str = "alice", person: str = "alice") -> None:
        notice = {"user_id": NUMBERS[person], "message_id": int(message)}
        if chat == "club":
            extra = {"notice_type": "group_recall", "group_id": NUMBERS[chat], "operator_id": NUMBERS[person]}
        else:
            extra = {"notice_type": "friend_recall"}
        await self.emit({**self._event("notice"), **notice, **extra})

    async def join(self, *, chat: str, person: str) -> None:
        notice = {"notice_type": "group_increase", "sub_type": "approve", "operator_id": BOT}
        who = {"group_id": NUMBERS[chat], "user_id": NUMBERS[person]}
        await self.emit({**self._event("notice"), **notice, **who})

    async def owner_writes(self, text: str, *, chat: str = "alice") -> None:
        segments: Segments = [{"type": "text", "data": {"text": text}}]
        await self.emit(self._sent_event(chat, next(self._message_ids), segments))

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._connected.is_set()

    def drop(self) -> None:
        """The connection breaks; another can be made at once."""
        assert self._socket is not None
        self._socket.transport.abort()

    async def emit(self, event: dict[str, Any]) -> None:
        """Send `event` as soon as somebody is connected: OneBot keeps none for later."""
        await self._connected.wait()
        assert self._socket is not None
        await self._socket.send(json.dumps(event, ensure_ascii=False))

    # The network ------------------------------------------------------------------------------

    async def cut(self) -> None:
        if self.dialling is not None:
            self.dialling.cancel()
            await asyncio.gather(self.dialling, return_exceptions=True)
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        self._server = self.dialling = None

    async def mend(self) -> None:
        if self.direction == "forward":
            self._server = await serve(self._talk, "127.0.0.1", self.port, process_request=self._check)
        else:
            self.dialling = asyncio.create_task(self._dial())

    def _check(self, connection: ServerConnection, request: Request) -> Response | None:
        self.headers = request.headers
        wrong = request.headers.get("Authorization") != f"Bearer {self.token}"
        return connection.respond(401, "no\n") if wrong else None

    async def _dial(self) -> None:
        headers = {"Authorization": f"Bearer {self.token}", "X-Self-ID": str(BOT), "X-Client-Role": "Universal"}
        while self.redials:
            with contextlib.suppress(OSError, ConnectionClosed):
                async with connect(
                    f"ws://127.0.0.1:{self.port}/onebot/v11/ws", additional_headers=headers, proxy=None
                ) as socket:
                    await self._talk(socket)
            await asyncio.sleep(0.02)

    async def _talk(self, socket: Connection) -> None:
        self._socket = socket
        self._connected.set()
        lifecycle = {"meta_event_type": "lifecycle", "sub_type": "connect"}
        try:
            await socket.send(json.dumps({**self._event("meta_event"), **lifecycle}))
            async for frame in socket:
                await self.answer(socket, json.loads(frame))
        except ConnectionClosed:
            pass
        finally:
            if self._socket is socket:
                self._connected.clear()

    async def answer(self, socket: Connection, call: dict[str, Any]) -> None:
        self.calls.append(call)
        action, params = call["action"], call["params"]
        answer: dict[str, Any] = {"status": "ok", "retcode": 0, "data": None}
        if action == "get_login_info":
            answer["data"] = {"user_id": BOT, "nickname": "bot"} if self.logged_in else {"user_id": 0, "nickname": ""}
        elif action == "get_status":
            answer["data"] = {"online": self.online, "good": self.online}
        elif action == "get_msg":
            known = any(number == str(params["message_id"]) for _, number, _ in self.said)
            answer["data"] = {"sender": {"user_id": BOT if known else NUMBERS["bob"]}}
        elif action in ("send_private_msg", "send_group_msg") and self.fail_next:
            answer = self.fail_next.pop(0)
        elif action in ("send_private_msg", "send_group_msg"):
            answer["data"] = {"message_id": await self.take(params)}
        else:
            answer = {"status": "failed", "retcode": 1404, "data": None}
        if not self.swallow_answers:
            await socket.send(json.dumps({**answer, "echo": call["echo"]}))

    async def take(self, params: dict[str, Any]) -> int:
        """QQ shows the message, and tells of it as of any that the account wrote, before the call is answered."""
        number = params.get("group_id") or params["user_id"]
        chat, message_id = next(name for name, one in NUMBERS.items() if one == number), next(self._message_ids)
        self.said.append((chat, str(message_id), params["message"]))
        await self.emit(self._sent_event(chat, message_id, params["message"]))
        return message_id

    def _sent_event(self, chat: str, message_id: int, segments: Segments) -> dict[str, Any]:
        sent = {"post_type": "message_sent", "user_id": BOT, "message_id": message_id, "target_id": NUMBERS[chat]}
        return {**self._message(segments, chat), **sent}

    def _message(self, segments: Segments, chat: str) -> dict[str, Any]:
        where = {"group_id": NUMBERS[chat], "sub_type": "normal"} if chat == "club" else {"sub_type": "friend"}
        message = segments if self.format == "array" else cq(segments)
        return {
            **self._event("message"),
            **where,
            "message_type": "group" if chat == "club" else "private",
            "message_id": next(self._message_ids),
            "message": message,
            "raw_message": cq(segments),
            "message_format": self.format,
        }

    def _event(self, post_type: str) -> dict[str, Any]:
        return {"time": 1718000000, "self_id": BOT, "post_type": post_type}


def cq(segments: Segments) -> str:
    """`segments` as a CQ string."""
    return "".join(_code(one["type"], one["data"]) for one in segments)


def _code(kind: str, data: dict[str, Any]) -> str:
    if kind == "text":
        return _escape(data["text"])
    fields = "".join(f",{name}={_escape(str(value)).replace(',', '&#44;')}" for name, value in data.items())
    return f"[CQ:{kind}{fields}]"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("[", "&#91;").replace("]", "&#93;")


def _words(segments: Segments) -> str:
    """What is written, without the space that separates it from a mention."""
    text = "".join(one["data"]["text"] for one in segments if one["type"] == "text")
    return text.removeprefix(" ") if segments[0]["type"] != "text" else text


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
