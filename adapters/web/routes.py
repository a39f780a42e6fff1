"""The HTTP interface under /api. Knows nothing of Host, Origin and token: see guard.py.

A request waits for its replies, but nothing hangs on it: what arrived is stored by `receive`, and a
client that goes away finds the reply in the chat's log.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Receive as AsgiReceive
from starlette.types import Scope, Send

from adapters.base import Inbound, Message, Person, Pressed, Receipt, Receive, Reply, Verdict
from adapters.web.backend import WebBackend
from adapters.web.events import EventHub, Listener
from adapters.web.guard import Gate
from adapters.web.wire import Json, error, read_object, replies_field, reply_fields, whole_text

LOG_LINES = 200
MAX_LOG_LINES = 1000
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NAME_RULE = "1 to 64 of A-Z a-z 0-9 . _ -"


class EventStream(StreamingResponse):
    """A listener's frames as a response; the listener leaves when the response ends, however it ends."""

    def __init__(self, hub: EventHub, listener: Listener) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(listener.frames(), headers=headers, media_type="text/event-stream")
        self._leave = lambda: hub.leave(listener)

    async def __call__(self, scope: Scope, receive: AsgiReceive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()


class Api:
    """The routes under /api, and what they share."""

    def __init__(
        self,
        backend: WebBackend,
        hub: EventHub,
        gate: Gate,
        receiver: Callable[[], Receive | None],
        new_id: Callable[[], str],
    ) -> None:
        self._backend = backend
        self._hub = hub
        self._gate = gate
        self._receiver = receiver
        self._new_id = new_id

    def routes(self) -> list[BaseRoute]:
        table: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
            ("POST", "/api/login", self._login),
            ("GET", "/api/status", self._status),
            ("POST", "/api/learn", self._learn),
            ("POST", "/api/chat/{chat}/messages", self._message),
            ("GET", "/api/chat/{chat}/events", self._events),
            ("GET", "/api/chat/{chat}/log", self._log),
            ("POST", "/api/chat/{chat}/open", self._open),
            ("POST", "/api/exchanges/{exchange}/feedback", self._give),
            ("DELETE", "/api/exchanges/{exchange}/feedback", self._take_back),
        ]
        return [Route(path, endpoint, methods=[method]) for method, path, endpoint in table]

    async def _login(self, request: Request) -> Response:
        body = await read_object(request)
        if isinstance(body, Json):
            return body
        return await self._gate.login(body.get("token"), secure=request.url.scheme == "https")

    async def _status(self, _: Request) -> Response:
        return Json(asdict(await self._backend.status()))

    async def _learn(self, _: Request) -> Response:
        reason = await self._backend.learn()
        return Json({"started": reason is None, "reason": reason})

    async def _log(self, request: Request) -> Response:
        chat = request.path_params["chat"]
        limit = request.query_params.get("limit", str(LOG_LINES))
        if not _NAME.fullmatch(chat):
            return _bad_chat()
        if not re.fullmatch("[0-9]{1,4}", limit) or not 1 <= int(limit) <= MAX_LOG_LINES:
            return error(400, f"limit must be a number from 1 to {MAX_LOG_LINES}")
        lines = [asdict(line) for line in await self._backend.log(chat, int(limit))]
        return Json({"lines": lines, "persona": await self._backend.persona(chat)})

    async def _open(self, request: Request) -> Response:
        chat = request.path_params["chat"]
        if not _NAME.fullmatch(chat):
            return _bad_chat()
        return Json({"greeted": await self._backend.open(chat)})

    async def _events(self, request: Request) -> Response:
        chat = request.path_params["chat"]
        if not _NAME.fullmatch(chat):
            return _bad_chat()
        return EventStream(self._hub, self._hub.listen(chat))

    async def _message(self, request: Request) -> Response:
        chat = request.path_params["chat"]
        if not _NAME.fullmatch(chat):
            return _bad_chat()
        body = await read_object(request)
        if isinstance(body, Json):
            return body
        if not isinstance(body.get("text"), str):
            return error(400, '"text" must be a string: {"text": "hello"}')
        client_id = self._client_id(body)
        if isinstance(client_id, Json):
            return client_id
        message = Message(f"{chat}/{client_id}", chat, self._person(chat), whole_text(body["text"]))
        receipt = await self._deliver(message)
        if isinstance(receipt, Json):
            return receipt
        self._hub.publish(chat, "message", {"id": message.id, "text": message.text})
        return Json({"replies": [await self._reply_field(reply) for reply in await receipt.replies()]})

    async def _reply_field(self, reply: Reply) -> dict[str, object]:
        """A reply, and what it was given to go by."""
        recalled = await self._backend.recalled_by(reply.exchange) if reply.exchange is not None else ()
        return {**reply_fields(reply), "recalled": [asdict(one) for one in recalled]}

    async def _give(self, request: Request) -> Response:
        body = await read_object(request)
        if isinstance(body, Json):
            return body
        given = _verdict(body)
        if isinstance(given, Json):
            return given
        return await self._press(request.path_params["exchange"], body, *given)

    async def _take_back(self, request: Request) -> Response:
        return await self._press(request.path_params["exchange"], {}, "retract", "")

    async def _press(self, exchange: str, body: dict[str, Any], verdict: Verdict, correction: str) -> Response:
        client_id = self._client_id(body)
        if isinstance(client_id, Json):
            return client_id
        chat = await self._backend.chat_of(exchange)
        if chat is None:
            return error(404, "there is no such exchange")
        press_id = f"{chat}/{exchange}/{client_id}"
        pressed = Pressed(press_id, chat, self._person(chat), exchange, verdict, correction)
        receipt = await self._deliver(pressed)
        if isinstance(receipt, Json):
            return receipt
        replies = replies_field(await receipt.replies())
        feedback = await self._backend.feedback_of(exchange)
        self._hub.publish(chat, "feedback", {"exchange": exchange, "feedback": feedback})
        return Json({"replies": replies, "feedback": feedback})

    async def _deliver(self, inbound: Inbound) -> Receipt | Json:
        receive = self._receiver()
        if receive is None:
            return error(503, "the bot is starting or stopping; try again in a moment")
        return await receive(inbound)

    def _client_id(self, body: dict[str, Any]) -> str | Json:
        """The client's own id of what it sends, so that a retry is known as one; else a new one."""
        if body.get("id") is None:
            return self._new_id()
        if isinstance(body["id"], str) and _NAME.fullmatch(body["id"]):
            return body["id"]
        return error(400, f'"id" must be a string of {_NAME_RULE}')

    def _person(self, chat: str) -> Person:
        return Person(f"web:{chat}" if self._gate.needed else "local")


def is_message_id(inbound_id: str | None) -> bool:
    """Was it words (chat/id), not a press (chat/exchange/id)?"""
    return inbound_id is not None and inbound_id.count("/") == 1


def _bad_chat() -> Json:
    return error(400, f"a chat's name has {_NAME_RULE}")


def _verdict(body: dict[str, Any]) -> tuple[Verdict, str] | Json:
    """What was given: the verdict and, for a correction, its words."""
    kinds = [kind for kind in ("choice", "rating", "correction") if kind in body]
    match (kinds, body.get(kinds[0]) if kinds else None):
        case (["choice"], 1 | 2 as number) if type(number) is int:
            return ("1" if number == 1 else "2"), ""
        case (["choice"], "both_bad" | "tie" as verdict):
            return verdict, ""
        case (["rating"], "good" | "bad" as verdict):
            return verdict, ""
        case (["correction"], str() as words) if words.strip():
            return "correction", whole_text(words)
    return error(
        400,
        'give one of {"choice": 1 | 2 | "both_bad" | "tie"}, {"rating": "good" | "bad"}, '
        '{"correction": "the better words"}',
    )
