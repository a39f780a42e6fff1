"""One chat completion at work: its text as it comes, its end, and its cancelling when the client leaves.

Knows nothing of what is asked or of how answers look.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from learner.engine.base import Generated, OnText

Piece = tuple[int, str]  # which choice, and what it says next
DONE = b"data: [DONE]\n\n"


class ClientLeft(Exception):
    """Nobody waits for the answer any more."""


class Work:
    """A generation that ends when its client leaves."""

    def __init__(self, generate: Callable[[OnText], Awaitable[Generated]], request: Request) -> None:
        self._pieces: asyncio.Queue[Piece | None] = asyncio.Queue()
        self._began, self._spoke = asyncio.Event(), False
        self._task = asyncio.create_task(self._run(generate))
        self._watch = asyncio.create_task(self._until_left(request))

    async def begun(self) -> None:
        """Wait for the first text or the end. Raises what the generation raised before, and ClientLeft."""
        await self._began.wait()
        if not self._spoke:
            await self.result()

    async def pieces(self) -> AsyncIterator[Piece]:
        """Text until there is no more; how it ended is `result`'s to say."""
        while (piece := await self._pieces.get()) is not None:
            yield piece

    async def result(self) -> Generated:
        """The finished generation. Raises what it raised, and ClientLeft."""
        try:
            return await asyncio.shield(self._task)
        except asyncio.CancelledError:
            if self._task.cancelled():
                raise ClientLeft from None
            raise

    async def close(self) -> None:
        """Stop generating, if it still does."""
        for task in (self._watch, self._task):
            task.cancel()
        await asyncio.gather(self._watch, self._task, return_exceptions=True)

    async def _run(self, generate: Callable[[OnText], Awaitable[Generated]]) -> Generated:
        try:
            return await generate(self._grow)
        finally:
            self._pieces.put_nowait(None)
            self._began.set()

    def _grow(self, index: int, text: str) -> None:
        self._pieces.put_nowait((index, text))
        self._spoke = True
        self._began.set()

    async def _until_left(self, request: Request) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self._task.cancel()


class EventStream(Response):
    """Objects as server-sent events, as they come; `work` is closed with the connection, however that ends."""

    media_type = "text/event-stream"

    def __init__(self, objects: AsyncIterator[Mapping[str, Any]], work: Work) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._objects, self._work = objects, work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for one in self._objects:
                await send({"type": "http.response.body", "body": event(one), "more_body": True})
            await send({"type": "http.response.body", "body": DONE})
        finally:
            await self._work.close()


def event(content: Mapping[str, Any]) -> bytes:
    """One server-sent event; lone surrogates, which UTF-8 cannot hold, become "?"."""
    return f"data: {json.dumps(content, ensure_ascii=False, separators=(',', ':'))}\n\n".encode("utf-8", "replace")
