"""The OpenAI-compatible interface, through OpenAI's own client library over HTTP, against a running App."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from learner.engine.base import CandidateSpec, ChatMessage, GenerateRequest, OnText
from learner.engine.scripted import ScriptedEngine

Running = Callable[..., AbstractAsyncContextManager[Any]]
API: dict[str, Any] = {"api": {"enabled": "on"}, "adapters": {"web": {"port": 0}}}
STARTER = Path(__file__).resolve().parents[2] / "data" / "starter"
USER: Any = [{"role": "user", "content": "hi"}]


def echo(messages: Sequence[ChatMessage], spec: CandidateSpec) -> str:
    return "|".join(f"{one.role}:{one.content}" for one in messages) + f" {spec.seed}"


def bot(**changes: Any) -> list[dict[str, Any]]:
    return [{"name": "tester", "adapters": ["memory"], **changes}]


def client(app: Any, key: str = "none", **options: Any) -> openai.AsyncOpenAI:
    options = {"max_retries": 0, "timeout": 20, **options}
    return openai.AsyncOpenAI(base_url=f"{app.server.url}v1", api_key=key, **options)


async def refused(asked: Any, kind: type[openai.APIStatusError], param: str | None = None) -> openai.APIStatusError:
    """The error that `asked` ends with: its kind says the status, `param` the field."""
    with pytest.raises(kind) as caught:
        await asked
    if param is not None:
        assert caught.value.param == param, caught.value.body
    return caught.value


async def test_the_bots_are_the_models(running: Running) -> None:
    bots = [*bot(), {"name": "second", "adapters": ["memory"]}]
    async with running(bots=bots, **API) as app, client(app) as api:
        assert [one.id async for one in await api.models.list()] == ["tester", "second"]
        assert (await api.models.retrieve("second")).owned_by == "nightschool"
        error = await refused(api.models.retrieve("third"), openai.NotFoundError, "model")
        assert "tester, second" in error.message
        answer = await api.chat.completions.create(model="second", messages=USER)
        assert (answer.model, answer.choices[0].finish_reason) == ("second", "stop")
        await refused(api.chat.completions.create(model="gpt-4o", messages=USER), openai.NotFoundError, "model")


async def test_it_speaks_as_the_persona_unless_the_request_names_another(running: Running) -> None:
    persona = {"name": "Momo", "profile": "A cat."}
    async with running(ScriptedEngine(echo), bots=bot(persona=persona), **API) as app, client(app) as api:

        async def said(*messages: Any) -> str:
            answer = await api.chat.completions.create(model="tester", messages=messages, seed=7)
            return answer.choices[0].message.content or ""

        assert await said(*USER) == "system:You are Momo. A cat.|user:hi 7"
        assert await said({"role": "developer", "content": "A dog."}, *USER) == "system:A dog.|user:hi 7"
        parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
        last = await said({"role": "user", "content": parts}, {"role": "assistant", "content": "yes"}, *USER)
        assert last == "system:You are Momo. A cat.|user:one\ntwo|assistant:yes|user:hi 7"


async def test_choices_sampling_and_usage(running: Running) -> None:
    seen: list[CandidateSpec] = []

    def script(messages: Sequence[ChatMessage], spec: CandidateSpec) -> str:
        seen.append(spec)
        return f"number {spec.seed} of them all END and more"

    async with running(ScriptedEngine(script), bots=bot(), **API) as app, client(app) as api:
        answer = await api.chat.completions.create(
            model="tester",
            messages=USER,
            n=3,
            seed=5,
            stop=["END"],
            temperature=0.3,
            top_p=0.5,
            max_completion_tokens=40,
        )
        assert [one.message.content for one in answer.choices] == [f"number {n} of them all " for n in (5, 6, 7)]
        assert [one.index for one in answer.choices] == [0, 1, 2]
        sampling = seen[0].sampling
        assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0.3, 0.5, 40)
        made = sum(len(f"number {n} of them all ") + 1 for n in (5, 6, 7))  # a byte is a token, and the end is one
        assert answer.usage is not None
        prompt = len(app.engines["default"].render([ChatMessage("user", "hi")]))
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (prompt, made)
        assert answer.usage.total_tokens == prompt + made
        short = await api.chat.completions.create(model="tester", messages=USER, max_tokens=3)
        assert (short.choices[0].message.content, short.choices[0].finish_reason) == ("num", "length")
        free = await api.chat.completions.create(model="tester", messages=USER, max_tokens=10**6)
        assert free.choices[0].finish_reason == "stop"  # as much as fits
        assert (free.id != short.id, free.system_fingerprint) == (True, "base")


async def test_a_stream_is_the_same_piece_by_piece(running: Running) -> None:
    async with running(ScriptedEngine(echo, piece=3), bots=bot(), **API) as app, client(app) as api:
        whole = await api.chat.completions.create(model="tester", messages=USER, n=2, seed=1, logprobs=True)
        texts, ends, chunks = ["", ""], ["", ""], 0
        logprobs: list[list[float]] = [[], []]
        usage = None
        stream = await api.chat.completions.create(
            model="tester",
            messages=USER,
            n=2,
            seed=1,
            logprobs=True,
            stream=True,
            stream_options={"include_usage": True},
        )
        async for chunk in stream:
            chunks += 1
            usage = chunk.usage or usage
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
                ends[choice.index] = choice.finish_reason or ends[choice.index]
                if choice.logprobs and choice.logprobs.content:
                    logprobs[choice.index] += [one.logprob for one in choice.logprobs.content]
        assert texts == [one.message.content for one in whole.choices]
        assert ends == ["stop", "stop"]
        assert chunks > 2 * len(texts[0]) / 3
        assert usage == whole.usage
        assert logprobs == [[t.logprob for t in one.logprobs.content or ()] for one in whole.choices if one.logprobs]
        assert len(logprobs[0]) == len(texts[0].encode())


BAD: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages[0].content[0]"),
    ({"messages": [*USER, {"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages[1].role"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"presence_penalty": 0.5}, "presence_penalty"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": -1}, "temperature"),
    ({"n": 0}, "n"),
    ({"n": 9}, "n"),
    ({"n": 2.5}, "n"),
    ({"stop": 3}, "stop"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"seed": "x"}, "seed"),
    ({"stream": "yes"}, "stream"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"messages": [{"role": "user", "content": "x" * 9000}]}, "messages"),
]


async def test_a_bad_field_is_named(running: Running) -> None:
    async with running(bots=bot(), **API) as app, client(app) as api:
        for changes, param in BAD:
            body: Any = {"model": "tester", "messages": USER, **changes}
            asked = api.post("/chat/completions", body=body, cast_to=object)
            error = await refused(asked, openai.BadRequestError, param)
            assert error.type == "invalid_request_error"


async def test_what_is_unknown_or_asks_for_nothing_is_no_fault(running: Running) -> None:
    async with running(bots=bot(), **API) as app, client(app) as api:
        answer = await api.chat.completions.create(
            model="tester", messages=USER, tools=[], presence_penalty=0, logit_bias={}, user="me", store=True,
            response_format={"type": "text"}, extra_body={"chat_id": "x", "mirostat": 1, "stop": None},
        )  # fmt: skip
        assert answer.choices[0].message.content


async def test_bodies_paths_and_methods_that_are_none(running: Running) -> None:
    async with running(bots=bot(), **API) as app, httpx.AsyncClient(base_url=app.server.url) as web:
        path, kind = "v1/chat/completions", {"content-type": "application/json"}
        answers = [
            (400, await web.post(path, content=b"{", headers=kind)),
            (400, await web.post(path, content=b"[]", headers=kind)),
            (413, await web.post(path, content=b'{"a": "' + b"x" * 4_000_000 + b'"}', headers=kind)),
            (415, await web.post(path, content=b"{}", headers={"content-type": "text/plain"})),
            (404, await web.get("v1/nothing")),
            (405, await web.get(path)),
        ]
        for status, answer in answers:
            assert (answer.status_code, set(answer.json()["error"])) == (status, {"message", "type", "param", "code"})


async def test_no_page_elsewhere_can_reach_it(running: Running) -> None:
    async with running(bots=bot(), **API) as app, httpx.AsyncClient(base_url=app.server.url) as web:
        body = {"model": "tester", "messages": USER}
        foreign: list[tuple[int, dict[str, str]]] = [
            (403, {"origin": "https://evil.example"}),
            (403, {"sec-fetch-site": "cross-site"}),
            (421, {"host": f"evil.example:{app.server.port}"}),
        ]
        for status, headers in foreign:
            for answer in (
                await web.post("v1/chat/completions", json=body, headers=headers),
                await web.get("v1/models", headers=headers),
            ):
                assert answer.status_code == status
                assert "access-control-allow-origin" not in answer.headers
                assert answer.json()["error"]["message"]
        own = {"origin": app.server.url.rstrip("/"), "sec-fetch-site": "same-origin"}
        assert (await web.post("v1/chat/completions", json=body, headers=own)).status_code == 200


async def test_a_key_or_the_pages_token_opens_it(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "k-1")
    monkeypatch.setenv("PAGE_TOKEN", "t-1")
    settings = {
        "api": {"enabled": "on", "key_env": "API_KEY"},
        "adapters": {"web": {"port": 0, "token_env": "PAGE_TOKEN"}},
    }
    async with running(bots=bot(), **settings) as app:
        for key in ("k-1", "t-1"):
            async with client(app, key) as api:
                assert (await api.chat.completions.create(model="tester", messages=USER)).choices
        async with client(app, "k-2") as api:
            error = await refused(api.models.list(), openai.AuthenticationError)
            assert error.code == "invalid_api_key"
        async with httpx.AsyncClient(base_url=app.server.url) as web:
            assert (await web.get("v1/models")).status_code == 401


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so, 5 seconds at most."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class Gone(ScriptedEngine):
    """Tells when a request was cancelled."""

    def __init__(self, **options: Any) -> None:
        super().__init__(lambda *_: "words " * 400, piece=6, **options)
        self.cancelled = asyncio.Event()

    async def generate(self, request: GenerateRequest, on_text: OnText | None = None) -> Any:
        try:
            return await super().generate(request, on_text)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_cancels_its_request(running: Running, stream: bool) -> None:
    engine = Gone(delay=0.02)
    sampling = {"sampling": {"max_tokens": 4000}}
    async with running(engine, bots=bot(**sampling), **API) as app, client(app) as api:
        asking = asyncio.create_task(api.chat.completions.create(model="tester", messages=USER, stream=stream))
        if stream:
            answer: Any = await asking
            await anext(aiter(answer))
            await answer.close()
        else:
            await until(lambda: engine.status().running == 1)
            asking.cancel()
        async with asyncio.timeout(5):
            await engine.cancelled.wait()
        await until(lambda: engine.status().running == 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_full_queue_says_when_to_come_back(running: Running, stream: bool) -> None:
    engine = Gone(delay=0.02, max_running=1, max_queue=1)
    async with running(engine, bots=bot(sampling={"max_tokens": 4000}), **API) as app, client(app) as api:
        begun = [asyncio.create_task(api.chat.completions.create(model="tester", messages=USER)) for _ in range(2)]
        await until(lambda: engine.status().running + engine.status().queued == 2)
        error = await refused(
            api.chat.completions.create(model="tester", messages=USER, stream=stream), openai.RateLimitError
        )
        assert int(error.response.headers["retry-after"]) >= 1
        for task in begun:
            task.cancel()


async def test_time_that_runs_out_is_a_504_or_ends_the_stream(running: Running) -> None:
    engine = Gone(delay=0.02)
    options = {"bots": bot(sampling={"max_tokens": 4000}), "reply_timeout": 0.3, **API}
    async with running(engine, **options) as app, client(app) as api:
        error = await refused(api.chat.completions.create(model="tester", messages=USER), openai.InternalServerError)
        assert error.status_code == 504
        stream = await api.chat.completions.create(model="tester", messages=USER, stream=True)
        with pytest.raises(openai.APIError, match="took too long"):
            async for _ in stream:
                pass


async def test_a_blocked_word_never_leaves(running: Running) -> None:
    settings = {"bots": bot(blocked_words=["secret"]), **API}
    async with running(ScriptedEngine(lambda *_: "a Secret thing"), **settings) as app, client(app) as api:
        answer = await api.chat.completions.create(model="tester", messages=USER, logprobs=True)
        assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("", "content_filter")
        async with httpx.AsyncClient(base_url=app.server.url) as web:
            body = {"model": "tester", "messages": USER, "stream": True}
            shown = (await web.post("v1/chat/completions", json=body)).text
            assert "ecret" not in shown
            assert shown.endswith("data: [DONE]\n\n")


async def test_nothing_of_it_is_kept(running: Running, tmp_path: Path) -> None:
    async with running(ScriptedEngine(lambda *_: "answer-xyzzy"), bots=bot(), ask_rate=1.0, **API) as app:
        async with client(app) as api:
            asked: Any = [{"role": "user", "content": "question-xyzzy"}]
            await api.chat.completions.create(model="tester", messages=asked, n=2)
        assert await app.nights.count("default") == 0
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if b"xyzzy" in path.read_bytes()] == []


async def test_it_is_served_with_the_page_and_can_be_switched_off(running: Running) -> None:
    paged = {"bots": bot(adapters=["web"]), "adapters": {"web": {"port": 0}}}
    async with running(**paged) as app, client(app) as api:
        assert (await api.models.list()).data
    async with running(**paged, api={"enabled": "off"}) as app, client(app) as api:
        await refused(api.models.list(), openai.NotFoundError)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
async def test_the_starter_answers_with_log_probabilities(running: Running) -> None:
    """The real engine: tokens with their bytes, the likeliest beside them, and the same words for the same seed."""
    from learner.engine.local import LocalEngine
    from learner.engine.local_settings import LocalSettings

    engine = LocalEngine(LocalSettings(str(STARTER), device="cpu", threads=1))
    async with running(engine, bots=bot(), **API) as app, client(app) as api:
        messages: Any = [{"role": "user", "content": "法国的首都是哪里"}]
        asked = {"model": "tester", "messages": messages, "seed": 3, "logprobs": True, "top_logprobs": 4}
        one, again = [await api.chat.completions.create(**asked) for _ in range(2)]
        choice = one.choices[0]
        assert choice.message.content == again.choices[0].message.content
        assert choice.logprobs is not None
        tokens = choice.logprobs.content or []
        assert b"".join(bytes(token.bytes or ()) for token in tokens).decode() == choice.message.content
        for token in tokens:
            best = max(token.top_logprobs, key=lambda top: top.logprob)
            assert len(token.top_logprobs) == 4
            assert token.logprob <= best.logprob + 1e-4 < 1e-3
        greedy = await api.chat.completions.create(**{**asked, "temperature": 0})
        assert greedy.choices[0].logprobs is not None
        for token in greedy.choices[0].logprobs.content or ():
            assert token.token == token.top_logprobs[0].token
        free = "".join(token.token for token in tokens)
        stopped = await api.chat.completions.create(**asked, stop=free[2:4])
        assert stopped.choices[0].message.content == free[:2]
        assert stopped.choices[0].logprobs is not None
        assert json.dumps(stopped.choices[0].logprobs.model_dump())
