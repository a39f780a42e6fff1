"""One chat completion on OpenAI's wire: what is sent, what came back. Pure.

Knows nothing of sockets, retries or what is asked. https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from learner.corpus.synthesis.errors import ItemFailed
from learner.engine.base import ChatMessage


@dataclass(frozen=True)
class Drawing:
    """How an answer is drawn. None and 0 are not sent, so that the endpoint's own defaults hold.

    `extra` goes into the body as it is, for what an endpoint knows besides ("enable_thinking", "response_format").
    """

    temperature: float | None = 1.0
    max_tokens: int = 2048
    extra: dict[str, Any] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """Its part of a request's body."""
        fields: dict[str, Any] = {} if self.temperature is None else {"temperature": self.temperature}
        fields |= {"max_tokens": self.max_tokens} if self.max_tokens else {}
        return fields | self.extra


@dataclass(frozen=True)
class Ask:
    """One question to the model. `kind` and `index` tell equal questions apart that are to be answered anew."""

    kind: str
    index: int
    messages: tuple[ChatMessage, ...]
    drawing: Drawing

    def body(self, model: str) -> dict[str, Any]:
        """The request's body."""
        messages = [{"role": one.role, "content": one.content} for one in self.messages]
        return {"model": model, "messages": messages, "stream": False, **self.drawing.body()}

    def key(self, model: str) -> str:
        """What names this question in the journal: the same for the same body, kind and index."""
        whole = {"kind": self.kind, "index": self.index, **self.body(model)}
        return hashlib.sha256(json.dumps(whole, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


@dataclass(frozen=True)
class Answer:
    """What the model said. Token counts are the endpoint's, or, when `counted` is false, our estimate."""

    text: str
    finish: str
    prompt_tokens: int
    completion_tokens: int
    counted: bool = True


def estimated_tokens(text: str) -> int:
    """About how many tokens a text is: one for a wide character, one for three others. Rather too many than too few."""
    wide = sum(char > "\u2e7f" for char in text)
    return wide + -(-(len(text) - wide) // 3)


def prompt_tokens(ask: Ask) -> int:
    """About how many tokens a question is, the template's own included."""
    return sum(estimated_tokens(one.content) + 4 for one in ask.messages) + 3


def read_answer(ask: Ask, body: bytes) -> Answer:
    """The answer in a response's body.

    Raises ValueError when it is no chat completion, ItemFailed when the model was kept from answering.
    """
    try:
        row = json.loads(body)
        choice = row["choices"][0]
        content, finish = choice["message"].get("content"), str(choice.get("finish_reason") or "")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("the answer is no chat completion") from error
    if finish == "content_filter":
        raise ItemFailed("refused", "the endpoint's content filter stopped the answer", lasting=True)
    text = whole_characters(content) if isinstance(content, str) else ""
    counts = [_count(row, name) for name in ("prompt_tokens", "completion_tokens")]
    if None in counts:
        return Answer(text, finish, prompt_tokens(ask), estimated_tokens(text), counted=False)
    return Answer(text, finish, counts[0] or 0, counts[1] or 0)


def whole_characters(text: str) -> str:
    """`text` without halves of characters, which JSON can hold and UTF-8 can't."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _count(row: dict[str, Any], name: str) -> int | None:
    usage = row.get("usage")
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value >= 0 else None


def complaint(body: bytes) -> tuple[str, str]:
    """The error's code and message in a response's body; empty when it has none."""
    try:
        row = json.loads(body)
    except (ValueError, RecursionError):
        return "", body[:200].decode("utf-8", "replace").strip()
    error = row.get("error", row) if isinstance(row, dict) else {}
    if not isinstance(error, dict):
        return "", whole_characters(str(error)[:300])
    code, message = (error.get("code") or error.get("type") or ""), (error.get("message") or "")
    return whole_characters(str(code)), whole_characters(str(message)[:300])
