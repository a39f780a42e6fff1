"""LoRAs of chats of their own: who speaks where, whose words teach what, and what the owner can do about it."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from bots import lesson, personal
from bots.cli import main
from bots.settings import SettingsError
from bots.standalone import Standalone
from learner import challengers, lora_folder, loras
from learner.engine.base import CandidateSpec, ChatMessage
from learner.engine.scripted import ScriptedEngine
from learner.lora_folder import Shape
from learner.store.rows import RunRow
from tests.bots.test_nights import lesson_process
from tests.conftest import settings_for
from tests.learner.training_samples import FakeLora

Running = Callable[..., AbstractAsyncContextManager[Any]]
FITS = Shape("base-fingerprint", 4, 8, ("q_proj",))
MUM, TEAM = {"name": "mum", "chats": ["memory:m"]}, {"name": "team", "chats": ["memory:t"], "shared": True}
LEARNER: dict[str, Any] = {"enabled": False, "min_records": 3, "personal": [MUM, TEAM]}


def reply(messages: Sequence[ChatMessage], spec: CandidateSpec) -> str:
    """Tells who says it, and never the same twice."""
    return f"{spec.lora} says {spec.seed}"


def engine(*refused: str) -> ScriptedEngine:
    return ScriptedEngine(reply, refused=frozenset(refused))


def publish(data: Path, version: str, name: str | None = None, speaks: bool = True, **card: Any) -> None:
    """A version of the chats called `name`, or of all."""
    built = FakeLora(version, extra={"name": name, **card}).write(data / f"built-{version}")
    loras.publish(built, data / "loras", version, FITS)
    if speaks:
        loras.set_active(data / "loras", "default" if name is None else f"default@{name}", version)


def three_versions(data: Path) -> Path:
    """0001 speaks for all, 0002 in mum's chat, 0003 in the team's; the folder of LoRAs."""
    publish(data, "0001")
    publish(data, "0002", "mum")
    publish(data, "0003", "team")
    return data / "loras"


async def speaker(app: Any, chat: str, text: str = "hello") -> str:
    """The version that made the reply, as it is stored; it is also the one that made the text."""
    (said,) = await app.adapters["tester", "memory"].say(chat, "p", text)
    exchange = await app.database(app.store.exchange, said.exchange)
    made = {one.lora for one in exchange.candidates}
    assert [one.text.split()[0] for one in exchange.candidates] == [one.lora or "base" for one in exchange.candidates]
    assert len(made) == 1
    return str(made.pop())


async def teach(app: Any, chat: str, rounds: int = 4, person: str = "p") -> list[str]:
    """Let a person choose a few times in one chat; the exchanges."""
    found = []
    for _ in range(rounds):
        (said,) = await app.adapters["tester", "memory"].say(chat, person, f"hello {uuid.uuid4().hex}")
        found.append(said.exchange)
        await app.adapters["tester", "memory"].say(chat, person, "1")
    return found


# Who speaks ---------------------------------------------------------------------------------


async def test_each_chat_hears_its_own_and_a_strangers_the_common_one(running: Running, tmp_path: Path) -> None:
    three_versions(tmp_path)
    async with running(ScriptedEngine(reply, delay=0.01), tmp_path, learner=LEARNER) as app:
        chats = ["m", "t", "stranger", "m2"] * 3
        heard = await asyncio.gather(*(speaker(app, chat, f"hello {n}") for n, chat in enumerate(chats)))
        assert heard == ["0002", "0003", "0001", "0001"] * 3
    async with running(engine(), tmp_path, learner=LEARNER) as app:  # pointers after a restart
        assert [await speaker(app, chat) for chat in ("m", "t", "x")] == ["0002", "0003", "0001"]


async def test_without_one_of_its_own_a_chat_hears_the_common_one(running: Running, tmp_path: Path) -> None:
    publish(tmp_path, "0001")
    publish(tmp_path, "0002", "mum", speaks=False)
    async with running(engine(), tmp_path, learner=LEARNER) as app:
        assert await speaker(app, "m") == "0001"
        loras.set_active(tmp_path / "loras", "default@mum", "0002")  # another process moved the pointer
        assert await speaker(app, "m") == "0002"


async def test_one_that_no_longer_fits_leaves_the_word_to_the_common_one(
    running: Running, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    three_versions(tmp_path)
    with caplog.at_level(logging.ERROR):
        async with running(engine("0002"), tmp_path, learner=LEARNER) as app:
            assert [await speaker(app, chat) for chat in ("m", "m", "t")] == ["0001", "0001", "0003"]
    assert len([line for line in caplog.messages if "0002" in line and "common one speaks" in line]) == 1


async def test_a_retired_one_does_not_speak_even_if_the_pointer_names_it(running: Running, tmp_path: Path) -> None:
    folder = three_versions(tmp_path)
    async with running(engine(), tmp_path, learner=LEARNER) as app:
        assert await speaker(app, "m") == "0002"
        loras.retire(folder, "0002", "a crash came before the pointer was moved")
        assert await speaker(app, "m") == "0001"


async def test_more_loras_than_slots_speak_in_turn(
    running: Running, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"n{number}" for number in range(5)]
    for number, name in enumerate(names, start=1):
        publish(tmp_path, f"{number:04d}", name)
    learner = {**LEARNER, "personal": [{"name": name, "chats": [f"memory:{name}"]} for name in names]}
    model = {"lora_slots": 2}
    with caplog.at_level(logging.INFO):
        async with running(ScriptedEngine(reply, delay=0.01), tmp_path, learner=learner, model=model) as app:
            for _ in range(3):
                heard = await asyncio.gather(*(speaker(app, name) for name in [*names, "other"]))
                assert heard == ["0001", "0002", "0003", "0004", "0005", "None"]
                assert len(app.nights.voices["default"].shelf.loaded) == len(app.engines["default"]._held) == 2
    assert any("makes room for" in line and "2 are loaded" in line for line in caplog.messages)


# Offers -------------------------------------------------------------------------------------


async def test_an_offer_in_a_chat_of_its_own_is_between_its_own(running: Running, tmp_path: Path) -> None:
    folder = three_versions(tmp_path)
    publish(tmp_path, "0004", speaks=False)
    challengers.challenge(folder, "default", "0004")
    learner = {**LEARNER, "probation": "on"}
    async with running(engine(), tmp_path, learner=learner, ask_rate=1.0) as app:
        assert [await speaker(app, chat) for chat in ("m", "t")] == ["0002", "0003"]
        (said,) = await app.adapters["tester", "memory"].say("x", "p", "hello")
        exchange = await app.database(app.store.exchange, said.exchange)
        assert {one.lora for one in exchange.candidates} == {"0001", "0004"}


async def test_only_choices_that_concern_all_decide_duels(running: Running, tmp_path: Path) -> None:
    publish(tmp_path, "0001")
    publish(tmp_path, "0004", speaks=False)
    challengers.challenge(tmp_path / "loras", "default", "0004")
    async with running(engine(), tmp_path, learner={**LEARNER, "probation": "on"}, ask_rate=1.0) as app:
        assert await speaker(app, "m") == "0001"
        (said,) = await app.adapters["tester", "memory"].say("t", "p", "hello")
        exchange = await app.database(app.store.exchange, said.exchange)
        assert {one.lora for one in exchange.candidates} == {"0001", "0004"}


# Nights -------------------------------------------------------------------------------------


def exchanges_in(app: Any, number: int) -> set[str]:
    return lesson.exchanges_of(app.settings.runs_dir / f"{number:04d}")


async def test_words_teach_their_own_chats_lora_and_only_shared_ones_the_common_one(running: Running) -> None:
    async with running(engine(), learner=LEARNER, ask_rate=1.0) as app:
        said = {chat: set(await teach(app, chat)) for chat in ("m", "t", "x")}
        counts = {scope: await app.nights.count(scope) for scope in personal.scopes_of(app.settings, "default")}
        assert counts == {"default": 8, "default@mum": 4, "default@team": 4}
        wanted = {"default": said["t"] | said["x"], "default@mum": said["m"], "default@team": said["t"]}
        for scope, exchanges in wanted.items():
            night = app.nights.start(scope)
            (await lesson_process()).kill()
            result = await night
            assert (result.state, result.scope) == ("failed", scope)
            assert exchanges_in(app, result.number) == exchanges
            request = json.loads((app.settings.runs_dir / f"{result.number:04d}" / "request.json").read_text("utf-8"))
            assert (request["mind"], request["name"]) == ("default", scope.partition("@")[2] or None)
            assert (await app.nights.last(scope)).number == result.number


async def test_a_chats_own_night_is_held_against_what_speaks_there(running: Running, tmp_path: Path) -> None:
    publish(tmp_path, "0001")
    async with running(engine(), tmp_path, learner=LEARNER) as app:
        champions = []
        for _ in range(2):
            champions.append(lesson.night_request(app.settings, "default@mum", 9).champion)
            publish(tmp_path, "0002", "mum") if len(champions) == 1 else None
        assert [Path(str(one)).name for one in champions] == ["0001", "0002"]


async def test_one_night_at_a_time(running: Running) -> None:
    async with running(engine(), learner=LEARNER, ask_rate=1.0) as app:
        await teach(app, "m")
        await teach(app, "x")
        first, second = app.nights.start("default"), app.nights.start("default@mum")
        child = await lesson_process()
        assert app.nights.progress("default@mum")["phase"] == "waiting"
        page = app.nights.progress("default")
        assert page["phase"] != "waiting"
        child.kill()
        assert (await first).state == "failed"
        (await lesson_process()).kill()
        assert (await second).state == "failed"


async def test_when_the_hour_comes_only_chats_with_enough_that_is_new_are_taught(running: Running) -> None:
    async with running(engine(), learner=LEARNER, ask_rate=1.0) as app:
        await teach(app, "m", 2)
        assert [await app.nights.is_worth(scope) for scope in ("default", "default@mum")] == [True, False]
        await teach(app, "m", 1)
        assert await app.nights.is_worth("default@mum")
        assert await app.nights.is_owed("default@mum", time.time() + 1)
        await app.database(app.store.add_run, RunRow(7, "default@mum", "refused", time.time(), time.time()))
        await teach(app, "m", 2)
        assert not await app.nights.is_worth("default@mum")
        assert not await app.nights.is_owed("default@mum", time.time() + 1)
        await teach(app, "m", 1)
        assert await app.nights.is_worth("default@mum")


@pytest.mark.parametrize("fits", [True, False])
async def test_a_crash_of_the_parent_is_caught_up_with(running: Running, tmp_path: Path, fits: bool) -> None:
    publish(tmp_path, "0001")
    publish(tmp_path, "0007", "mum", speaks=False)
    folder = tmp_path / "runs" / "0007"
    folder.mkdir(parents=True)
    (folder / lesson.VERDICT).write_text(json.dumps({"outcome": "published", "reasons": []}), "utf-8")
    async with running(engine(), tmp_path, learner=LEARNER) as app:
        await app.database(app.store.add_run, RunRow(7, "default@mum", "running", time.time(), None))
    async with running(engine(*([] if fits else ["0007"])), tmp_path, learner=LEARNER) as app:
        assert (await app.database(app.store.run, 7)).state == ("published" if fits else "refused")
        assert await speaker(app, "m") == ("0007" if fits else "0001")
        assert [await speaker(app, "x"), app.nights.active("default")] == ["0001", "0001"]


async def test_owners_are_told_whose_night_it_was(running: Running, tmp_path: Path) -> None:
    async with running(engine(), tmp_path, learner=LEARNER) as app:
        platform = app.adapters["tester", "memory"]
        await platform.say("p", "p", f"/claim {app.claim_code.value}")
        await app.database(app.store.add_run, RunRow(7, "default@mum", "running", time.time(), None))
    async with running(engine(), tmp_path, learner=LEARNER) as app:
        for _ in range(100):
            said = [one.text for one in app.adapters["tester", "memory"].sent]
            if said:
                break
            await asyncio.sleep(0.05)
        assert len(said) == 1
        assert said[0].startswith("mum: ")
        assert "Still on what all other chats hear" in said[0]
        assert (await app.summaries.last_verdict("default")).startswith("mum: ")


# What the owner can do ----------------------------------------------------------------------


async def test_promote_and_rollback_concern_the_chats_alone(running: Running, tmp_path: Path) -> None:
    folder = three_versions(tmp_path)
    publish(tmp_path, "0005", "mum", speaks=False)
    async with running(engine(), tmp_path, learner=LEARNER) as app:
        calls = app.versions.calls()
        assert await calls["promote"]({"version": "0005"}) == {"active": "0005", "name": "mum"}
        assert [await speaker(app, chat) for chat in ("m", "x")] == ["0005", "0001"]
        for expected in ("0002", "common"):
            assert (await calls["rollback"]({"chat": "memory:m"}))["active"] == expected
        assert await speaker(app, "m") == "0001"
        for wrong in (
            {"version": "0005", "chat": "team"},
            {"version": "0001", "chat": "mum"},
            {"version": "base", "chat": "mum"},
            {"version": "common"},
            {"version": "0002", "chat": "memory:x"},
        ):
            with pytest.raises(Exception, match=r"belongs to|common|no LoRA of its own"):
                await calls["promote"](wrong)
        with pytest.raises(lora_folder.LoraUnfit, match="the chats mum of the mind default"):
            loras.set_active(folder, "default", "0005")
        assert await calls["promote"]({"version": "0005", "chat": "mum"}) == {"active": "0005", "name": "mum"}
        assert await calls["promote"]({"version": "common", "chat": "mum"}) == {"active": "common", "name": "mum"}
        assert loras.active(folder, "default") == "0001"


async def test_the_owners_words_in_the_chat_mean_its_own(running: Running, tmp_path: Path) -> None:
    three_versions(tmp_path)
    async with running(engine(), tmp_path, learner=LEARNER) as app:
        platform = app.adapters["tester", "memory"]
        await platform.say("m", "p", f"/claim {app.claim_code.value}")
        (status,) = await platform.say("m", "p", "/status")
        assert "LoRA 0002" in status.text
        assert "memory:m" in status.text
        assert "mum" in status.text
        (listed,) = await platform.say("m", "p", "/lora")
        assert "* 0001\n* 0002 mum\n* 0003 team" in listed.text
        await platform.say("m", "p", "/lora rollback")
        assert [await speaker(app, chat) for chat in ("m", "x")] == ["0001", "0001"]
        (few,) = await platform.say("m", "p", "/learn")
        assert "0 records can be used" in few.text
        (elsewhere,) = await platform.say("p", "p", "/status")
        assert "LoRA 0001" in elsewhere.text
        stranger = (await platform.say("m", "somebody", "/status"))[0].text
        assert "mum" not in stranger


async def test_who_is_forgotten_is_forgotten_by_the_chats_lora_too(running: Running, tmp_path: Path) -> None:
    learner = {**LEARNER, "personal": [{**MUM, "chats": ["memory:m"]}]}
    async with running(engine(), tmp_path, learner=learner, ask_rate=1.0) as app:
        before = await teach(app, "m", person="ann")
        both = [*before, *await teach(app, "m", person="eve")]
        publish(tmp_path, "0002", "mum", records={"pairs": 4, "ratings": 0, "exchanges": before})
        publish(tmp_path, "0003", "mum", records={"pairs": 8, "ratings": 0, "exchanges": both})
        publish(tmp_path, "0001")
        await app.nights.activate("default")
        (said,) = await app.adapters["tester", "memory"].say("m", "ann", "who speaks?")
        assert said.candidates[0].startswith("0003")
        done = await app.versions.calls()["forget"]({"person": "memory:eve"})
        assert "0003" in done["retired"]
        assert loras.show(tmp_path / "loras", "0003").retired
        # Ann's words quoted nothing of Eve's, unless the history of the chat did.
        speaks = "0002" if "0002" not in done["retired"] else "common"
        assert app.nights.active("default@mum") == speaks
        with pytest.raises(Exception, match="may not speak again"):
            await app.versions.calls()["promote"]({"version": "0003"})
        done = await app.versions.calls()["forget"]({"person": "memory:ann"})
        assert app.nights.active("default@mum") == "common"
        assert await app.nights.count("default@mum") == 0


# Without a bot, and by hand -----------------------------------------------------------------


def test_the_command_line_knows_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    three_versions(tmp_path)
    config = tmp_path / "config.toml"
    config.write_text(
        f"data_dir = '{tmp_path}'\n[model]\nengine = 'scripted'\n"
        "[[learner.personal]]\nname = 'mum'\nchats = ['memory:m']\n",
        "utf-8",
    )
    told = ["--config", str(config)]
    assert main(["lora", "list", *told]) == 0
    assert "* 0002  mum: 1 pairs" in capsys.readouterr().out
    assert main(["lora", "rollback", "--chat", "memory:m", *told]) == 0
    assert "common speaks in mum" in capsys.readouterr().out
    assert main(["lora", "promote", "0002", *told]) == 0
    assert "0002 speaks in mum" in capsys.readouterr().out
    assert main(["lora", "promote", "0003", *told]) == 1
    assert "team has no LoRA of its own" in capsys.readouterr().err
    assert main(["learn", "--chat", "mum", *told]) == 0
    assert "0 records can be used" in capsys.readouterr().out
    assert main(["learn", "--chat", "memory:x", *told]) == 1
    assert "names: mum" in capsys.readouterr().err
    assert main(["report", "--chat", "mum", *told]) == 1
    assert "default@mum" in capsys.readouterr().out


def test_a_rollback_of_what_never_spoke_says_so(tmp_path: Path) -> None:
    alone = Standalone(settings_for(tmp_path, learner=LEARNER))
    with pytest.raises(Exception, match="the common LoRA already speaks for default@mum"):
        alone.call("rollback", chat="mum")


@pytest.mark.parametrize(
    ("entries", "fault"),
    [
        ([MUM, {"name": "Mum", "chats": ["memory:z"]}], "mum"),
        ([MUM, {"name": "other", "chats": ["memory:m"]}], "memory:m"),
        ([{"name": "a@b", "chats": ["memory:m"]}], r"personal\.0\.name"),
        ([{"name": "a", "chats": ["m"]}], r"personal\.0\.chats"),
        ([{"name": "a", "chats": []}], r"personal\.0\.chats"),
    ],
)
def test_what_cannot_be_a_chats_lora_is_refused(tmp_path: Path, entries: list[Any], fault: str) -> None:
    with pytest.raises(SettingsError, match=fault):
        settings_for(tmp_path, learner={"personal": entries})
