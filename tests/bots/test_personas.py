"""Several personas in one bot: chosen per chat, with a history of its own each, and a bot that speaks first."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from adapters.base import Joined, Person
from bots.control import ControlClient
from bots.settings import ROOT, SettingsError, load
from learner.store.rows import Place
from tests.bots.test_who_may_talk import Listening, bot, give, own
from tests.conftest import settings_for

Running = Callable[..., AbstractAsyncContextManager[Any]]
OPEN: dict[str, Any] = {"talkers": "everyone", "teachers": "everyone"}
WUKONG = {"name": "孙悟空", "profile": "You guard a monk.", "greeting": "俺老孙来也！"}
SHELDON = {"name": "Sheldon", "profile": "You are a physicist."}
SEVERAL = {"persona": {"name": "Lamp", "profile": "You are a lamp."}, "personas": [WUKONG, SHELDON]}
HERE = Place("tester", "memory", "ann")


async def test_a_chat_chooses_who_speaks_and_its_history_starts_anew(running: Running) -> None:
    listening = Listening()
    async with running(listening.engine, bots=bot(**OPEN, **SEVERAL)) as app:
        await give(app, "ann", "tell me of light")
        chosen, greeting = await give(app, "ann", "/persona 孙悟空")
        assert "孙悟空" in chosen
        assert greeting == WUKONG["greeting"]
        await give(app, "ann", "who are you")
        prompt = (await app.database(app.store.latest_exchange, HERE)).prompt
        assert [one.role for one in prompt] == ["system", "assistant", "user"]
        assert [one.content for one in prompt] == ["You are 孙悟空. You guard a monk.", "俺老孙来也！", "who are you"]
        await give(app, "bob", "and here?")
        assert listening.prompts[-1].startswith("You are Lamp. You are a lamp.")
        back = await give(app, "ann", "/persona -")
        assert (len(back), "Lamp" in back[0]) == (1, True)  # it has no greeting
        await give(app, "ann", "again")
        assert listening.prompts[-1] == "You are Lamp. You are a lamp.\nagain"


async def test_the_choice_survives_a_restart_and_a_persona_that_is_gone(running: Running) -> None:
    listening = Listening()
    async with running(listening.engine, bots=bot(**OPEN, **SEVERAL)) as app:
        await give(app, "ann", "/persona sheldon")  # however it is written
    async with running(listening.engine, bots=bot(**OPEN, **SEVERAL)) as app:
        await give(app, "ann", "hello")
        assert listening.prompts[-1].startswith("You are Sheldon.")
        assert "Sheldon" in (await give(app, "ann", "/persona SHELDON"))[0]
        assert listening.prompts[-1].endswith("hello")
    alone = {"persona": SEVERAL["persona"]}
    async with running(listening.engine, bots=bot(**OPEN, **alone)) as app:
        await give(app, "ann", "still there?")
        assert listening.prompts[-1].startswith("You are Lamp.")


async def test_the_list_and_names_that_nobody_has(running: Running) -> None:
    async with running(bots=bot(**OPEN, **SEVERAL)) as app:
        (told,) = await give(app, "ann", "/persona")
        assert "[Lamp], 孙悟空, Sheldon" in told
        assert "Lamp it is" in (await give(app, "ann", "/persona -"))[0]
        await give(app, "ann", "/人设 sheldon")
        assert "Lamp, 孙悟空, [Sheldon]" in (await give(app, "ann", "/persona"))[0]
        await own(app)
        (told,) = await give(app, "owner", "/persona Sheldn")  # not taken for a profile
        assert "Sheldn" in told
        assert "You are a lamp." in (await give(app, "owner", "/persona"))[0]
        assert "You are a torch." in (await give(app, "owner", "/persona = You are a torch."))[0]
        assert "owner" in (await give(app, "ann", "/persona = You are mine."))[0]
        assert "You are a lamp." in (await give(app, "owner", "/persona -"))[0]


async def test_in_a_group_the_owner_chooses(running: Running) -> None:
    groups = {"allow": ["memory:club"], "notice": False}
    async with running(bots=bot(**OPEN, **SEVERAL, groups=groups)) as app:
        await own(app)
        assert "owner" in (await give(app, "ann", "/persona sheldon", "club", group=True))[0]
        assert "Sheldon" in (await give(app, "owner", "/persona sheldon", "club", group=True))[0]
        assert (await app.database(app.store.chat_state, Place("tester", "memory", "club"))).persona == "Sheldon"


async def test_one_of_several_openings_is_drawn_with_the_seed(running: Running, tmp_path: Path) -> None:
    words = [f"opening {number}" for number in range(50)]
    drawn = []
    for seed in (1, 1, 2):
        persona = {"first_words": words, "greeting": "never said"}
        folder = tmp_path / str(len(drawn))
        async with running(bots=bot(**OPEN, persona=persona), seed=seed, data_dir=folder) as app:
            drawn.append((await give(app, "ann", "/start"))[0])
            assert [turn.text for turn in await app.database(app.store.history, HERE, 9)] == drawn[-1:]
    assert drawn[0] == drawn[1] != drawn[2]
    assert set(drawn) <= set(words)


async def test_a_new_friend_is_greeted_and_the_greeting_is_the_beginning(running: Running) -> None:
    listening = Listening()
    persona = {"greeting": "welcome!"}
    async with running(listening.engine, bots=bot(**OPEN, greet=True, persona=persona)) as app:
        memory = app.adapters["tester", "memory"]
        joined = Joined("j", "ann", Person("ann", "Ann"))
        assert [one.text for one in await memory.give(joined)] == ["welcome!"]
        assert [one.text for one in await memory.give(joined)] == ["welcome!"]  # delivered again, said once
        await give(app, "ann", "hi")
        assert listening.prompts == ["welcome!\nhi"]
        assert "1" in (await give(app, "ann", "/start"))[0]  # the chat is open: help


async def test_a_chat_that_is_looked_into_is_greeted_once(running: Running) -> None:
    persona = {"greeting": "welcome!"}
    bots = [{"name": "tester", "adapters": ["web"], "persona": persona, "personas": [WUKONG]}]
    async with running(bots=bots, adapters={"web": {"port": 0}}) as app:
        backend = app.adapters["tester", "web"]._api._backend
        assert [await backend.open("main"), await backend.open("main")] == [True, False]
        [line] = await backend.log("main", 10)
        assert (line.role, line.text, line.exchange) == ("assistant", "welcome!", None)
        status = await backend.status()
        assert (status.personas, await backend.persona("main")) == (("孙悟空",), "")


async def test_a_profile_of_somebody_who_is_forgotten_elsewhere_is_spoken_no_more(running: Running) -> None:
    listening = Listening()
    async with running(listening.engine, bots=bot(**OPEN)) as app:
        await own(app)
        await give(app, "owner", "/persona I am Quackenbush")
        await give(app, "ann", "hello")
        assert "Quackenbush" in listening.prompts[-1]
        client = ControlClient(app.settings.data_dir)
        await asyncio.to_thread(client.call, "forget", person="memory:owner")
        await give(app, "ann", "hello again")
        assert "Quackenbush" not in listening.prompts[-1]


# Settings -----------------------------------------------------------------------------------


def settings_with(tmp_path: Path, profiles: Any, **changes: Any) -> Any:
    path = tmp_path / "profiles.json"
    path.write_text(profiles if isinstance(profiles, str) else json.dumps(profiles), "utf-8")
    bots = bot(personas_file="../profiles.json", **changes)
    return settings_for(tmp_path / "data", bots=bots)


def test_profiles_in_a_file_are_personas(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, {"Jack Sparrow": "A pirate.", "李云龙": "团长。"}, personas=[WUKONG])
    assert [(one.name, one.profile) for one in settings.bots[0].personas] == [
        ("孙悟空", "You guard a monk."), ("Jack Sparrow", "A pirate."), ("李云龙", "团长。")]  # fmt: skip


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_guide_s_config_can_be_used(tmp_path: Path, language: str) -> None:
    text = (ROOT / "docs" / f"personas.{language}.md").read_text("utf-8")
    block = text.split("```toml\n")[1].split("```")[0]
    (tmp_path / "config.toml").write_text(block, "utf-8")
    (tmp_path / "roles.json").write_text('{"Jack": "A pirate."}', "utf-8")
    [made] = load(tmp_path / "config.toml").bots
    assert (made.persona.greeting != "", len(made.personas), made.personas[-1].name) == (True, 2, "Jack")


@pytest.mark.parametrize(
    ("fault", "profiles", "changes"),
    [
        ("not JSON", "{", {}),
        ("one JSON object", ["a"], {}),
        ("1 to 40 characters", {"-": "a"}, {}),
        ("profile is text", {"a": 1}, {}),
        ("two are called", {"孙悟空": "a"}, {"personas": [WUKONG]}),
        ("personas.0.name", {}, {"personas": [{"name": " a"}]}),
        ("personas.0.name", {}, {"personas": [{"profile": "a"}]}),
    ],
)
def test_faults_of_personas_are_named(tmp_path: Path, fault: str, profiles: Any, changes: Any) -> None:
    with pytest.raises(SettingsError, match=fault):
        settings_with(tmp_path, profiles, **changes)
