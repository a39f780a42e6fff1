"""The real bot behind the real page in a real browser: chat, an offer, a pick, a rating, a correction, a reload."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from learner.store.store import Store
from tests.browsers import MARKS, Page, new_browser

ROOT = Path(__file__).resolve().parents[2]
pytestmark = MARKS
CONFIG = """
ask_rate = {ask_rate}
language = "en"
[learner]
enabled = false
[[bots]]
name = "tester"
adapters = ["web"]
{personas}
[adapters.web]
port = 0
"""
PERSONAS = """
[bots.persona]
greeting = "Good evening."
[[bots.personas]]
name = "Grump"
profile = "You are never pleased."
greeting = "What is it now?"
"""


@pytest.fixture
def page(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page of a bot in a process of its own."""
    config = tmp_path / "config.toml"
    ask_rate, personas = request.param if isinstance(request.param, tuple) else (request.param, "")
    config.write_text(CONFIG.format(ask_rate=ask_rate, personas=personas), "utf-8")
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "kill_target.py"), str(config), "0.01"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    browser = new_browser(tmp_path / "chromium", "en-US")
    try:
        page = Page(browser, None, process.stdout.readline().strip(), name="tester")
        page.open()
        yield page
    finally:
        browser.quit()
        process.terminate()
        process.wait()
        process.stdout.close()


def records(tmp_path: Path) -> tuple[list[str], list[bool], list[str]]:
    """Chosen texts of choices, ratings, corrections: as the learner will read them."""
    store = Store(f"sqlite:///{tmp_path / 'data' / 'nightschool.db'}")
    derived = store.records("default")
    store.close()
    choices = [pair.chosen for pair in derived.pairs if pair.source == "choice"]
    corrections = [pair.chosen for pair in derived.pairs if pair.source == "correction"]
    return choices, [one.desirable for one in derived.ratings], corrections


@pytest.mark.parametrize("page", [1.0], indirect=True)
def test_an_offer_survives_a_reload_and_is_picked_by_click_and_by_word(page: Page, tmp_path: Path) -> None:
    page.say("hello there")
    page.wait(lambda: page.count(".offer.open .card.pickable") == 2)
    page.shot("real-offer")
    page.open()
    page.wait(lambda: page.count(".offer.open .card.pickable") == 2)
    second = page.texts(".card.pickable .words")[1]
    page.all(".card.pickable .words")[1].click()
    page.wait(lambda: page.texts(".card.chosen .words") == [second])
    assert records(tmp_path)[0] == [second]
    page.say("and again")
    page.wait(lambda: page.count(".offer.open .card.pickable") == 2)
    first = page.texts(".offer.open .card.pickable .words")[0]
    page.say("1")
    page.wait(lambda: page.texts(".card.chosen .words") == [second, first])
    assert records(tmp_path)[0] == [second, first]
    page.shot("real-picked")


@pytest.mark.parametrize("page", [1.0], indirect=True)
@pytest.mark.parametrize("verdict", ["tie", "both_bad"])
def test_neither_reply_is_shown_as_picked_when_neither_was(page: Page, verdict: str) -> None:
    page.say("hello there")
    page.wait(lambda: page.count(".offer.open .card.pickable") == 2)
    page.click(f"[data-act={verdict}]")
    page.wait(lambda: page.count(f"[data-act={verdict}][aria-pressed=true]"))
    assert page.count(".card.chosen") == 0
    page.open()
    page.wait(lambda: page.count(f"[data-act={verdict}][aria-pressed=true]"))
    assert page.count(".card.chosen") == 0
    page.shot(f"real-{verdict}")


@pytest.mark.parametrize("page", [1.0], indirect=True)
def test_a_correction_after_a_pick_stands_above_both(page: Page, tmp_path: Path) -> None:
    page.say("hello there")
    page.wait(lambda: page.count(".offer.open .card.pickable") == 2)
    page.all(".card.pickable .words")[1].click()
    page.wait(lambda: page.count(".card.chosen"))
    page.click(".mark.correct, .mark.correction")
    page.wait(lambda: page.count(".editor textarea"))
    page.all(".editor textarea")[0].send_keys(" and better")
    page.click("[data-act=save]")
    page.wait(lambda: page.count(".corrected"))
    assert (page.count(".card.chosen"), page.count(".card.faded")) == (0, 2)
    page.open()
    page.wait(lambda: page.count(".corrected"))
    assert (page.count(".card.chosen"), page.count(".card.faded")) == (0, 2)


@pytest.mark.parametrize("page", [0.0], indirect=True)
def test_a_reply_is_rated_taken_back_and_corrected(page: Page, tmp_path: Path) -> None:
    page.say("hello there")
    page.click(".mark.good")
    page.wait(lambda: records(tmp_path)[1] == [True])
    page.wait(lambda: page.count(".mark.good[aria-pressed=true]"))
    page.click(".mark.good")
    page.wait(lambda: records(tmp_path)[1] == [])
    page.click(".mark.correct, .mark.correction")
    page.wait(lambda: page.count(".editor textarea"))
    page.all(".editor textarea")[0].send_keys(" and better")
    page.click("[data-act=save]")
    page.wait(lambda: page.count(".corrected"))
    page.wait(lambda: [words.endswith(" and better") for words in records(tmp_path)[2]] == [True])
    page.shot("real-corrected")


@pytest.mark.parametrize("page", [(0.0, PERSONAS)], indirect=True)
def test_the_bot_speaks_first_and_another_persona_does(page: Page, tmp_path: Path) -> None:
    page.wait(lambda: page.texts(".bubble") == ["Good evening."])
    page.open()  # it is stored, and said once
    page.wait(lambda: page.texts(".bubble") == ["Good evening."])
    page.say("hello")
    page.wait(lambda: page.count(".marks") == 1)
    page.choose("#persona", "Grump")
    page.wait(lambda: page.texts(".bubble.theirs")[-1] == "What is it now?")
    page.say("nothing")
    page.wait(lambda: page.count(".marks") == 2)
    page.open()
    page.wait(lambda: page.value("#persona") == "Grump" and page.count(".bubble") == 7)
    page.shot("real-personas")
    assert prompts(tmp_path) == [
        ["Good evening.", "hello"],
        ["You are Grump. You are never pleased.", "What is it now?", "nothing"],
    ]


def prompts(tmp_path: Path) -> list[list[str]]:
    """What the model was given, exchange by exchange."""
    with sqlite3.connect(tmp_path / "data" / "nightschool.db") as database:
        rows = database.execute("SELECT prompt FROM exchanges ORDER BY seq").fetchall()
    database.close()
    return [[message["content"] for message in json.loads(row[0])] for row in rows]
