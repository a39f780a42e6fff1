"""Telegram's Bot API on loopback, as far as the adapter uses it, with its refusals. Knows no person and no test.

Checked as the real one does: lengths in UTF-16 units, markup, what a button may carry, one poll at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import re
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from adapters.text import utf16_length

TOKEN = "4242:AAtest-token_for_loopback"
ME = {
    "id": 4242,
    "is_bot": True,
    "first_name": "Night",
    "username": "NightBot",
    "can_join_groups": True,
    "can_read_all_group_messages": False,
    "supports_inline_queries": False,
}
_RESERVED = re.compile(r"\\(.)|([_*\[\]()~`>#+\-=|{}.!])", re.DOTALL)


class Refused(Exception):
    """An answer that says no."""

    def __init__(self, status: int, description: str, **parameters: Any) -> None:
        super().__init__(description)
        self.status, self.description, self.parameters = status, description, parameters


@dataclass(frozen=True)
class Call:
    """A method that was called, with its parameters as they came."""

    method: str
    parameters: dict[str, Any]
    at: float = field(default_factory=time.monotonic)


@dataclass
class BotApi:
    """A server that one bot talks to."""

    port: int = 0
    me: dict[str, Any] = field(default_factory=lambda: dict(ME))
    calls: list[Call] = field(default_factory=list)
    messages: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)
    webhook: dict[str, Any] = field(default_factory=dict)
    confirmed: int = 0  # updates before this one are confirmed
    answered: set[str] = field(default_factory=set)  # callback queries
    brought: list[int] = field(default_factory=list)  # what the webhook said to each update

    def __post_init__(self) -> None:
        self._queue: list[dict[str, Any]] = []
        self._again: set[int] = set()
        self._allowed: list[str] = []
        self._numbers: Counter[int] = Counter()
        self._update = 1000
        self._polls = 0
        self._news = asyncio.Condition()
        self._refusals: defaultdict[str, list[Refused | None]] = defaultdict(list)
        self._server: _Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._held: dict[str, asyncio.Event] = {}
        self._open = False

    @property
    def url(self) -> str:
        """What base_url is set to."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Be reached, on the same port as before."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        app = Starlette(routes=[Route("/bot{token}/{method}", self._called, methods=["GET", "POST"])])
        self._server = _Server(
            uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
        )
        self._open = True
        self._tasks = [asyncio.create_task(self._server.serve(sockets=[listener])), asyncio.create_task(self._bring())]
        while not self._server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Be reached no longer."""
        if self._server is None:
            return
        self._open, self._server.force_exit = False, True
        self._server.leave()
        async with self._news:
            self._news.notify_all()
        serving, bringing = self._tasks
        bringing.cancel()
        await asyncio.gather(serving, bringing, return_exceptions=True)
        self._server = None

    def refuse(
        self, method: str, status: int, description: str, times: int = 1, after: int = 0, **parameters: Any
    ) -> None:
        """Answer the next calls of `method` so, `after` ones that go well. 200: with the description alone."""
        self._refusals[method] += [None] * after + [Refused(status, description, **parameters)] * times

    def hold(self, method: str) -> asyncio.Event:
        """Answer no call of `method` until the event is set."""
        self._held[method] = asyncio.Event()
        return self._held[method]

    def called(self, method: str) -> list[dict[str, Any]]:
        """The parameters of each call of `method`."""
        return [call.parameters for call in self.calls if call.method == method]

    def next_message(self, chat: int) -> int:
        """Messages are numbered in each chat on its own, so that numbers alone name none."""
        self._numbers[chat] += 1
        return self._numbers[chat]

    async def push(self, **update: Any) -> dict[str, Any]:
        """Something happened; the update."""
        self._update += 1
        made = {"update_id": self._update, **update}
        await self._queued(made)
        return made

    async def again(self, update: dict[str, Any]) -> None:
        """Deliver an update once more, though it may be confirmed."""
        self._again.add(update["update_id"])
        await self._queued(update)

    async def _queued(self, update: dict[str, Any]) -> None:
        async with self._news:
            self._queue.append(update)
            self._news.notify_all()

    # The wire -------------------------------------------------------------------------------

    async def _called(self, request: Request) -> Response:
        method = request.path_params["method"]
        parameters = dict(request.query_params) | dict(parse_qsl((await request.body()).decode()))
        self.calls.append(Call(method, parameters))
        if method in self._held:
            await self._held[method].wait()
        try:
            if request.path_params["token"] != TOKEN:
                raise Refused(401, "Unauthorized")
            if self._refusals[method] and (no := self._refusals[method].pop(0)):
                raise no
            answer = getattr(self, f"_on_{method}", None)
            if answer is None:
                raise Refused(404, "Not Found")
            return JSONResponse({"ok": True, "result": await answer(parameters)})
        except Refused as no:
            if no.status == 200:
                return PlainTextResponse(no.description)
            body = {"ok": False, "error_code": no.status, "description": no.description}
            return JSONResponse(body | ({"parameters": no.parameters} if no.parameters else {}), no.status)

    async def _bring(self) -> None:
        """Bring updates to the webhook, one after the other, each until it is taken."""
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            while True:
                async with self._news:
                    await self._news.wait_for(lambda: self._open and self.webhook.get("url") and self._queue)
                update = self._queue[0]
                with contextlib.suppress(httpx.HTTPError):
                    headers = {"X-Telegram-Bot-Api-Secret-Token": self.webhook["secret_token"]}
                    self.brought.append(
                        (await client.post(self.webhook["url"], json=update, headers=headers)).status_code
                    )
                    if self.brought[-1] == 200:
                        self.confirmed = update["update_id"] + 1
                        self._queue.remove(update)
                        continue
                await asyncio.sleep(0.02)

    # Updates --------------------------------------------------------------------------------

    async def _on_getMe(self, parameters: dict[str, Any]) -> Any:
        return self.me

    async def _on_getUpdates(self, parameters: dict[str, Any]) -> Any:
        if self.webhook.get("url"):
            raise Refused(409, "Conflict: can't use getUpdates method while webhook is active")
        offset, until = int(parameters.get("offset", 0)), time.monotonic() + float(parameters.get("timeout", 0))
        self.confirmed = max(self.confirmed, offset)
        self._allowed = json.loads(parameters.get("allowed_updates", "[]"))
        self._polls += 1
        mine = self._polls
        async with self._news:
            self._news.notify_all()
            self._queue = [one for one in self._queue if one["update_id"] >= offset or one["update_id"] in self._again]
            with contextlib.suppress(TimeoutError):
                waiting = self._news.wait_for(lambda: self._queue or self._polls != mine or not self._open)
                await asyncio.wait_for(waiting, max(until - time.monotonic(), 0.001))
            if self._polls != mine:
                raise Refused(409, "Conflict: terminated by other getUpdates request")
            batch = [one for one in self._queue if set(one) & set(self._allowed)]
            self._again -= {one["update_id"] for one in batch}
            return batch

    async def _on_setWebhook(self, parameters: dict[str, Any]) -> Any:
        self.webhook = parameters
        async with self._news:
            self._news.notify_all()
        return True

    async def _on_deleteWebhook(self, parameters: dict[str, Any]) -> Any:
        self.webhook = {}
        return True

    async def _on_getWebhookInfo(self, parameters: dict[str, Any]) -> Any:
        told = {
            "url": self.webhook.get("url", ""),
            "has_custom_certificate": False,
            "pending_update_count": len(self._queue),
        }
        return told | self.webhook.get("told", {})

    # Messages -------------------------------------------------------------------------------

    async def _on_sendMessage(self, parameters: dict[str, Any]) -> Any:
        chat = int(parameters["chat_id"])
        made = {
            "message_id": self.next_message(chat),
            "date": int(time.time()),
            "chat": {"id": chat, "type": "private" if chat > 0 else "supergroup", "title": "a chat"},
            "from": self.me,
            "text": seen(parameters),
        }
        if "message_thread_id" in parameters:
            made |= {"message_thread_id": int(parameters["message_thread_id"]), "is_topic_message": True}
        if "reply_markup" in parameters:
            made["reply_markup"] = keyboard(parameters["reply_markup"])
        self.messages[chat, made["message_id"]] = made
        return made

    async def _on_editMessageText(self, parameters: dict[str, Any]) -> Any:
        return self._changed(parameters, text=seen(parameters))

    async def _on_editMessageReplyMarkup(self, parameters: dict[str, Any]) -> Any:
        return self._changed(parameters)

    def _changed(self, parameters: dict[str, Any], **fields: Any) -> dict[str, Any]:
        made = self.messages.get((int(parameters["chat_id"]), int(parameters["message_id"])))
        if made is None:
            raise Refused(400, "Bad Request: message to edit not found")
        markup = keyboard(parameters["reply_markup"]) if "reply_markup" in parameters else None
        changed = {key: value for key, value in made.items() if key != "reply_markup"} | fields
        if markup:
            changed["reply_markup"] = markup
        if changed == made:
            raise Refused(400, "Bad Request: message is not modified")
        self.messages[int(parameters["chat_id"]), int(parameters["message_id"])] = changed
        return changed

    async def _on_answerCallbackQuery(self, parameters: dict[str, Any]) -> Any:
        self.answered.add(parameters["callback_query_id"])
        return True

    async def _on_sendChatAction(self, parameters: dict[str, Any]) -> Any:
        return True

    async def _on_sendMessageDraft(self, parameters: dict[str, Any]) -> Any:
        if int(parameters["chat_id"]) < 0 or int(parameters["draft_id"]) == 0:
            raise Refused(400, "Bad Request: drafts are for private chats")
        seen(parameters)
        return True

    async def _on_setMyCommands(self, parameters: dict[str, Any]) -> Any:
        for command in json.loads(parameters["commands"]):
            if not re.fullmatch(r"[a-z0-9_]{1,32}", command["command"]) or not command["description"]:
                raise Refused(400, "Bad Request: BOT_COMMAND_INVALID")
        return True


def seen(parameters: dict[str, Any]) -> str:
    """The text as people see it. Refuses what Telegram refuses."""
    text, mode = parameters.get("text", ""), parameters.get("parse_mode", "")
    if mode == "MarkdownV2":
        reserved = next((found for found in _RESERVED.finditer(text) if found[2]), None)
        if reserved:
            raise Refused(400, f"Bad Request: can't parse entities: character '{reserved[2]}' is reserved")
        text = _RESERVED.sub(lambda found: found[1], text)
    elif mode == "HTML":
        if re.search(r"[<>]|&(?!lt;|gt;|amp;|quot;)", text):
            raise Refused(400, "Bad Request: can't parse entities: unsupported tag")
        text = html.unescape(text)
    text = text.strip()
    if not text:
        raise Refused(400, "Bad Request: message text is empty")
    if utf16_length(text) > 4096:
        raise Refused(400, "Bad Request: message is too long")
    return text


def keyboard(markup: str) -> dict[str, Any]:
    """The buttons. Refuses what Telegram refuses."""
    made: dict[str, Any] = json.loads(markup)
    for row in made["inline_keyboard"]:
        for one in row:
            if not 1 <= len(one["callback_data"].encode()) <= 64:
                raise Refused(400, "Bad Request: BUTTON_DATA_INVALID")
    return made


class _Server(uvicorn.Server):
    """Uvicorn without its own signal handlers, and without its wait for the next tick."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._leaving = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._leaving.wait()

    def leave(self) -> None:
        """End now."""
        self.should_exit = True
        self._leaving.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
