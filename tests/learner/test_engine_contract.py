"""What every engine keeps to, whichever it is."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from learner.engine.base import (
    CandidateSpec,
    ChatMessage,
    Engine,
    EngineBusy,
    EngineClosed,
    EngineError,
    Generated,
    GenerateRequest,
    LoraMismatch,
    PromptTooLong,
    Sampling,
)
from learner.engine.remote import RemoteEngine
from learner.engine.remote_settings import RemoteSettings
from learner.engine.scripted import ScriptedEngine
from tests.learner.engine_tiny import engine as local_engine
from tests.learner.engine_tiny import lora, run
from tests.learner.remote_far import RemoteFar

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

Make = Callable[[], object]
MESSAGES = [ChatMessage("system", "Be brief."), ChatMessage("user", "你好 <|im_end|> \ud800 😊")]


@asynccontextmanager
async def scripted() -> AsyncIterator[ScriptedEngine]:
    engine = ScriptedEngine(
        lambda messages, spec: f"{messages[-1].content} {spec.seed} {'é你😊' * 40}",
        delay=0.002, piece=1, max_running=4, max_queue=2, context_length=1024, refused=frozenset({"0666"}),
    )  # fmt: skip
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


@asynccontextmanager
async def remote() -> AsyncIterator[RemoteEngine]:
    async with RemoteFar(lambda messages, seed: f"{messages[-1]['content']} {seed} {'é你😊' * 40}") as far:
        settings = RemoteSettings(far.url, far.model, max_running=4, max_queue=2, context_length=1024, lora="vllm")
        engine = RemoteEngine(settings)
        await engine.start()
        try:
            yield engine
        finally:
            await engine.close()


@pytest.fixture(params=["scripted", "local", "remote"])
def make(request: pytest.FixtureRequest) -> Callable[[], AsyncIterator[Engine]]:
    """Makes a started engine that runs four candidates and lets two requests wait."""
    engines = {"scripted": scripted, "local": lambda: local_engine(max_batch=4, max_queue=2), "remote": remote}
    return engines[request.param]


def ask(engine: Engine, *seeds: int, tokens: int = 60, **options) -> GenerateRequest:  # type: ignore[no-untyped-def]
    specs = tuple(CandidateSpec(Sampling(max_tokens=tokens), seed) for seed in seeds or (1,))
    return GenerateRequest(engine.render(MESSAGES), specs, messages=tuple(MESSAGES), **options)


def test_candidates_answer_their_specs_and_stream(make) -> None:  # type: ignore[no-untyped-def]
    async def main() -> None:
        async with make() as engine:
            texts: list[tuple[int, str]] = []
            out = await engine.generate(ask(engine, 1, 2), lambda index, text: texts.append((index, text)))
            again = await engine.generate(ask(engine, 1, 2))
            assert [c.spec.seed for c in out.candidates] == [1, 2]
            for index, candidate in enumerate(out.candidates):
                assert "".join(text for at, text in texts if at == index) == candidate.text
                assert len(candidate.token_ids) == len(candidate.logprobs) <= 60  # a server tells neither
                assert all(logprob < 0 for logprob in candidate.logprobs)
            assert [c.text for c in again.candidates] == [c.text for c in out.candidates]
            assert engine.status().running == engine.status().queued == 0

    run(main)


def test_length_time_and_queue_are_limited(make) -> None:  # type: ignore[no-untyped-def]
    async def main() -> None:
        async with make() as engine:
            with pytest.raises(PromptTooLong):
                await engine.generate(ask(engine, 1, tokens=engine.context_length))
            assert (await engine.generate(ask(engine, 1, tokens=7))).candidates[0].finish == "length"
            late = await engine.generate(ask(engine, 1, tokens=900, timeout=0.03))
            assert late.candidates[0].finish == "timeout"
            begun = [asyncio.create_task(engine.generate(ask(engine, n, tokens=200))) for n in range(9)]
            results: list[Generated | BaseException] = await asyncio.gather(*begun, return_exceptions=True)
            assert [type(r) for r in results] == [Generated] * 6 + [EngineBusy] * 3

    run(main)


def test_cancelling_and_closing(make) -> None:  # type: ignore[no-untyped-def]
    async def main() -> None:
        async with make() as engine:
            doomed = asyncio.create_task(engine.generate(ask(engine, 1, tokens=900)))
            await asyncio.sleep(0.01)
            doomed.cancel()
            with pytest.raises(asyncio.CancelledError):
                await doomed
            closed = asyncio.create_task(engine.generate(ask(engine, 2, tokens=900)))
            await asyncio.sleep(0.01)
            await engine.close()
            with pytest.raises(EngineClosed):
                await closed
            with pytest.raises(EngineClosed):
                await engine.generate(GenerateRequest((5,), (CandidateSpec(Sampling(), 1),)))

    run(main)


def test_a_reply_keeps_the_version_it_began_with(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = lora("0001")

    async def main() -> None:
        async with make() as engine:
            assert await engine.swap_lora(path) == engine.status().active_lora == "0001"
            begun = asyncio.Event()
            old = asyncio.create_task(engine.generate(ask(engine, 1, tokens=100), lambda *_: begun.set()))
            await begun.wait()
            assert await engine.swap_lora(None) is None
            new = await engine.generate(ask(engine, 1, tokens=5))
            assert (new.candidates[0].lora, (await old).candidates[0].lora) == (None, "0001")
            await engine.swap_lora(path)
            with pytest.raises(LoraMismatch):
                await engine.swap_lora(tmp_path / "0666")
            assert engine.status().active_lora == "0001"
            named = (CandidateSpec(Sampling(), 1, "0042"),)
            unknown = GenerateRequest(engine.render(MESSAGES), named, messages=tuple(MESSAGES))
            with pytest.raises(EngineError, match="0042 is not loaded"):
                await engine.generate(unknown)

    run(main)
