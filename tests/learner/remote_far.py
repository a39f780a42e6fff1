"""The far end of the remote engine: a server on loopback that speaks OpenAI's wire, with vLLM's LoRA endpoints.

It cuts its stream into bytes anywhere, and can be told to be busy, to break off, or to know no `n`.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from bots.server import Server

Reply = Callable[[list[dict[str, str]], int], str]


class RemoteFar:
    """Answers every chat completion with `reply(messages, seed)`; a byte is a token."""

    model = "far-model"

    def __init__(self, reply: Reply, *, piece: int = 1, delay: float = 0.002, many: bool = True) -> None:
        self.reply, self.piece, self.delay, self.many = reply, piece, delay, many
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.answers: deque[Response] = deque()  # what is answered first, instead
        self.breaks_after: int | None = None  # bytes of a stream
        self.reasoning = ""
        self.line_end = "\n"
        self.loaded: dict[str, str] = {}
        self.log: list[tuple[str, str]] = []

    async def __aenter__(self) -> Self:
        self._server = Server("127.0.0.1", 0)
        self.url = f"{self._server.url}v1"
        routes = [
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/v1/models", self._models),
            Route("/v1/load_lora_adapter", self._load, methods=["POST"]),
            Route("/v1/unload_lora_adapter", self._unload, methods=["POST"]),
        ]
        await self._server.start(Starlette(routes=routes))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop()

    def complain(self, status: int, sentence: str, **more: Any) -> None:
        """Answer the next request with an error of OpenAI's shape."""
        headers = more.pop("headers", None)
        self.answers.append(JSONResponse({"error": {"message": sentence, **more}}, status, headers))

    async def _models(self, _: Request) -> Response:
        return JSONResponse({"data": [{"id": name} for name in (self.model, *self.loaded)]})

    async def _load(self, request: Request) -> Response:
        body = await request.json()
        if self.answers:
            return self.answers.popleft()
        if body["lora_name"] in self.loaded:
            return JSONResponse({"error": {"message": "has already been loaded"}}, 400)
        self.loaded[body["lora_name"]] = body["lora_path"]
        self.log.append(("load", body["lora_name"]))
        return PlainTextResponse("Success")

    async def _unload(self, request: Request) -> Response:
        name = (await request.json())["lora_name"]
        del self.loaded[name]
        self.log.append(("unload", name))
        return PlainTextResponse("Success")

    async def _chat(self, request: Request) -> Response:
        self.keys.append(request.headers.get("authorization", ""))
        body = json.loads(await request.body())
        self.asked.append(body)
        if self.answers:
            return self.answers.popleft()
        if body["model"] not in (self.model, *self.loaded):
            return JSONResponse({"error": {"message": "no such model", "code": "model_not_found"}}, 404)
        return StreamingResponse(self._cut(self._lines(body)), media_type="text/event-stream")

    async def _cut(self, lines: AsyncIterator[str]) -> AsyncIterator[bytes]:
        """The stream in odd pieces, broken off where it is to be."""
        sent = 0
        async for line in lines:
            data = f"{line}{self.line_end}{self.line_end}".encode()
            for start in range(0, len(data), 17):
                part = data[start : start + 17]
                if self.breaks_after is not None and sent + len(part) > self.breaks_after:
                    return
                sent += len(part)
                yield part

    async def _lines(self, body: dict[str, Any]) -> AsyncIterator[str]:
        yield ": a comment"
        count = body.get("n", 1) if self.many else 1
        limit = body.get("max_tokens") or body["max_completion_tokens"]
        texts, ends = [], []
        for index in range(count):
            raw = self.reply(body["messages"], body.get("seed", 0) + index).encode()
            texts.append(raw[:limit].decode(errors="ignore"))
            ends.append("length" if len(raw) > limit else "stop")
            yield self._chunk(index, {"role": "assistant", "content": ""})
            if self.reasoning:
                yield self._chunk(index, {"reasoning_content": self.reasoning})
        for start in range(0, max(map(len, texts)), self.piece):
            await asyncio.sleep(self.delay)
            for index, text in enumerate(texts):
                if text[start : start + self.piece]:
                    yield self._chunk(index, {"content": text[start : start + self.piece]})
        for index, end in enumerate(ends):
            yield self._chunk(index, {}, end)
        yield "data: [DONE]"

    def _chunk(self, index: int, delta: dict[str, str], finish: str | None = None) -> str:
        choice = {"index": index, "delta": delta, "finish_reason": finish}
        return "data: " + json.dumps({"choices": [choice]}, ensure_ascii=False)
