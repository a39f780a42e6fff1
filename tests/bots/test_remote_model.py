"""A bot whose model is on a server: it talks, offers and collects at once; nights need a base of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bots.doctor import examine
from bots.nights import NightResult
from bots.settings import SettingsError, load
from bots.status import Summaries
from learner import loras
from learner.engine.base import CandidateSpec, ChatMessage
from learner.engine.scripted import ScriptedEngine
from tests.conftest import settings_for

Running = Callable[..., AbstractAsyncContextManager[Any]]
SERVED: dict[str, Any] = {"api": {"enabled": "on"}, "adapters": {"web": {"port": 0}}}
STARTER = str(Path(__file__).resolve().parents[2] / "data" / "starter")


def said(messages: Sequence[ChatMessage], spec: CandidateSpec) -> str:
    return f"<think>hm</think>to {messages[-1].content} I say {spec.seed % 1000}"


@asynccontextmanager
async def pair(running: Running, tmp_path: Path, **changes: Any) -> AsyncIterator[tuple[Any, Any]]:
    """A bot whose interface is another bot's model, and that other bot."""
    async with running(ScriptedEngine(said), tmp_path / "server", **SERVED) as server:
        remote = {"base_url": f"{server.server.url}v1", "model": "tester"}
        model = {"engine": "remote", "remote": remote, **changes.pop("model", {})}
        async with running(None, tmp_path / "bot", model=model, ask_rate=1.0, **changes) as app:
            yield app, server


async def test_our_own_interface_is_a_server_like_any(running: Running, tmp_path: Path) -> None:
    async with pair(running, tmp_path, learner={"enabled": False, "min_records": 2}) as (app, server):
        platform = app.adapters["tester", "memory"]
        for number in range(3):
            [offer] = await platform.say(f"c{number}", "p", f"hello {number}")
            assert offer.candidates is not None
            assert all(text.startswith(f"to hello {number} I say ") for text in offer.candidates)
            await platform.say(f"c{number}", "p", "1")
        records = await app.database(app.store.records, "default")
        assert [pair.chosen.startswith("to hello") for pair in records.pairs] == [True] * 3
        assert records.pairs[0].prompt == (ChatMessage("user", "hello 0"),)
        assert (records.pairs[0].prompt_ids, records.pairs[0].chosen_ids) == (
            (),
            None,
        )  # text, until a base tokenises it
        assert await server.nights.count("default") == 0
        night = await app.nights.start("default")
        assert (night.state, night.number, night.have) == ("skipped", None, 3)
        assert "no base to train is named" in app.summaries.sentence(night)
        assert "3 records are kept" in (await app.summaries.begin("default") or "")
        assert (await app.versions.learn({}))["no_base"]
        assert (await app.summaries.summary("default"))["model"] == "tester"


async def test_a_base_beside_the_server_tells_the_tokens(running: Running, tmp_path: Path) -> None:
    from learner.engine.chat_text import ChatText

    async with pair(running, tmp_path, model={"name": STARTER}) as (app, _):
        platform = app.adapters["tester", "memory"]
        await platform.say("c", "p", "你好")
        await platform.say("c", "p", "1")
        [record] = (await app.database(app.store.records, "default")).pairs
        text = ChatText.load(Path(STARTER))
        assert record.prompt_ids == text.render(record.prompt)
        assert record.chosen_ids == text.reply(record.chosen)
        assert app.settings.model.trains
        assert not app.settings.model.speaks_loras
        done = NightResult("default", "published", 3, 7, "0007", (), {"exported": True})
        assert "for export" in app.summaries.sentence(done)


async def test_a_lora_for_export_does_not_speak(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loras, "active", lambda *_: "0007")
    async with pair(running, tmp_path) as (app, _):
        assert await app.nights.activate("default") == "0007"  # and the engine is not asked for what it can't do
        summary = await app.summaries.summary("default")
        assert summary["lora"] == "base (0007 is for export)"
        assert isinstance(app.summaries, Summaries)


async def test_a_server_that_is_away_is_an_apology(running: Running, unused_tcp_port: int) -> None:
    remote = {"base_url": f"http://127.0.0.1:{unused_tcp_port}/v1", "model": "m", "retries": 0}
    async with running(None, model={"engine": "remote", "remote": remote}) as app:
        [reply] = await app.adapters["tester", "memory"].say("c", "p", "hello")
        assert reply.exchange is None
        assert reply.text == "I could not answer that one; please send it again."


def test_all_that_is_missing_of_a_server_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        '[model]\nname = "starter"\nengine = "remote"\n[model.remote]\nbase_url = "localhost:80"\nkey_env = "NOT_SET"\n'
        "[model.remote.extra]\nstream = false\n",
        "utf-8",
    )
    with pytest.raises(SettingsError) as caught:
        load(path)
    wanted = ["base_url", "model", "key_env", "extra.stream"]
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        *(f"model.remote.{name}" for name in wanted),
        "model.name",
    ]


def test_a_server_needs_no_base_and_no_folder_stands_for_it(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    server = '[model]\nengine = "remote"\n[model.remote]\nbase_url = "http://127.0.0.1:11434/v1"\nmodel = "qwen3:8b"\n'
    path.write_text(server, "utf-8")
    settings = load(path)
    assert (settings.model.name, settings.model.trains) == ("", False)
    path.write_text(server + '[learner]\nprobation = "on"\n', "utf-8")
    with pytest.raises(SettingsError, match="can't duel"):
        load(path)


async def test_the_doctor_asks_the_server(running: Running, tmp_path: Path, unused_tcp_port: int) -> None:
    async def told(model: str, port: int) -> list[tuple[bool, str]]:
        remote = {"base_url": f"http://127.0.0.1:{port}/v1", "model": model}
        settings = settings_for(tmp_path / "looked-at", model={"engine": "remote", "remote": remote})
        return [(one.right, f"{one.what} {one.to_do}") async for one in examine(settings) if "model" in one.what]

    async with running(ScriptedEngine(said), tmp_path / "server", **SERVED) as server:
        [found, base] = await told("tester", server.server.port)
        assert found == (True, f"model tester on http://127.0.0.1:{server.server.port}/v1 ")
        assert base[0]
        [missing, _] = await told("other", server.server.port)
        assert not missing[0]
        assert "it has: tester" in missing[1]
    [away, _] = await told("tester", unused_tcp_port)
    assert not away[0]
    assert "can't be reached" in away[1]
