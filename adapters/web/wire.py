"""JSON in and out: bodies, replies, errors. Knows nothing of what is asked."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from adapters.base import Reply

MAX_BODY_BYTES = 1_000_000


class Json(Response):
    """JSON that any client can decode: lone surrogates, which UTF-8 cannot hold, become "?"."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")

    def init_headers(self, headers: Any = None) -> None:
        super().init_headers(headers)
        self.headers["cache-control"] = "no-store"


def error(status: int, sentence: str) -> Json:
    return Json({"error": sentence}, status)


def whole_text(text: str) -> str:
    """`text` with lone surrogates (JSON can carry them) replaced by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


async def read_object(request: Request) -> dict[str, Any] | Json:
    """The body as a JSON object, {} when it is empty; or the answer that refuses it."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return error(413, f"a body may have {MAX_BODY_BYTES:,} bytes at most")
    if not body.strip():
        return {}
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return error(400, "the body is not valid JSON in UTF-8")
    if not isinstance(content, dict):
        return error(400, 'the body must be a JSON object, such as {"text": "hello"}')
    return content


def reply_fields(reply: Reply) -> dict[str, object]:
    return {
        "id": reply.id,
        "exchange": reply.exchange,
        "text": reply.text,
        "candidates": list(reply.candidates) if reply.candidates else None,
        "answers": reply.answers,
        **({"greets": True} if reply.greets else {}),
    }


def replies_field(replies: Iterable[Reply]) -> list[dict[str, object]]:
    return [reply_fields(reply) for reply in replies]
