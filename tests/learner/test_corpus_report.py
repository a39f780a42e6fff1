"""The report of an import: its figures, kept beside the corpus, as text and as a page."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.corpus import picture
from learner.corpus.cleaning import bare
from learner.corpus.clock import months_and_hours, seconds_of, unix_time, zone_of
from learner.corpus.digests import Counts
from learner.corpus.readers import Reading
from learner.corpus.report import Fault, Report, ReportMissing, Source, beside, load, save
from tests.learner.corpus_samples import HOUR, MINUTE, NOON, Wrote, imported, memotrace

REPORT = Report(
    sources=(Source("<m>.csv", "memotrace", 9),), read=9, kept=6, dropped=3, reasons={"malformed": 2, "image": 1},
    faults=(Fault("<m>.csv", 3, "2 fields"),), dialogues=2, replies=3, masked={"phone": 1}, months={"2024-05": 6},
    hours=(0,) * 23 + (3,), lengths=(0, 3, 0, 0, 0, 0, 0, 0, 0), chats=(4, 2),
)  # fmt: skip


def test_a_report_comes_back_and_draws_all_it_knows(tmp_path: Path) -> None:
    output = tmp_path / "corpus.jsonl"
    save(REPORT, output)
    assert load(output) == load(beside(output)) == REPORT
    text = picture.text(REPORT, "corpus.jsonl")
    for part in ("9 rows read = 6 kept + 3 dropped", "and 1 more", "phone numbers", "2024-05", "image"):
        assert part in text
    page = picture.page(REPORT, "corpus.jsonl")
    assert "&lt;m&gt;.csv" in page
    assert page.count("<figure>") == 4
    assert page.count("<rect") == 1 + 2 + 24 + 9
    assert "<script" not in page
    assert "http" not in page


def test_an_empty_report_can_be_drawn() -> None:
    assert "nothing was kept" in picture.text(Report(), "x")
    assert "<section>" in picture.page(Report(), "x")


def test_a_report_that_is_none_says_so(tmp_path: Path) -> None:
    with pytest.raises(ReportMissing, match=r"x\.report\.json is missing"):
        load(tmp_path / "x")
    for text in ("{", "[]", '{"sources": [], "faults": [], "colour": 1}'):
        beside(tmp_path / "x").write_text(text)
        with pytest.raises(ReportMissing, match="not the report"):
            load(tmp_path / "x")


def test_figures_are_of_the_zone_and_name_nobody(tmp_path: Path) -> None:
    said = [
        Wrote("ann", "ann", "夜里好", NOON + 8 * HOUR),  # 04:00 of the next day in Shanghai
        Wrote("ann", "me", "还没睡", NOON + 8 * HOUR + MINUTE),
        Wrote("bob", "bob", "早", NOON),
        Wrote("bob", "me", "早", NOON + 5),
        Wrote("bob", "bob", "?", NOON + 9),
        Wrote("bob", "me", "!", NOON + 12),
    ]
    report, _ = imported(memotrace(tmp_path / "m.csv", said), reading=Reading(zone=ZoneInfo("Asia/Shanghai")))
    assert report.chats == (4, 2)
    assert {hour: count for hour, count in enumerate(report.hours) if count} == {4: 1, 20: 2}
    assert report.lengths[:3] == (2, 1, 0)
    assert sum(report.months.values()) == 6
    assert "ann" not in repr(report)


@pytest.mark.parametrize(
    ("written", "zone", "at"),
    [
        ("2024-10-04 11:42:05", "Asia/Shanghai", 1728013325),
        ("2024/10/4 11:42", "Asia/Shanghai", 1728013320),
        ("2024-10-04T03:42:05Z", "Asia/Shanghai", 1728013325),
        ("2024-10-04 03:42:05+00:00", "", 1728013325),
        ("1728013325", "", 1728013325),
        ("1728013325000", "", 1728013325),
        ("2024-13-04 11:42:05", "UTC", None),
        ("yesterday", "UTC", None),
        ("", "UTC", None),
    ],
)
def test_written_times(written: str, zone: str, at: int | None) -> None:
    assert unix_time(written, zone_of(zone)) == at


def test_lengths_of_time_and_zones() -> None:
    assert [seconds_of(length) for length in ("90", "90s", "1.5h", "2 d", "30m")] == [90, 90, 5400, 172800, 1800]
    for wrong in ("", "h", "-1h", "1w"):
        with pytest.raises(ValueError, match="length of time"):
            seconds_of(wrong)
    with pytest.raises(ValueError, match="Asia/Shanghai"):
        zone_of("Mars/Olympus")
    with pytest.raises(ValueError, match="time zone"):
        zone_of("../etc")
    assert months_and_hours({10**13: 1}, None) == ({}, (0,) * 24)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(max_size=3), max_size=300))
def test_counts_are_those_of_a_counter(texts: list[str]) -> None:
    counts, known = Counts(), Counter[str]()
    for text in texts:
        known[text] += 1
        assert counts.add(text) == known[text]


def test_counts_grow() -> None:
    counts = Counts()
    assert all(counts.add(str(number)) == 1 for number in range(5000))
    assert all(counts.add(str(number)) == 2 for number in range(5000))


def test_replies_are_alike_however_they_are_punctuated() -> None:
    assert bare("好的！") == bare(" 好 的。") == "好的"
    assert bare("OK") == bare("ｏｋ~")
    assert bare("？？") != bare("！")
