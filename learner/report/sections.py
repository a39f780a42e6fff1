"""A report as sections of facts, tables, curves and samples, in the reader's words. Pure.

Knows nothing of how a section is drawn; the words are passed in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from learner.report.model import Report, Stood
from learner.report.wording import Say, bounds, figure, reason_of, words_for

MEGABYTE = 2**20


@dataclass(frozen=True)
class Line:
    """A sentence."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows of cells under a head, which may be empty; `marks` says of each row whether it holds, None: no matter."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marks: tuple[bool | None, ...] = ()


@dataclass(frozen=True)
class Chart:
    """Values step by step; None where there was none."""

    title: str
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Bars:
    """A count for each name."""

    title: str
    names: tuple[str, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Exchanged:
    """A prompt and the two replies to it, each with who gave it."""

    prompt: str
    replies: tuple[tuple[str, str], ...]


Item = Line | Table | Chart | Bars | Exchanged


@dataclass(frozen=True)
class Section:
    """A part of the report; it has something to show."""

    title: str
    items: tuple[Item, ...]


def title(report: Report, say: Say) -> str:
    """The report's headline."""
    return say("report_title", number=f"{report.number:04d}", mind=report.mind)


def sections(report: Report, say: Say) -> list[Section]:
    """All parts that have something to show, in the order that they are read."""
    parts: dict[str, Callable[[Report, Say], Iterator[Item]]] = {
        "outcome": _outcome,
        "learned": _learned,
        "left_out": _left_out,
        "reward": _reward,
        "curves": _curves,
        "tried": _tried,
        "gate": _gate,
        "samples": _samples,
        "cost": _cost,
    }
    found = ((name, tuple(part(report, say))) for name, part in parts.items())
    return [Section(say(f"report_{name}"), items) for name, items in found if items]


def _outcome(report: Report, say: Say) -> Iterator[Item]:
    yield Line(say("report_began", at=time.strftime("%Y-%m-%d %H:%M", time.localtime(report.started_at))))
    yield Line(words_for(say, "report_state_", report.state))
    failed = [one for one in report.checks if not one.held]
    for one in failed:
        yield Line("– " + reason_of(one, say))
    for reason in report.reasons[len(failed) :]:  # what is no figure of the gate has no other words
        yield Line("– " + reason)
    if not report.recorded:
        yield Line(say("report_unrecorded"))


def _learned(report: Report, say: Say) -> Iterator[Item]:
    rows = [(words_for(say, "report_count_", name), str(count)) for name, count in report.counts.items()]
    rows += [(say("report_imported", source=source), str(count)) for source, count in report.imported.items()]
    if rows:
        yield Table((), tuple(rows))


def _left_out(report: Report, say: Say) -> Iterator[Item]:
    rows = tuple((words_for(say, "report_why_", reason), str(count)) for reason, count in report.left_out.items())
    if rows:
        yield Table((), rows)
    elif report.recorded:
        yield Line(say("report_nothing_left_out"))


def _reward(report: Report, say: Say) -> Iterator[Item]:
    known = report.reward
    if known is not None:
        gain, error = f"{known['gain']:.3f}", f"{known['error']:.3f}"
        yield Line(say("report_reward_found", penalty=f"{known['penalty']:g}", gain=gain, error=error))
    elif report.reward_sought:
        yield Line(say("report_reward_none"))


def _curves(report: Report, say: Say) -> Iterator[Item]:
    for one in report.rounds:
        if one.losses:
            named = {"number": one.number, "rate": f"{one.learning_rate:g}", "drawn": one.drawn}
            yield Line(say("report_round", **named))
            yield Chart(say("report_loss"), one.losses)
            yield Chart(say("report_margin"), one.margins)


def _tried(report: Report, say: Say) -> Iterator[Item]:
    if report.tried:
        head = tuple(say(f"report_tried_{name}") for name in ("rate", "share", "canaries", "sampled", "held"))
        rows = tuple(
            (
                f"{one.learning_rate:g}",
                f"{one.share:.0%}",
                f"{one.canaries:.1%}",
                "" if one.sampled is None else f"{one.sampled:.1%}",
                _held(one.holds, say),
            )
            for one in report.tried
        )
        yield Table(head, rows, tuple(one.holds for one in report.tried))


def _gate(report: Report, say: Say) -> Iterator[Item]:
    if report.checks:
        head = tuple(say(f"report_gate_{name}") for name in ("figure", "value", "bound", "held"))
        rows = tuple(_checked(one, say) for one in report.checks)
        yield Table(head, rows, tuple(one.held for one in report.checks))
    elif report.figures:
        yield Table((), tuple((name, f"{value:.4g}") for name, value in report.figures.items()))


def _checked(one: Stood, say: Say) -> tuple[str, ...]:
    name = words_for(say, "report_check_", one.kind)
    return name, figure(one.kind, one.value), bounds(one, say), _held(one.held, say)


def _samples(report: Report, say: Say) -> Iterator[Item]:
    before, after = say(f"report_before_{report.before}"), say("report_after")
    for one in report.samples:
        yield Exchanged(one.prompt, ((before, one.before), (after, one.after)))


def _cost(report: Report, say: Say) -> Iterator[Item]:
    rows = [(words_for(say, "report_phase_", name), f"{seconds:.1f} s") for name, seconds in report.seconds.items()]
    if report.total_seconds is not None:
        rows.append((say("report_total"), f"{report.total_seconds:.1f} s"))
    if report.peak_bytes is not None:
        rows.append((say("report_peak"), f"{report.peak_bytes / MEGABYTE:.0f} MiB"))
    if rows:
        yield Table((), tuple(rows))


def _held(held: bool, say: Say) -> str:
    return say("report_yes" if held else "report_no")
