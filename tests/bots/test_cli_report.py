"""`nightschool report`: the newest night or a named one, in the bot's language, as text, page or JSON."""

from __future__ import annotations

import json
import shutil
import string
from pathlib import Path

import pytest

from bots.cli import main
from bots.phrases import LANGUAGES, phrases
from learner.store.rows import RunRow
from learner.store.store import Store

RECORDED = {
    "learned": {
        "pairs": 2, "ratings": 0, "sources": {"choice": 2}, "good": 0, "ties": 1, "people": 1,
        "left_out": {"untrusted": 4},
    },
    "rounds": [{"learning_rate": 0.002, "number": 1, "drawn": 0, "losses": [3.25, 2.5], "margins": [0.0, 0.75]}],
    "samples": {"before": "anchor", "rows": [{"prompt": "<script>x</script>", "before": "早", "after": "早安"}]},
    "seconds": {"load": 1.5},
    "peak_bytes": 2**30,
}  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A data folder of two nights, the newer one of which recorded itself."""
    data = tmp_path / "data"
    (data / "runs" / "0012").mkdir(parents=True)
    (data / "runs" / "0012" / "report.json").write_text(json.dumps(RECORDED), "utf-8")
    verdict = {"records": {"pairs": 2, "ratings": 0}, "reasons": []}
    store = Store(f"sqlite:///{data / 'nightschool.db'}")
    store.add_run(RunRow(11, "default", "refused", 1.0, 2.0, verdict={**verdict, "reasons": ["KL 2.00 nats"]}))
    store.add_run(RunRow(12, "default", "published", 3.0, 4.0, verdict=verdict))
    store.close()
    return tmp_path


def asked(home: Path, *arguments: str, language: str = "en") -> int:
    """Run the command on `home`."""
    config = home / "config.toml"
    config.write_text(f'language = "{language}"\n[model]\nengine = "scripted"\n', "utf-8")
    return main(["report", *arguments, "--config", str(config)])


def test_the_newest_night_in_both_languages(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(home) == 0
    english = capsys.readouterr().out
    assert asked(home, language="zh") == 0
    chinese = capsys.readouterr().out
    for told in (english, chinese):
        assert "0012" in told
        assert "3.250 → 2.500" in told
        assert "早安" in told
    assert "Passed: the new version speaks." in english
    assert "feedback does not train" in english
    assert "通过：新版本已经上场。" in chinese


def test_a_page_is_written(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(home, "0012", "--html", str(home / "night.html"), language="zh") == 0
    assert capsys.readouterr().out.strip() == str(home / "night.html")
    page = (home / "night.html").read_text("utf-8")
    assert '<html lang="zh">' in page
    assert "&lt;script&gt;x&lt;/script&gt;" in page
    assert "<script" not in page


def test_json_is_one_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(home, "--json") == 0
    [line] = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert (told["number"], told["state"], told["left_out"]) == (12, "published", {"untrusted": 4})
    assert told["rounds"][0]["margins"] == [0.0, 0.75]


def test_a_night_that_recorded_nothing_has_its_verdict(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(home, "0011") == 0
    told = capsys.readouterr().out
    assert "left no record" in told
    assert "KL 2.00 nats" in told
    shutil.rmtree(home / "data" / "runs")  # as forgetting does
    assert asked(home) == 0
    told = capsys.readouterr().out
    assert "left no record" in told
    assert "早安" not in told


def test_there_is_no_such_night(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(home, "0099") == 1
    assert "no night 0099" in capsys.readouterr().out
    assert asked(home, "--mind", "other") == 1
    assert "no night yet of mind other" in capsys.readouterr().out


def test_both_languages_have_the_same_words_with_the_same_values() -> None:
    zh, en = (phrases(language).sentences for language in LANGUAGES)
    assert set(zh) == set(en)
    named = string.Formatter()
    for key in en:
        if key.startswith("report_"):
            assert {part[1] for part in named.parse(zh[key])} == {part[1] for part in named.parse(en[key])}, key
