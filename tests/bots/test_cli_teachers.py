"""`nightschool teachers`: a line a person, with what the newest night made of them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from bots.cli import parser
from bots.settings import Settings, load
from learner.engine.base import ChatMessage
from learner.records import ShownCandidate
from learner.store.rows import Known, NewExchange, NewFeedback, NewInbound, OutboxDraft, Place, RunRow, Turn
from learner.store.store import Store

PLACE = Place("nightschool", "web", "chat")
JUDGED = {
    "teacher": "web:ann", "state": "trusted", "weight": 0.8, "noise": 0.1, "said": 12, "compared": 12,
    "agreement": 0.9, "low": 0.6, "high": 0.98, "position": 1.7, "rightly": 3, "seeded": 4,
}  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "config.toml"
    path.write_text('[model]\nengine = "scripted"\n', "utf-8")
    return load(path)


def run(settings: Settings, *options: str) -> None:
    arguments: argparse.Namespace = parser().parse_args(["teachers", *options])
    arguments.run(settings, arguments)


def offer(store: Store, name: str, at: float) -> None:
    inbound = store.receive("default", NewInbound(PLACE, name, "ann", "Message", {"text": "hi"}, at)).row
    store.begin_exchange(NewExchange(name, "default", PLACE, "ann", inbound.id, (ChatMessage("user", "hi"),), (1,), at))
    shown = [ShownCandidate(f"reply {side}", (side,), (0.0,), None, {}, 0, side) for side in (1, 2)]
    draft = OutboxDraft(f"out-{name}", PLACE, {"text": "reply"})
    store.finish_exchange(name, shown, Turn("user", "ann", "hi", None, at), at + 60, [draft], at)


def filled(settings: Settings) -> None:
    store = Store(settings.database_url)
    store.note_person(Known("nightschool", "web", "ann", "Ann", owner=False, teacher=True))
    store.claim_owner("nightschool", "web", "olga", 1.0)
    for number, (teacher, kind, value, trusted) in enumerate(
        [("ann", "choice", "1", True), ("ann", "choice", "2", True), ("olga", "choice", "tie", True),
         ("bob", "choice", "2", False), ("ann", "correction", "", True)]
    ):  # fmt: skip
        offer(store, f"e{number}", float(number))
        said = "better" if kind == "correction" else ""
        store.add_feedback(None, NewFeedback(f"e{number}", f"web:{teacher}", trusted, kind, value, said, 9.0), [])  # type: ignore[arg-type]
    store.add_run(RunRow(1, "default", "published", 1.0, 2.0, verdict={"teachers": [JUDGED]}))
    store.add_run(RunRow(2, "default", "failed", 3.0, 4.0))
    store.close()


def test_a_line_for_everybody(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    filled(settings)
    run(settings)
    ann, bob, olga = capsys.readouterr().out.splitlines()
    assert ann.startswith("Ann (web:ann): trusted; 2 choices, 0 ratings, 1 corrections; weight 0.80")
    assert "agrees 90% (60% to 98%), 3 of 4 known answers, position +1.70 (takes the first" in ann
    assert bob == "web:bob: untrusted; 1 choices, 0 ratings, 0 corrections; no night has weighed them yet"
    assert olga.startswith("web:olga: owner; 1 choices")


def test_the_same_as_json(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    filled(settings)
    run(settings, "--json")
    [line] = capsys.readouterr().out.splitlines()
    ann, bob, olga = json.loads(line)
    assert {key: ann[key] for key in ("weight", "agreement", "low", "high", "position")} == {
        key: JUDGED[key] for key in ("weight", "agreement", "low", "high", "position")
    }
    assert [one["state"] for one in (ann, bob, olga)] == ["trusted", "untrusted", "owner"]


def test_when_nobody_said_anything(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    run(settings)
    assert "nobody has said anything" in capsys.readouterr().out
