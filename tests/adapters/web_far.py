"""A page over real HTTP, for the contract suite: what it posts, and the events it is told of."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
from typing import Any, Self

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from adapters.base import Verdict
from adapters.testing import FarEnd, Shown
from adapters.web import WebAdapter
from adapters.web.fake import FakeBot

BUTTONS = ("1", "2", "both bad")


class WebFar(FarEnd):
    """A server on loopback whose routes are the newest adapter's, and one page open on each chat."""

    can = frozenset({"press", "rate", "correct", "acknowledge"})
    lacks = frozenset({"cuts", "own", "unknown", "settle"})

    def __init__(self) -> None:
        self._pages: dict[str, asyncio.Task[None]] = {}
        self._open: dict[str, asyncio.Event] = {}
        self._shown: dict[str, list[Shown]] = {}
        self._exchanges: dict[str, str] = {}  # by reply
        self._posted: dict[str, tuple[str, str]] = {}
        self._answered: set[str] = set()
        self._requests: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._backend = _Backend(self)

    async def __aenter__(self) -> Self:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(self._app, interface="asgi3", log_level="warning", lifespan="off"))
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        self.client = httpx.AsyncClient(base_url=address, timeout=20)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in (*self._pages.values(), *self._requests):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.client.aclose()
        self._server.should_exit = True
        await self._serving
        self._socket.close()

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._routes(scope, receive, send)

    def adapter(self) -> WebAdapter:
        ids = itertools.count(1)
        port = self._socket.getsockname()[1]
        made = WebAdapter(self._backend, host="127.0.0.1", port=port, new_id=lambda: f"n{next(ids)}")
        self._routes = made.guard(Starlette(routes=made.routes()))
        return made

    def chat_id(self, chat: str) -> str:
        return chat

    def person_id(self, person: str) -> str:
        return "local"

    async def say(
        self, text: str, *, chat: str = "alice", person: str = "alice", mention: bool = False, quote: str | None = None
    ) -> str:
        await self._page(chat)
        id = f"c{next(self._numbers)}"
        self._posted[id] = chat, text
        await self.again(id)
        return id

    async def again(self, message: str) -> None:
        """Posts, and goes on when the adapter has it: a request lasts until the reply."""
        chat, text = self._posted[message]
        arrived = asyncio.Event()
        task = asyncio.create_task(self._post(message, chat, text, arrived))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)
        await arrived.wait()

    async def _post(self, id: str, chat: str, text: str, arrived: asyncio.Event) -> None:
        path = f"/api/chat/{chat}/messages"
        sent = asyncio.create_task(self.client.post(path, json={"text": text, "id": id}))
        await asyncio.sleep(0.05)  # in order, as a page posts
        arrived.set()
        answer = await sent
        assert answer.status_code == 200, answer.text
        self._answered.add(id)

    def acknowledged(self) -> set[str]:
        return self._answered

    def shown(self, chat: str = "alice") -> list[Shown]:
        return self._shown.get(chat, [])

    async def press(self, message: str, verdict: Verdict, *, chat: str = "alice", person: str = "alice") -> None:
        choices: dict[str, dict[str, Any]] = {
            "1": {"choice": 1},
            "2": {"choice": 2},
            "both_bad": {"choice": "both_bad"},
            "tie": {"choice": "tie"},
            "good": {"rating": "good"},
            "bad": {"rating": "bad"},
        }
        await self._give(message, choices[verdict])

    async def correct(self, message: str, words: str, *, chat: str = "alice", person: str = "alice") -> None:
        await self._give(message, {"correction": words})

    async def _give(self, message: str, what: dict[str, Any]) -> None:
        answer = await self.client.post(f"/api/exchanges/{self._exchanges[message]}/feedback", json=what)
        assert answer.status_code == 200, answer.text

    async def _page(self, chat: str) -> None:
        """Open a page on the chat, if none is, and wait until it is told of everything."""
        if chat not in self._pages:
            self._open[chat] = asyncio.Event()
            self._pages[chat] = asyncio.create_task(self._listen(chat))
        await self._open[chat].wait()

    async def _listen(self, chat: str) -> None:
        while True:  # as EventSource does
            with contextlib.suppress(httpx.HTTPError):
                async with self.client.stream("GET", f"/api/chat/{chat}/events") as response:
                    await self._hear(chat, response)
            self._open[chat].clear()
            await asyncio.sleep(0.02)

    async def _hear(self, chat: str, response: httpx.Response) -> None:
        name = ""
        async for line in response.aiter_lines():
            key, _, value = line.partition(": ")
            if key == "event":
                name = value
            elif key == "data" and name == "ping":
                self._open[chat].set()
            elif key == "data" and name == "reply":
                self._show(chat, json.loads(value))

    def _show(self, chat: str, reply: dict[str, Any]) -> None:
        self._exchanges[reply["id"]] = reply["exchange"]
        candidates = reply["candidates"] or ()
        text = "\n".join([reply["text"], *(f"{number}: {one}" for number, one in enumerate(candidates, 1))])
        self._shown.setdefault(chat, []).append(Shown(reply["id"], text, BUTTONS if candidates else ()))

    def chat_of(self, exchange: str) -> str | None:
        """The chat in which the exchange was shown."""
        ids = {id for id, one in self._exchanges.items() if one == exchange}
        return next((chat for chat, shown in self._shown.items() for one in shown if one.id in ids), None)


class _Backend(FakeBot):
    """Knows the exchanges that the far end saw; whatever is said goes to whoever runs the adapter."""

    def __init__(self, far: WebFar) -> None:
        super().__init__()
        self._far = far

    async def chat_of(self, exchange: str) -> str | None:
        return self._far.chat_of(exchange)

    async def feedback_of(self, exchange: str) -> str:
        return ""
