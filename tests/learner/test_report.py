"""The report of a night: what it holds, as text and as a page, and what it says of nights that left little."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from report_samples import HOSTILE, ended, recorded

from learner.report import html, text
from learner.report.model import Report, build
from learner.report.wording import Say


def bare(key: str, **values: object) -> str:
    """Words that show their name and what they were given."""
    return " ".join([key, *(f"{name}={value}" for name, value in values.items())])


def as_text(report: Report, say: Say = bare) -> str:
    return text.render(report, say)


def as_page(report: Report, say: Say = bare) -> str:
    return html.render(report, say, "en")


class Page(HTMLParser):
    """The tags and words of a page; void tags aside, every tag must be closed in its order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta",):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, words: str) -> None:
        self.words += words


FIGURES = [
    "report_count_choice", "40", "report_count_correction", "report_count_retry", "report_count_both_bad",
    "report_count_ties", "report_count_cut_prompts", "report_count_rested",  # what was learned from
    "report_why_untrusted", "report_why_duplicate",  # what was left out
    "penalty=0.3", "gain=0.214", "error=0.041",  # the reward
    "9.500 → 7.125", "0.000 → 0.875", "7.000 → 6.500", "0.900 → 1.500",  # curves
    "65%", "95.5%",  # walked back
    "report_check_canary_anchor", "report_at_least bound=94.0%", "0.013", "report_at_least bound=0.021",
    "4.8 – 30.0", "11.5",  # the gate
    "report_before_champion", "Gladly!",  # samples
    "report_phase_training", "200.5 s", "321.4 s", "3072 MiB",  # cost
    "report_state_refused", "why_gain",  # how it ended
]  # fmt: skip


def test_text_holds_every_figure() -> None:
    shown = as_text(build(ended(), recorded()))
    assert [figure for figure in FIGURES if figure not in shown] == []
    assert HOSTILE in shown


def test_the_page_holds_every_figure_and_escapes_what_people_wrote() -> None:
    shown = as_page(build(ended(), recorded()))
    page = Page(shown)
    assert [figure for figure in FIGURES if figure not in page.words] == []
    assert HOSTILE in page.words
    assert not {"script", "b", "link", "img", "iframe"} & set(page.tags)
    assert page.tags.count("svg") == 4
    assert not re.search(r"https?:|url\(|@import|\bon\w+=", shown)


def test_a_curve_spans_its_frame_and_leaves_steps_without_a_value_out() -> None:
    [points] = re.findall(r'<polyline points="([^"]+)"', as_page(build(ended(), recorded(rounds=[
        {"learning_rate": 0.1, "number": 1, "drawn": 0, "losses": [2.0, None, 1.0], "margins": []},
    ]))))  # fmt: skip
    xs, ys = zip(*(map(float, point.split(",")) for point in points.split()), strict=True)
    assert len(xs) == 2
    assert (xs[0], xs[-1]) == (html.LEFT, html.WIDTH - html.EDGE)
    assert ys[0] < ys[1]  # a higher value stands higher


@pytest.mark.parametrize("values", [(), (None,), (1.0,), (1.0, 1.0), tuple(map(float, range(500)))])
def test_curves_of_any_length_are_drawn(values: tuple[float | None, ...]) -> None:
    drawn = text.curve(values)
    assert len(drawn.split("  ")[0]) <= text.WIDTH
    rounds = [{"learning_rate": 0.1, "number": 1, "drawn": 0, "losses": [1.0], "margins": values}]
    Page(as_page(build(ended(), recorded(rounds=rounds))))


def test_a_night_from_before_says_so_and_shows_its_verdict() -> None:
    old = {name: value for name, value in ended().verdict.items() if name != "checks"}
    for render in (as_text, as_page):
        shown = render(build(type(ended())(3, "default", "refused", 0.0, old), None))
        assert "report_unrecorded" in shown
        assert "46" in shown
        assert "kl_per_token" in shown
        assert "preferences: log-loss 0.680" in shown
        assert "report_curves" not in shown
        assert "report_samples" not in shown


def test_a_failed_night_shows_how_far_it_got() -> None:
    failed = type(ended())(12, "default", "failed", 0.0, {"reasons": ["it was interrupted"]})
    got = {name: recorded()[name] for name in ("learned", "rounds", "seconds", "peak_bytes")}
    shown = as_text(build(failed, got))
    assert "report_state_failed" in shown
    assert "it was interrupted" in shown
    assert "9.500 → 7.125" in shown
    assert "report_gate" not in shown
    assert "report_unrecorded" not in shown


def test_no_reward_is_told_from_not_having_got_there() -> None:
    without = {name: value for name, value in recorded().items() if name != "reward"}
    assert "report_reward_none" in as_text(build(ended(), {**without, "reward": None}))
    assert "report_reward" not in as_text(build(ended(), without))


def test_text_for_a_terminal_steers_none() -> None:
    steering = {"before": "anchor", "rows": [{"prompt": "a\x1b[2Jb", "before": "\r", "after": "\x07"}]}
    shown = as_text(build(ended(), recorded(samples=steering)))
    assert not {"\x1b", "\r", "\x07"} & set(shown)
    assert "a�[2Jb" in shown
