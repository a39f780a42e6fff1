"""The remote engine against a server on loopback: pairs, tries, dialects, thoughts, tokens, LoRAs."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse

from learner.engine.base import (
    CandidateSpec,
    ChatMessage,
    EngineBusy,
    EngineError,
    GenerateRequest,
    LoraMismatch,
    PromptTooLong,
    Sampling,
)
from learner.engine.lengths import estimated_tokens
from learner.engine.remote import RemoteEngine
from learner.engine.remote_settings import RemoteSettings
from learner.engine.remote_wire import RemoteClient
from tests.learner.remote_far import RemoteFar

MESSAGES = (ChatMessage("system", "Be brief."), ChatMessage("user", "你好"))
KEY = "sk-very-secret"


class Open:
    """A far end, an engine on it, and how long the engine slept between tries."""

    def __init__(self, far: RemoteFar, **settings: Any) -> None:
        self.far = far
        self.settings = RemoteSettings(**{"base_url": far.url, "model": far.model, "key": KEY, **settings})
        self.slept: list[float] = []
        client = RemoteClient(self.settings, self._sleep, random.Random(0))
        self.engine = RemoteEngine(self.settings, client)
        self.heard = ["", ""]

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def ask(self, *seeds: int, tokens: int = 200, lora: str = "active") -> list[str]:
        """The texts of candidates with these seeds."""
        return [one.text for one in (await self.generate(*seeds, tokens=tokens, lora=lora)).candidates]

    async def generate(self, *seeds: int, tokens: int = 200, lora: str = "active", seconds: float = 20) -> Any:
        self.heard = ["", ""]
        specs = tuple(CandidateSpec(Sampling(0.7, 0.9, 1.0, tokens), seed, lora) for seed in seeds or (1,))
        prompt = self.engine.render(MESSAGES)
        request = GenerateRequest(prompt, specs, timeout=seconds, messages=MESSAGES)
        return await self.engine.generate(request, self._hear)

    def _hear(self, index: int, text: str) -> None:
        self.heard[index] += text


@asynccontextmanager
async def opened(reply: Any = None, settings: dict[str, Any] | None = None, **far: Any) -> AsyncIterator[Open]:
    async with RemoteFar(reply or (lambda _, seed: f"reply {seed}"), **{"delay": 0.0, **far}) as server:
        made = Open(server, **(settings or {}))
        await made.engine.start()
        try:
            yield made
        finally:
            await made.engine.close()


async def test_what_is_sent_is_what_was_asked() -> None:
    async with opened(settings={"extra": {"top_k": 20}}) as o:
        assert await o.ask(5, 6) == o.heard == ["reply 5", "reply 6"]
        [body] = o.far.asked
        assert body["messages"] == [{"role": m.role, "content": m.content} for m in MESSAGES]
        wanted = {"model": "far-model", "n": 2, "seed": 5, "temperature": 0.7, "top_p": 0.9, "max_tokens": 200}
        assert {name: body[name] for name in wanted} == wanted
        assert (body["top_k"], body["stream"]) == (20, True)
        assert o.far.keys == [f"Bearer {KEY}"]
        assert KEY not in repr(o.settings)


async def test_a_server_that_makes_one_at_a_time_is_asked_twice() -> None:
    async with opened(many=False) as o:
        assert await o.ask(5, 6) == ["reply 5", "reply 6"]
        assert [body.get("n") for body in o.far.asked] == [2, None]
        assert await o.ask(7, 8) == ["reply 7", "reply 8"]  # it is known by now
        assert [(body.get("n"), body["seed"]) for body in o.far.asked[2:]] == [(None, 7), (None, 8)]


async def test_a_server_that_refuses_fields_is_asked_in_other_words() -> None:
    async with opened() as o:
        o.far.complain(400, "n: only 1 is supported", param="n")
        assert await o.ask(5, 6) == ["reply 5", "reply 6"]
        o.far.complain(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        o.far.complain(400, "seed is unknown", param="seed")
        assert await o.ask(3) == ["reply 0"]
        assert (o.far.asked[-1]["max_completion_tokens"], "seed" in o.far.asked[-1]) == (200, False)
        assert await o.ask(3) == ["reply 0"]
        assert len(o.far.asked) == 3 + 3 + 1


async def test_what_may_work_later_is_tried_again_before_the_first_word() -> None:
    async with opened() as o:
        o.far.complain(429, "slow down", headers={"retry-after": "7"})
        o.far.complain(503, "loading")
        assert await o.ask(1) == ["reply 1"]
        assert o.slept[0] == 7
        assert 0.5 <= o.slept[1] <= 1.0
        assert len(o.far.asked) == 3


async def test_tries_come_to_an_end() -> None:
    async with opened(settings={"retries": 2}) as o:
        for _ in range(3):
            o.far.complain(429, "slow down")
        with pytest.raises(EngineBusy, match="slow down"):
            await o.ask(1)
        for _ in range(3):
            o.far.complain(500, "broken")
        with pytest.raises(EngineError, match="broken"):
            await o.ask(1)
        o.far.complain(429, "tomorrow", headers={"retry-after": "86400"})
        with pytest.raises(EngineBusy):
            await o.ask(1)
        assert len(o.far.asked) == 3 + 3 + 1


async def test_a_reply_that_was_begun_is_never_said_again() -> None:
    async with opened(lambda *_: "a long reply " * 9) as o:
        o.far.breaks_after = 700
        with pytest.raises(EngineError, match=r"before it was finished|can't be reached"):
            await o.ask(1)
        assert o.heard[0].startswith("a lo")
        assert len(o.far.asked) == 1


@pytest.mark.parametrize(
    ("status", "error", "kind", "says"),
    [
        (401, {"message": f"wrong {KEY}"}, EngineError, "the key in FAR_KEY"),
        (404, {"message": "no model far-model"}, EngineError, "no model far-model"),
        (400, {"message": "long", "code": "context_length_exceeded"}, PromptTooLong, "too long"),
        (400, {"message": "This model's maximum context length is 8"}, PromptTooLong, "too long"),
        (400, {"message": "temperature must be"}, EngineError, "temperature must be"),
    ],
)
async def test_refusals_say_what_is_wrong(status: int, error: dict[str, str], kind: type[Exception], says: str) -> None:
    async with opened(settings={"key_env": "FAR_KEY"}) as o:
        o.far.answers.append(JSONResponse({"error": error}, status))
        with pytest.raises(kind, match=says) as caught:
            await o.ask(1)
        assert KEY not in str(caught.value)
        assert len(o.far.asked) == 1


async def test_a_server_that_is_not_there_is_said(unused_tcp_port: int) -> None:
    settings = RemoteSettings(f"http://127.0.0.1:{unused_tcp_port}/v1", "m", retries=0)
    engine = RemoteEngine(settings)
    await engine.start()
    with pytest.raises(EngineError, match=rf"127.0.0.1:{unused_tcp_port} can't be reached.*base_url"):
        await engine.generate(GenerateRequest((), (CandidateSpec(Sampling(), 1),), messages=MESSAGES))
    await engine.close()


async def test_time_that_runs_out_leaves_what_there_is() -> None:
    async with opened(lambda *_: "word " * 99, delay=0.02, piece=5) as o:
        generated = await o.generate(1, seconds=0.5, tokens=900)
        [candidate] = generated.candidates
        assert candidate.finish == "timeout"
        assert candidate.text == o.heard[0]
        assert candidate.text.startswith("word ")
        assert o.engine.status().running == o.engine.status().queued == 0


@pytest.mark.parametrize("piece", [1, 3, 100])
async def test_thoughts_are_never_shown(piece: int) -> None:
    reply = "<think>\nwhat do they want?</think>\n\n答案 is <b>4</b>"
    async with opened(lambda *_: reply, piece=piece) as o:
        o.far.reasoning = "hm hm"
        assert await o.ask(1) == [o.heard[0]] == ["答案 is <b>4</b>"]
    async with opened(lambda *_: reply.removeprefix("<think>"), {"begins_thinking": True}, piece=piece) as o:
        assert await o.ask(1) == [o.heard[0]] == ["答案 is <b>4</b>"]
    async with opened(lambda *_: reply, {"show_thoughts": True}, piece=piece) as o:
        assert await o.ask(1) == [o.heard[0]] == [reply]


async def test_streams_of_other_shapes_are_read() -> None:
    odd = "line\u2028separators\x85are\x0bno\nlines"
    async with opened(lambda *_: odd, piece=4) as o:
        o.far.line_end = "\r\n"
        assert await o.ask(1) == [odd]
        whole = {"choices": [{"index": 0, "message": {"content": "all at once"}, "finish_reason": "stop"}]}
        o.far.answers.append(JSONResponse(whole))
        assert await o.ask(1) == ["all at once"]
        o.far.answers.append(
            JSONResponse({**whole, "choices": [{**whole["choices"][0], "finish_reason": "content_filter"}]})
        )
        [cut] = (await o.generate(1)).candidates
        assert cut.finish == "cancelled"  # which never trains


async def test_without_a_base_prompts_stay_text_and_are_estimated() -> None:
    async with opened(settings={"context_length": 300}) as o:
        assert o.engine.render(MESSAGES) == ()
        [candidate] = (await o.generate(1)).candidates
        assert (candidate.token_ids, candidate.logprobs) == ((), ())
        with pytest.raises(PromptTooLong):
            await o.ask(1, tokens=300)
        assert estimated_tokens([ChatMessage("user", "你" * 50)]) > 50
        assert 100 < estimated_tokens([ChatMessage("user", "word " * 80)]) < 200


async def test_a_base_tells_the_tokens(tmp_path: Path) -> None:
    from learner.engine.chat_text import ChatText
    from tests.learner.engine_tiny import folder

    async with opened(lambda *_: "好 <|im_end|>", settings={"base": str(folder())}) as o:
        text = ChatText.load(folder())
        [candidate] = (await o.generate(1)).candidates
        assert o.engine.render(MESSAGES) == text.render(MESSAGES)
        assert candidate.token_ids[-1] == text.end
        assert text.end not in candidate.token_ids[:-1]  # nothing that a server says forges an end
        assert text.decode(candidate.token_ids) == "好 < |im_end|>"
        [cut] = (await o.generate(1, tokens=3)).candidates
        assert (cut.finish, len(cut.token_ids)) == ("length", 3)


def lora(parent: Path, version: str) -> Path:
    folder = parent / version
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    return folder


async def test_loras_speak_on_vllm_and_leave_when_nobody_uses_them(tmp_path: Path) -> None:
    settings = {"lora": "vllm", "lora_dir": "/srv/loras"}
    async with opened(lambda *_: "word " * 20, settings, delay=0.02) as o:
        assert await o.engine.swap_lora(lora(tmp_path, "0001")) == "0001"
        assert o.far.loaded == {"nightschool-0001": "/srv/loras/0001"}
        old = asyncio.create_task(o.generate(1))
        while not o.far.asked:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await o.engine.swap_lora(lora(tmp_path, "0002"))
        assert set(o.far.loaded) == {"nightschool-0001", "nightschool-0002"}  # a reply is still under way
        [first], [second] = (await old).candidates, (await o.generate(1, tokens=10)).candidates
        assert (first.lora, second.lora) == ("0001", "0002")
        assert [body["model"] for body in o.far.asked] == ["nightschool-0001", "nightschool-0002"]
        assert set(o.far.loaded) == {"nightschool-0002"}
        assert await o.engine.hold_lora(lora(tmp_path, "0003")) == "0003"
        [held] = (await o.generate(1, lora="0003", tokens=10)).candidates
        assert held.lora == "0003"
        await o.engine.release_lora("0003")
        await o.engine.swap_lora(None)
        assert o.far.loaded == {}


async def test_a_server_that_loads_no_loras_says_what_to_do(tmp_path: Path) -> None:
    async with opened(settings={"lora": "vllm"}) as o:
        o.far.complain(404, "Not Found")
        with pytest.raises(LoraMismatch, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING"):
            await o.engine.swap_lora(lora(tmp_path, "0001"))
        assert o.engine.status().active_lora is None
        o.far.loaded["nightschool-0001"] = "x"  # by this bot, before it was started anew
        assert await o.engine.swap_lora(tmp_path / "0001") == "0001"
    async with opened() as o:
        assert not o.engine.status().takes_loras
        with pytest.raises(LoraMismatch, match="kept for export"):
            await o.engine.swap_lora(tmp_path / "0001")


async def test_what_a_key_is_never_shows() -> None:
    settings = RemoteSettings("http://x/v1", "m", key=KEY)
    assert KEY not in f"{settings} {dataclasses.replace(settings, model='n')!r}"
