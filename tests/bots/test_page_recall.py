"""The page shows under a reply what it went by, folded, and still after a reload: the real bot in a real browser."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bots.conversations import HISTORY_LIMIT
from learner.store import history
from learner.store.rows import Place, Turn
from learner.store.store import Store
from tests.browsers import MARKS, Page, new_browser

ROOT = Path(__file__).resolve().parents[2]
pytestmark = MARKS
PLACE = Place("tester", "web", "main")
CONFIG = """
ask_rate = {ask_rate}
language = "en"
[recall]
enabled = "on"
[learner]
enabled = false
[[bots]]
name = "tester"
adapters = ["web"]
[adapters.web]
port = 0
"""


def remember(data: Path) -> None:
    """A chat that heard two facts long ago."""
    store = Store(f"sqlite:///{data / 'nightschool.db'}")
    facts = ["my cat is called Mandarin and hates <b>Mondays</b>", "Mandarin 这只 cat 五月满三岁"]
    with store._database.write() as c:
        for text in [*facts, *(f"idle talk {number}" for number in range(HISTORY_LIMIT + 8))]:
            history.add(c, "default", PLACE, Turn("user", "local", text, None, 1_700_000_000.0))
    store.close()


@pytest.fixture
def page(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page of a bot in a process of its own."""
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(ask_rate=request.param), "utf-8")
    remember(tmp_path / "data")
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


@pytest.mark.parametrize("page", [0.0, 1.0], indirect=True)
def test_a_reply_shows_what_it_went_by_and_does_so_after_a_reload(page: Page) -> None:
    page.say("hello there")
    page.wait(lambda: page.count(".turn.bot") == 1)
    page.say("what does my cat Mandarin hate?")
    page.wait(lambda: page.texts(".recalled summary") == ["2 memories used"])
    assert page.count(".recalled[open]") == 0
    page.click(".recalled summary")
    page.wait(lambda: page.count(".recalled[open] li") == 2)
    assert page.texts(".recalled li span[dir]") == [
        "my cat is called Mandarin and hates <b>Mondays</b>",
        "Mandarin 这只 cat 五月满三岁",
    ]
    page.shot("recalled")
    page.open()
    page.wait(lambda: page.texts(".recalled summary") == ["2 memories used"])
    page.phone()
    page.click(".recalled summary")
    page.wait(lambda: page.count(".recalled[open] li") == 2)
    page.shot("recalled-phone")


@pytest.mark.parametrize("page", [0.0], indirect=True)
def test_a_press_leaves_the_memories_unfolded(page: Page) -> None:
    page.say("what does my cat Mandarin hate?")
    page.click(".recalled summary")
    page.wait(lambda: page.count(".recalled[open]"))
    page.click(".mark.good")
    page.wait(lambda: page.count(".mark.good[aria-pressed=true]"))
    assert page.count(".recalled[open]") == 1
