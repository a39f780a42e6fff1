"""OpenAI's chat completions in JSON: what is asked, what is refused, what is answered. Pure.

Knows nothing of connections, bots or engines' insides. Field names and shapes as in OpenAI's API reference,
"Create chat completion" and "The chat completion chunk object".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from adapters.web.wire import whole_text
from learner.engine.base import Candidate, ChatMessage, Finish, Generated, Role, Sampling

ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
FINISHES: dict[Finish, str] = {"stop": "stop", "length": "length"}  # anything else was cut by somebody
MOST_STOPS, MOST_TOP_LOGPROBS = 16, 20

Pieces = Callable[[Sequence[int]], Sequence[bytes]]


class ApiError(Exception):
    """A refusal in OpenAI's shape: status, sentence, the field that is wrong (`param`), a code, seconds to wait."""

    def __init__(
        self,
        status: int,
        sentence: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str = "invalid_request_error",
        retry_after: int | None = None,
    ) -> None:
        super().__init__(sentence)
        self.status, self.retry_after = status, retry_after
        self.body = {"error": {"message": sentence, "type": kind, "param": param, "code": code}}


@dataclass(frozen=True)
class ChatCall:
    """A request for a chat completion; None where the bot's own setting counts."""

    model: str
    messages: tuple[ChatMessage, ...]
    choices: int = 1
    stream: bool = False
    include_usage: bool = False
    seed: int | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    temperature: float | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    cache_key: str | None = None

    def sampling(self, own: Sampling) -> Sampling:
        """The bot's `own` sampling with what the request changes of it."""
        names = ("temperature", "top_p", "repetition_penalty", "max_tokens")
        changes = {name: value for name in names if (value := getattr(self, name)) is not None}
        return replace(own, stop=self.stop or own.stop, **changes)


@dataclass(frozen=True)
class Head:
    """What every part of one answer carries: its id, the unix second it was asked for, and the bot's name."""

    id: str
    created: int
    model: str

    def fields(self, kind: str) -> dict[str, Any]:
        """The head of an object of that kind."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


# Reading ------------------------------------------------------------------------------------


def parse(body: Mapping[str, Any]) -> ChatCall:
    """The request in `body`; unknown fields are ignored. Raises ApiError naming the field that cannot be served."""
    _refuse_unsupported(body)
    most = _number(body, "max_completion_tokens", 1) or _number(body, "max_tokens", 1)
    call = ChatCall(
        model=_words(body, "model", needed=True) or "",
        messages=_messages(body.get("messages")),
        choices=int(_number(body, "n", 1) or 1),
        stream=_flag(body, "stream"),
        include_usage=_flag(body.get("stream_options") or {}, "include_usage"),
        seed=_number(body, "seed"),
        logprobs=_flag(body, "logprobs"),
        top_logprobs=int(_number(body, "top_logprobs", 0, MOST_TOP_LOGPROBS) or 0),
        temperature=_number(body, "temperature", 0, 5, whole=False),
        top_p=_number(body, "top_p", 0, 1, whole=False),
        repetition_penalty=_number(body, "repetition_penalty", 0.1, 10, whole=False),
        max_tokens=most,
        stop=_stops(body.get("stop")),
        cache_key=_words(body, "prompt_cache_key"),
    )
    if call.top_logprobs and not call.logprobs:
        raise ApiError(400, "top_logprobs needs logprobs: true", param="top_logprobs")
    return call


def _refuse_unsupported(body: Mapping[str, Any]) -> None:
    """Refuse what would change the answer and is not done here; what asks for nothing passes."""
    for name in ("tools", "functions"):
        if body.get(name):
            raise _unsupported(name, "the bot calls no tools; leave it out")
    if body.get("tool_choice") not in (None, "none", "auto") or body.get("function_call") not in (None, "none", "auto"):
        raise _unsupported("tool_choice", "the bot calls no tools; leave it out")
    form = body.get("response_format")
    if form and not (isinstance(form, Mapping) and form.get("type") == "text"):
        raise _unsupported("response_format", 'the bot writes text only; leave it out, or {"type": "text"}')
    if body.get("audio") or body.get("modalities") not in (None, [], ["text"]):
        raise _unsupported("modalities", 'the bot writes text only; leave it out, or ["text"]')
    for name in ("frequency_penalty", "presence_penalty", "logit_bias"):
        if body.get(name):
            raise _unsupported(name, "the bot has none; use repetition_penalty (1.0: none), or leave it out")


def _unsupported(name: str, sentence: str) -> ApiError:
    return ApiError(400, f"{name} is not supported: {sentence}", param=name, code="unsupported_parameter")


def _wrong(name: str, wanted: str) -> ApiError:
    return ApiError(400, f"{name}: expected {wanted}", param=name, code="invalid_value")


def _messages(rows: Any) -> tuple[ChatMessage, ...]:
    if not isinstance(rows, list) or not rows:
        raise _wrong("messages", 'a list of at least one {"role": …, "content": …}')
    return tuple(_message(row, f"messages[{number}]") for number, row in enumerate(rows))


def _message(row: Any, at: str) -> ChatMessage:
    if not isinstance(row, Mapping):
        raise _wrong(at, 'an object {"role": …, "content": …}')
    role = row.get("role")
    if role in ("tool", "function") or row.get("tool_calls") or row.get("function_call"):
        raise _unsupported(
            f"{at}.role" if role in ("tool", "function") else f"{at}.tool_calls", "the bot calls no tools"
        )
    if not isinstance(role, str) or role not in ROLES:
        raise _wrong(f"{at}.role", f"one of {', '.join(ROLES)}")
    return ChatMessage(ROLES[role], _content(row.get("content"), f"{at}.content"))


def _content(content: Any, at: str) -> str:
    """The text of a message: a string, or text parts, which are joined."""
    if isinstance(content, str):
        return whole_text(content)
    if not isinstance(content, list) or not content:
        raise _wrong(at, "a string, or a list of text parts")
    parts = []
    for number, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind not in ("text", "input_text"):
            raise _unsupported(f"{at}[{number}]", f"the bot reads text parts only, not {kind}")
        if not isinstance(part.get("text"), str):
            raise _wrong(f"{at}[{number}].text", "a string")
        parts.append(whole_text(part["text"]))
    return "\n".join(parts)


def _stops(given: Any) -> tuple[str, ...]:
    stops = [given] if isinstance(given, str) else given or []
    if not isinstance(stops, list) or len(stops) > MOST_STOPS or not all(isinstance(one, str) for one in stops):
        raise _wrong("stop", f"a string, or a list of at most {MOST_STOPS} strings")
    return tuple(one for one in stops if one)


def _words(body: Mapping[str, Any], name: str, needed: bool = False) -> str | None:
    value = body.get(name)
    if not (isinstance(value, str) and value) and (needed or value is not None):
        raise _wrong(name, "a string that is not empty")
    return value


def _flag(body: Any, name: str) -> bool:
    value = body.get(name) if isinstance(body, Mapping) else "no object"
    if value not in (None, True, False):
        raise _wrong(name, "true or false")
    return bool(value)


def _number(
    body: Mapping[str, Any], name: str, least: float | None = None, most: float | None = None, whole: bool = True
) -> Any:
    """The number called `name`, None where there is none."""
    value = body.get(name)
    if value is None:
        return None
    fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not fits or (least is not None and not value >= least) or (most is not None and not value <= most):
        span = "".join([f" from {least:g}" if least is not None else "", f" to {most:g}" if most is not None else ""])
        raise _wrong(name, f"{'a whole number' if whole else 'a number'}{span}")
    return value


# Answering ----------------------------------------------------------------------------------


def completion(head: Head, call: ChatCall, generated: Generated, pieces: Pieces) -> dict[str, Any]:
    """The answer as a whole."""
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": one.text, "refusal": None},
            "logprobs": logprobs(one, pieces) if call.logprobs else None,
            "finish_reason": finish_reason(one),
        }
        for index, one in enumerate(generated.candidates)
    ]
    return {
        **head.fields("chat.completion"),
        "system_fingerprint": fingerprint(generated),
        "choices": choices,
        "usage": usage(generated),
    }


def chunk(head: Head, index: int, delta: Mapping[str, str]) -> dict[str, Any]:
    """A piece of one choice in a stream."""
    choice = {"index": index, "delta": dict(delta), "logprobs": None, "finish_reason": None}
    return {**head.fields("chat.completion.chunk"), "choices": [choice]}


def last_chunk(
    head: Head, index: int, candidate: Candidate, generated: Generated, shown: dict[str, Any] | None
) -> dict[str, Any]:
    """The end of one choice in a stream; with the log-probabilities of all of it, if they are `shown`."""
    choice = {"index": index, "delta": {}, "logprobs": shown, "finish_reason": finish_reason(candidate)}
    told = {"system_fingerprint": fingerprint(generated)}
    return {**head.fields("chat.completion.chunk"), **told, "choices": [choice]}


def usage_chunk(head: Head, generated: Generated) -> dict[str, Any]:
    """What a stream ends with where its usage was asked for."""
    return {**head.fields("chat.completion.chunk"), "choices": [], "usage": usage(generated)}


def usage(generated: Generated) -> dict[str, int]:
    """Counted tokens: of the prompt once, of all choices together."""
    asked = len(generated.request.prompt_ids)
    made = sum(len(one.token_ids) for one in generated.candidates)
    return {"prompt_tokens": asked, "completion_tokens": made, "total_tokens": asked + made}


def fingerprint(generated: Generated) -> str:
    """Which LoRA spoke."""
    return "+".join(sorted({f"lora-{one.lora}" if one.lora else "base" for one in generated.candidates}))


def finish_reason(candidate: Candidate) -> str:
    """Why a choice ended, in OpenAI's words."""
    return FINISHES.get(candidate.finish, "content_filter")


def logprobs(candidate: Candidate, pieces: Pieces) -> dict[str, Any] | None:
    """What the model made of each token of the text; None where the engine cannot tell."""
    if not candidate.logprobs:
        return None
    content, written, length = [], 0, len(candidate.text.encode("utf-8", "replace"))
    written_by = pieces(candidate.token_ids)
    for at, (piece, logprob) in enumerate(zip(written_by, candidate.logprobs, strict=True)):
        if not piece or (candidate.spec.sampling.stop and written >= length):
            continue  # the end token, and what a stop string cut away
        written += len(piece)
        tops = candidate.top_logprobs[at] if at < len(candidate.top_logprobs) else ()
        likely = [_token(one, value) for (_, value), one in zip(tops, pieces([i for i, _ in tops]), strict=True)]
        content.append({**_token(piece, logprob), "top_logprobs": likely})
    return {"content": content, "refusal": None}


def _token(piece: bytes, logprob: float) -> dict[str, Any]:
    return {"token": piece.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(piece)}
