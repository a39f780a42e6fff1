"""Probation: champion and challenger duel in offers; choices promote or roll back; crashes change nothing."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from adapters.base import Reply
from bots import lesson
from bots.cli import main
from bots.standalone import Standalone
from learner import challengers, loras
from learner.engine.base import CandidateSpec, ChatMessage, EngineClosed
from learner.engine.scripted import ScriptedEngine
from learner.lora_folder import Shape
from learner.scopes import BASE
from learner.store.rows import RunRow
from tests.bots.test_morning import settled
from tests.conftest import settings_for
from tests.learner.training_samples import FakeLora

Running = Callable[..., AbstractAsyncContextManager[Any]]
MIND = "default"
FITS = Shape("base-fingerprint", 4, 8, ("q_proj",))
ON = {"enabled": False, "min_records": 1, "probation": "on"}
OFFERS: dict[str, Any] = {"ask_rate": 1.0, "learner": ON}


def reply(messages: Sequence[ChatMessage], spec: CandidateSpec) -> str:
    """Tells who says it, and never the same twice."""
    return f"{spec.lora} says {spec.seed}"


def engine(*refused: str) -> ScriptedEngine:
    return ScriptedEngine(reply, refused=frozenset(refused))


def publish(data: Path, version: str, records: dict[str, Any] | None = None) -> None:
    extra: dict[str, object] = {} if records is None else {"records": records}
    built = FakeLora(version, MIND, extra=extra).write(data / f"built-{version}")
    loras.publish(built, data / "loras", version, FITS)


def two_versions(data: Path) -> Path:
    """0001 speaks, 0002 challenges it; the folder of LoRAs."""
    for version in ("0001", "0002"):
        publish(data, version)
    loras.set_active(data / "loras", MIND, "0001")
    challengers.challenge(data / "loras", MIND, "0002")
    return data / "loras"


async def say(app: Any, text: str, chat: str = "c") -> tuple[Reply, ...]:
    """The replies to a message whose id no earlier process has given."""
    replies: tuple[Reply, ...] = await app.adapters["tester", "memory"].say(chat, "p", text, id=uuid.uuid4().hex)
    return replies


async def offered(app: Any, number: int, chat: str = "c") -> Any:
    """The offer that a message gets, as it is stored."""
    (said,) = await say(app, f"hello {number}", chat)
    return await app.database(app.store.exchange, said.exchange)


async def duel(app: Any, rounds: int, winner: str | None, chat: str = "c") -> None:
    """Choose the candidates of `winner` (None: the base) in so many offers."""
    for number in range(rounds):
        exchange = await offered(app, number, chat)
        side = next(one.side for one in exchange.candidates if one.lora == winner)
        await say(app, str(side), chat)
        await app.nights.probation.reviewed()


async def test_an_offer_is_a_duel_whose_sides_are_a_stored_coin(running: Running, tmp_path: Path) -> None:
    two_versions(tmp_path)
    async with running(engine(), tmp_path, **OFFERS) as app:
        pairs = [tuple(one.lora for one in (await offered(app, n)).candidates) for n in range(40)]
        assert set(pairs) == {("0001", "0002"), ("0002", "0001")}
        assert 8 < pairs.count(("0001", "0002")) < 32
        exchange = await offered(app, 99)
        assert [one.text.split()[0] for one in exchange.candidates] == [one.lora for one in exchange.candidates]


async def test_the_chat_does_not_tell_whose_is_whose_before_the_choice(running: Running, tmp_path: Path) -> None:
    two_versions(tmp_path)
    async with running(engine(), tmp_path, **OFFERS) as app:
        for number in range(4):
            exchange = await offered(app, number)
            line = (await app.database(app.store.chat_log, exchange.place, 1))[-1]
            assert (line.exchange, line.lora) == (exchange.id, None)
            await say(app, "2")
            line = next(
                one for one in await app.database(app.store.chat_log, exchange.place, 3) if one.exchange == exchange.id
            )
            assert line.lora == exchange.candidates[1].lora


async def test_a_single_reply_is_the_champions(running: Running, tmp_path: Path) -> None:
    two_versions(tmp_path)
    async with running(engine(), tmp_path, learner=ON, ask_rate=0.0) as app:
        assert {(await offered(app, n)).candidates[0].lora for n in range(10)} == {"0001"}


async def test_of_two_equal_texts_the_champions_is_shown(running: Running, tmp_path: Path) -> None:
    two_versions(tmp_path)
    async with running(ScriptedEngine(lambda _messages, _spec: "the same"), tmp_path, **OFFERS) as app:
        assert {(await offered(app, n)).candidates[0].lora for n in range(10)} == {"0001"}


async def test_wins_promote_and_the_engine_follows(running: Running, tmp_path: Path) -> None:
    folder = two_versions(tmp_path)
    told: list[dict[str, Any]] = []
    async with running(engine(), tmp_path, **OFFERS) as app:
        app.nights._announce = lambda event, values: told.append({"event": event, **values})
        await duel(app, 9, "0002")
        assert loras.active(folder, MIND) == "0001"
        await duel(app, 1, "0002")
        assert loras.active(folder, MIND) == "0002"
        assert app.engines[MIND].status().active_lora == "0002"
        assert {"event": "lora", "mind": MIND, "lora": "0002"} in told
        exchange = await offered(app, 1)
        assert [one.lora for one in exchange.candidates] == ["0002", "0002"]
    assert challengers.standing(folder, MIND) is None
    async with running(engine(), tmp_path, **OFFERS) as app:
        assert app.engines[MIND].status().active_lora == "0002"


async def test_an_engine_that_dies_while_it_promotes_retires_nothing(running: Running, tmp_path: Path) -> None:
    folder = two_versions(tmp_path)
    async with running(engine(), tmp_path, **OFFERS) as app:
        await duel(app, 9, "0002")

        async def dead(_folder: Path | None) -> str | None:
            raise EngineClosed("the engine's thread died")

        app.engines[MIND].swap_lora = dead
        await duel(app, 1, "0002")
    assert loras.show(folder, "0002").retired is None
    async with running(engine(), tmp_path, **OFFERS) as app:
        assert app.engines[MIND].status().active_lora == "0002"


async def test_losses_roll_back_with_a_reason(running: Running, tmp_path: Path) -> None:
    folder = two_versions(tmp_path)
    async with running(engine(), tmp_path, **OFFERS) as app:
        await duel(app, 10, "0001")
        assert "0 of 10 duels" in str(loras.show(folder, "0002").retired)
        exchange = await offered(app, 1)
        assert [one.lora for one in exchange.candidates] == ["0001", "0001"]
    assert loras.active(folder, MIND) == "0001"


@pytest.mark.parametrize(
    ("winner", "told"),
    [("0002", "0002 won its duels, 10 of 10 choices: it now speaks."),
     ("0001", "0002 lost its duels, 0 of 10 choices: 0001 goes on speaking.")],
)  # fmt: skip
async def test_the_owner_is_told_how_duels_ended(running: Running, tmp_path: Path, winner: str, told: str) -> None:
    two_versions(tmp_path)
    async with running(engine(), tmp_path, **OFFERS) as app:
        await say(app, f"/claim {app.claim_code.value}")
        await duel(app, 9, winner)
        platform = app.adapters["tester", "memory"]
        assert [one for one in platform.sent if "duels" in one.text] == []
        await duel(app, 1, winner)
        await settled(app)
        [message] = [one for one in platform.sent if "duels" in one.text]
        assert (message.chat, message.text) == ("p", told)


async def test_duels_are_counted_from_what_is_stored(running: Running, tmp_path: Path) -> None:
    two_versions(tmp_path)
    async with running(engine(), tmp_path, **OFFERS) as app:
        probation = app.nights.probation
        await duel(app, 3, "0002")
        assert ((await probation.standing(MIND)).score.wins, (await probation.standing(MIND)).score.duels) == (3, 3)
        await say(app, "/undo")
        assert (await probation.standing(MIND)).score.duels == 2
        await offered(app, 7)
        await say(app, "both bad")
        assert (await probation.standing(MIND)).score.duels == 2
        records = await app.database(app.store.records, MIND)
        assert [pair.provenance.loras for pair in records.pairs] == [("0002", "0001")] * 2
    async with running(engine(), tmp_path, **OFFERS) as app:
        assert (await app.nights.probation.standing(MIND)).score.duels == 2
        await duel(app, 1, "0001")
        assert "2 of 3 duels" in str(await app.nights.probation.standing(MIND))


async def test_who_does_not_teach_does_not_decide(running: Running, tmp_path: Path) -> None:
    two_versions(tmp_path)
    bots = [{"name": "tester", "adapters": ["memory"], "talkers": "everyone", "teachers": "owner"}]
    async with running(engine(), tmp_path, bots=bots, **OFFERS) as app:
        await duel(app, 12, "0002")
        assert (await app.nights.probation.standing(MIND)).score.duels == 0
        assert app.nights.active(MIND) == "0001"


async def test_the_base_can_be_the_champion(running: Running, tmp_path: Path) -> None:
    publish(tmp_path, "0001")
    challengers.challenge(tmp_path / "loras", MIND, "0001")
    async with running(engine(), tmp_path, **OFFERS) as app:
        await duel(app, 10, "0001")
        assert app.nights.active(MIND) == "0001"


async def test_an_engine_that_lost_the_challenger_answers_without_a_duel(running: Running, tmp_path: Path) -> None:
    two_versions(tmp_path)
    async with running(engine(), tmp_path, **OFFERS) as app:
        await app.engines[MIND].release_lora("0002")
        assert [one.lora for one in (await offered(app, 1)).candidates] == ["0001", "0001"]


async def test_a_challenger_that_does_not_load_never_duels(running: Running, tmp_path: Path) -> None:
    folder = two_versions(tmp_path)
    async with running(engine("0002"), tmp_path, **OFFERS) as app:
        assert [one.lora for one in (await offered(app, 1)).candidates] == ["0001", "0001"]
    challengers.challenge(folder, MIND, "0002", since=time.time() - 15 * 86400)
    async with running(engine("0002"), tmp_path, **OFFERS) as app:
        assert app.engines[MIND].status().active_lora == "0001"
    assert loras.active(folder, MIND) == "0001"
    assert "refuses" in str(loras.show(folder, "0002").retired)


async def test_no_lesson_while_it_is_undecided(running: Running, tmp_path: Path) -> None:
    two_versions(tmp_path)
    async with running(engine(), tmp_path, **OFFERS) as app:
        await duel(app, 2, "0002")
        result = await app.nights.start(MIND)
        assert (result.state, result.number) == ("skipped", None)
        assert "2 of 2 duels" in result.reasons[0]
        assert not app.settings.runs_dir.exists()
        await say(app, f"/claim {app.claim_code.value}")
        (refusal,) = await say(app, "/learn")
        assert "0002 still duels with 0001" in refusal.text
        assert app.summaries.sentence(result) == refusal.text
        assert "? 0002" in app.summaries.versions(MIND)
        assert (await app.versions.learn({}))["state"] == "skipped"


@pytest.mark.parametrize(("undecided", "speaks"), [("promote", "0002"), ("roll_back", "0001")])
async def test_time_is_up(running: Running, tmp_path: Path, undecided: str, speaks: str) -> None:
    folder = two_versions(tmp_path)
    challengers.challenge(folder, MIND, "0002", since=time.time() - 15 * 86400)
    learner = {**ON, "duels": {"undecided": undecided}}
    async with running(engine(), tmp_path, ask_rate=1.0, learner=learner) as app:
        assert app.engines[MIND].status().active_lora == speaks
    assert challengers.standing(folder, MIND) is None
    assert (loras.show(folder, "0002").retired is None) == (speaks == "0002")


async def passed_night(running: Running, data: Path, **changes: Any) -> None:
    """A bot that died when its night 0002 had published, before it acted on it."""
    async with running(engine(), data, **changes) as app:
        await app.database(app.store.add_run, RunRow(2, MIND, "running", 1.0, None))
    for version in ("0001", "0002"):
        publish(data, version)
    loras.set_active(data / "loras", MIND, "0001")
    (data / "runs" / "0002").mkdir(parents=True)
    verdict = {"outcome": "published", "reasons": [], "records": {"pairs": 30, "ratings": 2}}
    (data / "runs" / "0002" / lesson.VERDICT).write_text(json.dumps(verdict), "utf-8")


async def test_a_night_that_passes_the_gate_makes_a_challenger(running: Running, tmp_path: Path) -> None:
    await passed_night(running, tmp_path, **OFFERS)
    async with running(engine(), tmp_path, **OFFERS) as app:
        assert app.engines[MIND].status().active_lora == "0001"
        assert app.nights.probation.ready(MIND) == "0002"
        assert (await app.database(app.store.run, 2)).state == "published"
        assert "duels with 0001" in await app.summaries.last_verdict(MIND)


async def test_with_probation_off_published_means_active(running: Running, tmp_path: Path) -> None:
    off = {"ask_rate": 1.0}
    await passed_night(running, tmp_path, **off)
    async with running(engine(), tmp_path, **off) as app:
        assert app.engines[MIND].status().active_lora == "0002"
        assert {one.lora for one in (await offered(app, 1)).candidates} == {"0002"}
        assert "now speaks" in await app.summaries.last_verdict(MIND)


async def test_a_night_whose_lora_does_not_load_is_refused(running: Running, tmp_path: Path) -> None:
    await passed_night(running, tmp_path, **OFFERS)
    async with running(engine("0002"), tmp_path, **OFFERS) as app:
        assert (await app.database(app.store.run, 2)).state == "refused"
        assert app.nights.probation.challenger(MIND) is None


async def test_turned_off_there_are_no_more_duels(running: Running, tmp_path: Path) -> None:
    folder = two_versions(tmp_path)
    async with running(engine(), tmp_path, ask_rate=1.0) as app:
        assert {one.lora for one in (await offered(app, 1)).candidates} == {"0001"}
    assert challengers.standing(folder, MIND) is None
    assert loras.show(folder, "0002").retired is None


@pytest.mark.parametrize(("step", "speaks"), [("pointed", "0002"), ("retired", "0001")])
async def test_killed_between_two_steps(running: Running, tmp_path: Path, step: str, speaks: str) -> None:
    """What a decision had done before it was cut short is finished at the next start."""
    folder = two_versions(tmp_path)
    async with running(engine(), tmp_path, **OFFERS) as app:
        await duel(app, 3, "0002")
    if step == "pointed":
        loras.set_active(folder, MIND, "0002")
    else:
        loras.retire(folder, "0002", "lost its duels")
    async with running(engine(), tmp_path, **OFFERS) as app:
        assert app.engines[MIND].status().active_lora == speaks
        assert {one.lora for one in (await offered(app, 1)).candidates} == {speaks}
        assert app.nights.probation.challenger(MIND) is None
    assert not (folder / "challenger" / MIND).exists()


class Killed(Exception):
    """What ends the bot in the middle of a decision."""


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("winner", ["0002", "0001"])
async def test_killed_before_each_step_of_a_decision(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, winner: str, step: int
) -> None:
    """Whatever was done by then, the next start comes to the same end, and the loser never speaks alone."""
    folder = two_versions(tmp_path)
    done: list[str] = []

    def dying(name: str, does: Callable[..., None]) -> Callable[..., None]:
        def run(*arguments: Any) -> None:
            done.append(name)
            if len(done) >= step:
                raise Killed
            does(*arguments)

        return run

    async with running(engine(), tmp_path, **OFFERS) as app:
        app.nights.probation.review = lambda _mind: None
        await duel(app, 10, winner)
        with monkeypatch.context() as patched:
            patched.setattr(loras, "write_whole", dying("write", loras.write_whole))
            patched.setattr(challengers, "withdraw", dying("withdraw", challengers.withdraw))
            with pytest.raises(Killed):
                await app.nights.probation.settle(MIND)
            assert done == ["write", "withdraw"][:step]
    async with running(engine(), tmp_path, **OFFERS) as app:
        assert app.engines[MIND].status().active_lora == winner
        assert {one.lora for one in (await offered(app, 1)).candidates} == {winner}
        assert len(await app.database(app.store.offers_with, MIND, "0002")) == 10
    assert (loras.show(folder, "0002").retired is None) == (winner == "0002")
    assert loras.show(folder, "0001").retired is None
    assert not (folder / "challenger" / MIND).exists()


async def test_killed_after_the_deciding_choice_was_stored(running: Running, tmp_path: Path) -> None:
    folder = two_versions(tmp_path)
    async with running(engine(), tmp_path, **OFFERS) as app:
        app.nights.probation.review = lambda _mind: None
        await duel(app, 10, "0002")
        assert loras.active(folder, MIND) == "0001"
    async with running(engine(), tmp_path, **OFFERS) as app:
        assert app.engines[MIND].status().active_lora == "0002"


@pytest.mark.parametrize("left", ["", "{", '{"version": "0002"}', '{"version": "9", "champion": "0001", "since": 1}'])
async def test_a_broken_pointer_is_no_challenger(running: Running, tmp_path: Path, left: str) -> None:
    folder = two_versions(tmp_path)
    (folder / "challenger" / MIND).write_text(left, "utf-8")
    async with running(engine(), tmp_path, **OFFERS) as app:
        assert {one.lora for one in (await offered(app, 1)).candidates} == {"0001"}


async def test_the_owner_decides(running: Running, tmp_path: Path) -> None:
    folder = two_versions(tmp_path)
    async with running(engine(), tmp_path, **OFFERS) as app:
        assert (await app.versions.rollback({}))["active"] == "0001"
        assert loras.show(folder, "0002").retired == "rolled back by hand"
        assert (await app.versions.rollback({}))["active"] == BASE
    publish(tmp_path, "0003")
    publish(tmp_path, "0004")
    challengers.challenge(folder, MIND, "0003")
    async with running(engine(), tmp_path, **OFFERS) as app:
        assert (await app.versions.promote({"version": "0003"}))["active"] == "0003"
        assert app.nights.probation.challenger(MIND) is None
        await app.nights.probation.begin(MIND, "0004")
        assert (await app.versions.promote({"version": BASE}))["active"] == BASE
        assert {one.lora for one in (await offered(app, 1)).candidates} == {None}
    assert loras.show(folder, "0004").retired is None


async def test_forgetting_somebody_retires_the_challenger_that_learned_from_them(
    running: Running, tmp_path: Path
) -> None:
    publish(tmp_path, "0001")
    async with running(engine(), tmp_path, **OFFERS) as app:
        exchange = await offered(app, 1)
        publish(tmp_path, "0002", {"pairs": 1, "ratings": 0, "exchanges": [exchange.id]})
        loras.set_active(app.settings.loras_dir, MIND, "0001")
        await app.nights.activate(MIND)
        await app.nights.probation.begin(MIND, "0002")
        assert app.nights.probation.ready(MIND) == "0002"
        done = await app.versions.forget({"person": "memory:p"})
        assert done["retired"] == ["0002"]
        assert app.nights.probation.ready(MIND) is None
        assert app.nights.active(MIND) == "0001"
        assert not (app.settings.loras_dir / "challenger" / MIND).exists()


async def test_what_is_shown(running: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two_versions(tmp_path)
    async with running(engine(), tmp_path, **OFFERS) as app:
        await duel(app, 3, "0002")
        assert (await app.summaries.summary(MIND))["challenger"] == "3 of 3 duels won, e = 2.8, decided at 20"
        settings = app.settings
    config = tmp_path / "config.toml"
    config.write_text(f'data_dir = "{settings.data_dir}"\n[learner]\nprobation = "on"\n', "utf-8")
    main(["lora", "list", "--config", str(config)])
    shown = capsys.readouterr().out
    assert "* 0001" in shown
    assert "challenger 0002: 3 of 3 duels, e = 2.8, decided at 20" in shown


def test_without_a_running_bot(tmp_path: Path) -> None:
    folder = two_versions(tmp_path)
    standalone = Standalone(settings_for(tmp_path, learner=ON))
    assert standalone.call("rollback")["active"] == "0001"
    assert loras.show(folder, "0002").retired == "rolled back by hand"
