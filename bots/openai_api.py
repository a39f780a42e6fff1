"""OpenAI's HTTP interface to the bots: /v1/models and /v1/chat/completions, so that other frontends can use them.

Each bot is a model of its name, and speaks as its persona with the LoRA that is active. Knows nothing of the store:
what is said here is neither kept nor learned from.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from adapters.web.guard import Gate, Guard, Hosts
from adapters.web.wire import Json
from bots import openai_wire as wire
from bots.openai_stream import ClientLeft, EventStream, Work
from bots.openai_wire import ApiError, ChatCall, Head
from bots.settings import ApiSettings, WebSettings
from bots.talk import BotProfile
from learner.engine.base import (
    CandidateSpec,
    ChatMessage,
    Engine,
    EngineBusy,
    EngineClosed,
    EngineError,
    Generated,
    GenerateRequest,
    PromptTooLong,
)
from learner.engine.lengths import estimated_tokens

log = logging.getLogger(__name__)
PREFIX = "/v1/"
MAX_BODY_BYTES = 4_000_000
RETRY_AFTER = 2  # seconds, where the queue is full: about as long as a reply takes


@dataclass(frozen=True)
class Speaker:
    """A bot as it is asked for here."""

    profile: BotProfile
    engine: Engine


class OpenAiApi:
    """Serves every bot that it is given."""

    def __init__(
        self,
        language: str,
        max_choices: int,
        new_id: Callable[[], str],
        new_seed: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self._language, self._max_choices = language, max_choices
        self._new_id, self._new_seed, self._clock = new_id, new_seed, clock
        self._speakers: dict[str, Speaker] = {}
        self._since = int(clock())

    def serve(self, profile: BotProfile, engine: Engine) -> None:
        """Answer for one more bot."""
        self._speakers[profile.name] = Speaker(profile, engine)

    def app(self) -> Starlette:
        """The routes; errors are in OpenAI's shape."""
        routes = [
            Route(f"{PREFIX}models", self._models, methods=["GET"]),
            Route(f"{PREFIX}models/{{name}}", self._model, methods=["GET"]),
            Route(f"{PREFIX}chat/completions", self._chat, methods=["POST"]),
        ]
        handlers: Mapping[Any, Any] = {ApiError: _api_error, HTTPException: _http_error, ClientLeft: _nobody}
        return Starlette(routes=routes, exception_handlers=handlers)

    # Models -----------------------------------------------------------------------------------

    async def _models(self, _: Request) -> Response:
        return Json({"object": "list", "data": [self._listed(name) for name in self._speakers]})

    async def _model(self, request: Request) -> Response:
        return Json(self._listed(self._speaker(request.path_params["name"]).profile.name))

    def _listed(self, name: str) -> dict[str, object]:
        return {"id": name, "object": "model", "created": self._since, "owned_by": "nightschool"}

    def _speaker(self, name: str) -> Speaker:
        if name not in self._speakers:
            sentence = f"there is no model {name}; the bots are: {', '.join(self._speakers)}"
            raise ApiError(404, sentence, param="model", code="model_not_found")
        return self._speakers[name]

    # Chat completions -------------------------------------------------------------------------

    async def _chat(self, request: Request) -> Response:
        call = wire.parse(await _read(request))
        speaker = self._speaker(call.model)
        asked = self._asked(speaker, call)
        head = Head(f"chatcmpl-{self._new_id()}", int(self._clock()), call.model)
        work = Work(lambda on_text: speaker.engine.generate(asked, on_text), request)
        answer: Response | None = None
        try:
            if call.stream:
                await work.begun()
                answer = EventStream(_stream(head, call, speaker, work), work)
                return answer
            generated = _finished(speaker, await work.result())
            return Json(wire.completion(head, call, generated, speaker.engine.token_bytes))
        except EngineError as error:
            raise _as_api_error(error) from error
        finally:
            if answer is None:  # a stream closes it when it ends
                await work.close()

    def _asked(self, speaker: Speaker, call: ChatCall) -> GenerateRequest:
        """What the engine is to do. Raises ApiError for what does not fit."""
        if call.choices > self._max_choices:
            sentence = f"n: at most {self._max_choices} choices are made at once (model.max_batch)"
            raise ApiError(400, sentence, param="n", code="invalid_value")
        messages = self._with_persona(speaker, call.messages)
        try:
            prompt = speaker.engine.render(messages)
        except EngineError as error:
            raise _as_api_error(error) from error
        sampling = call.sampling(speaker.profile.sampling)
        length = len(prompt) or estimated_tokens(messages)
        room = speaker.engine.context_length - length
        if room < 1:
            raise _too_long(f"the messages have {length} tokens, and {speaker.engine.context_length} fit")
        sampling = replace(sampling, max_tokens=min(sampling.max_tokens, room))
        seed = self._new_seed() if call.seed is None else call.seed
        specs = tuple(CandidateSpec(sampling, seed + at, "active", call.top_logprobs) for at in range(call.choices))
        kept = f"api/{speaker.profile.name}/{call.cache_key}" if call.cache_key else None
        return GenerateRequest(prompt, specs, kept, speaker.profile.reply_timeout, messages)

    def _with_persona(self, speaker: Speaker, messages: tuple[ChatMessage, ...]) -> tuple[ChatMessage, ...]:
        """The bot's own system prompt first, unless the request brings one: whoever sets it wants another person."""
        own = speaker.profile.persona.now.system_prompt(self._language)
        if not own or any(one.role == "system" for one in messages):
            return messages
        return (ChatMessage("system", own), *messages)


def guarded(app: ASGIApp, web: WebSettings, api: ApiSettings, port: int) -> Guard:
    """`app` behind the page's checks of Host and Origin, and behind the key or the page's token where there is one."""
    gate = Gate(web.token, port, keys=(api.key,) if api.key else ())
    return Guard(app, Hosts(web.host, port, web.allowed_hosts), gate, private=PREFIX.rstrip("/"), refuse=_refusal)


async def _stream(head: Head, call: ChatCall, speaker: Speaker, work: Work) -> AsyncIterator[dict[str, Any]]:
    """The objects of a stream. What may hold a blocked word is shown only when it is known not to."""
    for index in range(call.choices):
        yield wire.chunk(head, index, {"role": "assistant", "content": ""})
    holds_back = bool(speaker.profile.blocked_words)
    try:
        async for index, text in work.pieces():
            if not holds_back:
                yield wire.chunk(head, index, {"content": text})
        generated = _finished(speaker, await work.result())
    except (EngineError, ApiError) as error:
        yield (error if isinstance(error, ApiError) else _as_api_error(error)).body
        return
    except ClientLeft:
        return
    for index, one in enumerate(generated.candidates):
        if holds_back and one.text:
            yield wire.chunk(head, index, {"content": one.text})
        shown = wire.logprobs(one, speaker.engine.token_bytes) if call.logprobs else None
        yield wire.last_chunk(head, index, one, generated, shown)
    if call.include_usage:
        yield wire.usage_chunk(head, generated)


def _finished(speaker: Speaker, generated: Generated) -> Generated:
    """The answer to show: without what the bot must not say. Raises ApiError where time ran out."""
    if any(one.finish == "timeout" for one in generated.candidates):
        raise ApiError(504, "the reply took too long (reply_timeout); try again", kind="timeout_error", code="timeout")
    shown = tuple(
        replace(one, text="", token_ids=(), logprobs=(), top_logprobs=(), finish="cancelled")
        if speaker.profile.blocks(one.text)
        else one
        for one in generated.candidates
    )
    log.debug("api: %s gave %s choices", speaker.profile.name, len(shown))
    return replace(generated, candidates=shown)


# Errors -------------------------------------------------------------------------------------


def _as_api_error(error: EngineError) -> ApiError:
    if isinstance(error, EngineBusy):
        return ApiError(429, str(error), kind="rate_limit_error", code="engine_busy", retry_after=RETRY_AFTER)
    if isinstance(error, PromptTooLong):
        return _too_long(str(error))
    if isinstance(error, EngineClosed):
        return ApiError(503, str(error), kind="server_error", code="engine_closed")
    log.error("api: %s: %s", type(error).__name__, error)
    return ApiError(500, "the engine could not answer; the bot's log says why", kind="server_error")


def _too_long(sentence: str) -> ApiError:
    return ApiError(400, sentence, param="messages", code="context_length_exceeded")


def _refusal(status: int, sentence: str) -> Response:
    """What the guard says, in OpenAI's shape."""
    code = "invalid_api_key" if status == 401 else None
    return Json(ApiError(status, sentence, code=code).body, status)


async def _api_error(_: Request, error: ApiError) -> Response:
    answer = Json(error.body, error.status)
    if error.retry_after is not None:
        answer.headers["retry-after"] = str(error.retry_after)
    return answer


async def _http_error(_: Request, error: HTTPException) -> Response:
    return Json(
        ApiError(error.status_code, f"{error.detail}: see {PREFIX}models and {PREFIX}chat/completions").body,
        error.status_code,
    )


async def _nobody(_: Request, error: ClientLeft) -> Response:
    return Response(status_code=499)  # nginx's "client closed request"; nobody reads it


async def _read(request: Request) -> dict[str, Any]:
    """The body as a JSON object. Raises ApiError."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise ApiError(413, f"a body may have {MAX_BODY_BYTES:,} bytes at most")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise ApiError(400, "the body is not valid JSON in UTF-8") from None
    if not isinstance(content, dict):
        raise ApiError(400, 'the body must be a JSON object: {"model": …, "messages": […]}')
    return content
