"""Speaks with an OpenAI-compatible server: sends a request, reads its stream, tries again what may work again.

Knows nothing of candidates, LoRAs or people. Every error that leaves here is an EngineError, and none holds the key.

EngineError
├── EngineBusy       too many requests, even after trying again
├── PromptTooLong    the server's context is too small
└── RemoteRefused    the server understood and will not
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from learner.engine.base import EngineBusy, EngineError, PromptTooLong
from learner.engine.remote_settings import RemoteSettings

CONNECT_SECONDS = 15.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds; a server that wants longer is busy
AGAIN = {408, 425, 429, 500, 502, 503, 504, 529}
TOO_LONG = re.compile(r"context.{0,12}(length|window|size)|too (long|many tokens)|exceed.{0,40}token", re.IGNORECASE)
LOCAL = ("127.0.0.1", "::1", "localhost")

Sleep = Callable[[float], Awaitable[None]]


class RemoteRefused(EngineError):
    """The server refused a request; `param` is the field that it names."""

    def __init__(self, status: int, sentence: str, param: str = "") -> None:
        super().__init__(f"the server refused the request ({status}): {sentence}")
        self.status, self.sentence, self.param = status, sentence, param

    def is_about(self, name: str) -> bool:
        """Whether the field `name` is what it does not take."""
        return self.param == name or re.search(rf"(?<!\w){name}(?!\w)", self.sentence) is not None


class _Trouble(Exception):
    """What may work when it is tried again; `error` is what it is if it does not."""

    def __init__(self, error: EngineError, after: float | None = None) -> None:
        super().__init__(str(error))
        self.error, self.after = error, after


@dataclass(frozen=True)
class Delta:
    """A piece of choice `index`: text that it goes on with, and why it ended, if it did."""

    index: int
    text: str = ""
    finish: str | None = None


class RemoteClient:
    """A connection to one server. `sleep` and `rng` time the tries."""

    def __init__(
        self, settings: RemoteSettings, sleep: Sleep = asyncio.sleep, rng: random.Random | None = None
    ) -> None:
        self._settings, self._sleep, self._rng = settings, sleep, rng or random.Random()
        headers = {"authorization": f"Bearer {settings.key}"} if settings.key else {}
        self._http = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            trust_env=urlsplit(settings.base_url).hostname not in LOCAL,  # a proxy can't reach this machine's servers
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def stream(self, body: Mapping[str, Any]) -> AsyncIterator[Delta]:
        """The answer to a chat completion as it comes. Tried again only while nothing of it was given away."""
        for attempt in range(self._settings.retries + 1):
            began = False
            try:
                async for delta in self._once(body):
                    began = True
                    yield delta
                return
            except (_Trouble, httpx.TransportError) as exc:
                trouble = exc if isinstance(exc, _Trouble) else _Trouble(self._unreachable(exc))
                if began or attempt == self._settings.retries or (trouble.after or 0) > LONGEST_PAUSE:
                    raise trouble.error from exc
                await self._sleep(self._pause(attempt, trouble.after))

    async def models(self) -> list[str]:
        """Names of the models that the server lists. Raises EngineError."""
        try:
            answer = await self._http.get(self._url("models"))
            self._check(answer.status_code, answer.content, answer.headers)
            return [str(one["id"]) for one in answer.json()["data"]]
        except _Trouble as exc:
            raise exc.error from exc
        except httpx.TransportError as exc:
            raise self._unreachable(exc) from exc
        except (ValueError, KeyError, TypeError) as exc:
            raise EngineError(f"{self._url('models')} does not answer with a list of models") from exc

    async def post(self, path: str, body: Mapping[str, Any]) -> None:
        """POST where only the status counts. Raises EngineError."""
        try:
            answer = await self._http.post(self._url(path), json=body)
            self._check(answer.status_code, answer.content, answer.headers)
        except _Trouble as exc:
            raise exc.error from exc
        except httpx.TransportError as exc:
            raise self._unreachable(exc) from exc

    async def _once(self, body: Mapping[str, Any]) -> AsyncIterator[Delta]:
        content = json.dumps({**body, "stream": True}).encode()
        headers = {"content-type": "application/json"}
        url = self._url("chat/completions")
        async with self._http.stream("POST", url, content=content, headers=headers) as answer:
            if answer.status_code != 200:
                self._check(answer.status_code, await answer.aread(), answer.headers)
            if "text/event-stream" not in answer.headers.get("content-type", ""):
                for delta in _deltas(_object(await answer.aread()), "message"):
                    yield delta
                return
            ended = False
            async for data in _events(answer.aiter_bytes()):
                if data == b"[DONE]":
                    return
                for delta in self._told(data):
                    ended = ended or delta.finish is not None
                    yield delta
            if not ended:
                raise _Trouble(EngineError("the server ended a reply before it was finished"))

    def _told(self, data: bytes) -> list[Delta]:
        row = _object(data)
        if row.get("error"):
            status = row["error"].get("code") if isinstance(row["error"], Mapping) else None
            self._check(status if isinstance(status, int) and status >= 400 else 500, data, httpx.Headers())
        return _deltas(row, "delta")

    def _check(self, status: int, content: bytes, headers: httpx.Headers) -> None:
        """Raise what a status that is no success means."""
        if status < 300:
            return
        sentence, param, code = _complaint(content)
        if status in AGAIN:
            kind = EngineBusy if status == 429 else EngineError
            raise _Trouble(kind(f"the server answers {status}: {sentence}"), _seconds(headers.get("retry-after")))
        if status in (401, 403):
            named = f"the key in {self._settings.key_env}" if self._settings.key_env else "a request without a key"
            raise RemoteRefused(status, f"it does not accept {named}; see model.remote.key_env")
        if code == "context_length_exceeded" or (status in (400, 413, 422) and TOO_LONG.search(sentence)):
            raise PromptTooLong(f"the server says that the prompt is too long: {sentence}")
        raise RemoteRefused(status, sentence, param)

    def _unreachable(self, exc: Exception) -> EngineError:
        where = urlsplit(self._settings.base_url)
        return EngineError(
            f"{where.scheme}://{where.netloc} can't be reached ({type(exc).__name__}); see model.remote.base_url"
        )

    def _url(self, path: str) -> str:
        return f"{self._settings.base_url.rstrip('/')}/{path}"

    def _pause(self, attempt: int, after: float | None) -> float:
        """How long to wait: twice as long each time, never less than the server asks for, and not all at once."""
        return max(after or 0.0, min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE) * self._rng.uniform(0.5, 1.0))


async def _events(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of server-sent events. Only line feeds end a line: JSON may hold what else Python takes for one.

    A last line that was broken off is dropped.
    """
    rest = b""
    async for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()


def _deltas(row: Mapping[str, Any], kind: str) -> list[Delta]:
    """What a chunk (its "delta") or a whole answer (its "message") says; reasoning beside it is left there."""
    found = []
    for choice in row.get("choices") or ():
        said, finish = choice.get(kind) or {}, choice.get("finish_reason")
        text = said.get("content") or ""
        if text or finish:
            found.append(Delta(int(choice.get("index") or 0), text, finish))
    return found


def _object(data: bytes) -> dict[str, Any]:
    try:
        row = json.loads(data)
    except ValueError as exc:
        raise _Trouble(EngineError("the server's answer is no JSON; is model.remote.base_url right?")) from exc
    return row if isinstance(row, dict) else {}


def _complaint(content: bytes) -> tuple[str, str, str]:
    """Sentence, field and code of an error's body, whichever of the usual shapes it has."""
    try:
        row = json.loads(content)
    except ValueError:
        return content.decode("utf-8", "replace").strip()[:300] or "no reason given", "", ""
    told = row.get("error", row) if isinstance(row, dict) else row
    if not isinstance(told, dict):
        return str(told)[:300], "", ""
    sentence = str(told.get("message") or told.get("detail") or "no reason given")[:300]
    return sentence, str(told.get("param") or ""), str(told.get("code") or "")


def _seconds(text: str | None) -> float | None:
    try:
        return max(0.0, float(text)) if text else None
    except ValueError:
        return None
