"""Adapters that fail, need a login, or can't send: the process stays, and the owner is told elsewhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from adapters.base import Capabilities, DeliveryFailed, Health, Person, Receive, Reply, Sent
from adapters.memory import MemoryAdapter
from bots import cli, platforms
from bots.settings import SettingsError, load

Running = Callable[..., AbstractAsyncContextManager[Any]]
LINK = "https://login.example/qr/1"


class Moody(MemoryAdapter):
    """A platform that wants a login, asks for digits, and falls over when told to."""

    name = "moody"

    def __init__(self) -> None:
        super().__init__(Capabilities())
        self.starts = 0
        self.codes: list[str] = []
        self.fall = asyncio.Event()

    async def run(self, receive: Receive) -> None:
        self.starts += 1
        self._receive = receive
        self._ready.set()
        await self.fall.wait()
        self.fall.clear()
        raise RuntimeError("the library broke")

    def enter_code(self, code: str) -> None:
        self.codes.append(code)


class Broken(MemoryAdapter):
    """A platform that takes nothing."""

    async def send(self, reply: Reply) -> Sent:
        raise DeliveryFailed("you were blocked", permanent=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.01)


def add(app: Any, adapter: Any) -> None:
    """Let `adapter` be one of the running app's, as _add_bot would."""
    bot = app.settings.bots[0]
    app.adapters[bot.name, adapter.name] = adapter
    app.outbox.serve(bot.name, adapter)
    app.platforms.add(bot.name, adapter)
    task = asyncio.create_task(app.platforms.keep(bot.name, adapter, app.receive(bot, adapter)))
    app._tasks.append(task)


async def test_an_adapter_that_falls_over_starts_again_and_takes_nothing_along(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platforms, "FIRST_PAUSE", 0.01)
    async with running() as app:
        moody = Moody()
        add(app, moody)
        await until(lambda: moody.starts == 1)
        moody.fall.set()
        await until(lambda: moody.starts == 2)
        standing = next(one for one in app.platforms.listing() if one["adapter"] == "moody")
        assert standing["state"] == "offline"
        assert "RuntimeError" in str(standing["detail"])
        assert await app.adapters["tester", "memory"].say("c", "p", "still there?")


async def test_a_login_is_asked_of_the_owner_on_every_other_channel(running: Running) -> None:
    async with running() as app:
        memory = app.adapters["tester", "memory"]
        await memory.say("boss", "boss", f"/claim {app.claim_code.value}")
        add(app, moody := Moody())
        app.platforms.host("tester", "memory").report(Health("online"))
        host = app.platforms.host("tester", "moody")
        for _ in range(2):
            host.report(Health("login", "the old login is over", qr=LINK))
        await until(lambda: any(LINK in one.text for one in memory.sent))
        host.report(Health("login", wants_code=True))
        await until(lambda: any("/code" in one.text for one in memory.sent))
        assert sum(LINK in one.text for one in memory.sent) == 1
        assert next(one for one in memory.sent if LINK in one.text).chat == "boss"
        await memory.say("boss", "boss", "/code 123456")
        assert moody.codes == ["123456"]
        assert moody.sent == []


async def test_whoever_logs_in_owns_the_bot(running: Running) -> None:
    async with running() as app:
        await app.platforms.host("tester", "memory").owned_by(Person("scanner", "Sam"))
        known = await app.database(app.store.known, "tester", "memory", "scanner")
        assert (known.owner, known.teacher) == (True, True)
        assert (app.settings.data_dir / "platforms" / "tester" / "memory").stat().st_mode & 0o777 == 0o700


async def test_what_can_not_be_sent_is_kept_and_shown(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    async with running() as app:
        broken = Broken()
        app.adapters["tester", "memory"]._receive = None
        add(app, broken)
        await until(lambda: broken._receive is not None)
        await broken.say("c", "p", "hello")
        config = app.settings.data_dir.parent / "config.toml"
        config.write_text(f'data_dir = "{app.settings.data_dir}"\n', "utf-8")
        async with asyncio.timeout(20):
            while not (await app._status({}))["unsendable"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await asyncio.to_thread(cli.main, ["status", "--config", str(config), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert [one["reason"] for one in told["unsendable"]] == ["you were blocked"]
        assert {one["adapter"] for one in told["platforms"]} == {"memory"}


def test_status_without_a_bot_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.toml"
    config.write_text('data_dir = "data"\n', "utf-8")
    assert cli.main(["status", "--config", str(config)]) == 1
    assert "no bot runs" in capsys.readouterr().out


def test_the_doctor_names_what_is_wrong_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[model]\nname = "./nowhere"\n[adapters.web]\nport = 0\n', "utf-8")
    assert cli.main(["doctor", "--config", str(config)]) == 1
    out = capsys.readouterr().out
    assert "WRONG model" in out
    assert "config.json" in out
    config.write_text('[model]\nengine = "scripted"\n[adapters.web]\nport = 0\n', "utf-8")
    assert cli.main(["doctor", "--config", str(config)]) == 0


def test_wrong_platform_settings_are_all_named(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        '[[bots]]\nname = "a"\nadapters = ["console"]\n[bots.platforms.telegram]\ntoken_env = "X"\n'
        "[adapters.telegrm]\nx = 1\n",
        "utf-8",
    )
    with pytest.raises(SettingsError) as error:
        load(config)
    text = str(error.value)
    assert "bots.0.platforms.telegram" in text
    assert "adapters.telegrm" in text
