"""The report of a corpus as text and as one HTML page, drawn like a night's report. Pure.

Knows nothing of how the corpus was made.
"""

from __future__ import annotations

from collections.abc import Iterator

from learner.corpus.media import LABELS
from learner.corpus.report import LENGTHS, Report
from learner.report import html
from learner.report import text as plain
from learner.report.sections import Bars, Item, Line, Section, Table

WHY = {
    "malformed": "malformed: not what the format says",
    "empty": "empty",
    "duplicate": "said before, or exported twice",
    "system message": "a message of the platform",
    "unanswered": "nobody answered it in time",
    "answers nothing": "an opening that nobody answered, or that answers what is not there",
    "late reply": "came too late to be a reply, and nothing learned followed",
    "said too often": "the same reply again (--cap)",
    "forwarded": "forwarded: not one's own words",
    "not said to me": "group: said to others",
    "answers nobody surely": "group: not clear whom it answers",
    "no words": "a reply of nothing but media",
}
MASKED = {
    "mail": "e-mail addresses",
    "id_card": "identity cards",
    "bank_card": "bank cards",
    "phone": "phone numbers",
    "address": "addresses",
}
LARGEST = 20  # chats that are shown


def text(report: Report, name: str) -> str:
    """For a terminal."""
    return plain.page(_title(name), list(sections(report)))


def page(report: Report, name: str) -> str:
    """One HTML page that needs nothing else."""
    return html.page(_title(name), list(sections(report)), "en")


def sections(report: Report) -> Iterator[Section]:
    """All parts that have something to show, in the order that they are read."""
    yield Section("Read", tuple(_read(report)))
    parts = (("Dropped", _dropped), ("Malformed rows", _faults), ("Masked", _masked), ("What it looks like", _figures))
    for title, part in parts:
        items = tuple(part(report))
        if items:
            yield Section(title, items)


def _title(name: str) -> str:
    return f"Corpus {name}"


def _read(report: Report) -> Iterator[Item]:
    rows = tuple((source.name, source.format, f"{source.rows:,}") for source in report.sources)
    yield Table(("file", "format", "rows"), rows)
    yield Line(f"{report.read:,} rows read = {report.kept:,} kept + {report.dropped:,} dropped")
    made = [(report.dialogues, "dialogues"), (report.replies, "replies to learn"), (report.texts, "plain texts")]
    yield Line(", ".join(f"{count:,} {what}" for count, what in made if count) or "nothing was kept")


def _dropped(report: Report) -> Iterator[Item]:
    if report.reasons:
        yield Table((), tuple((_why(reason), f"{count:,}") for reason, count in report.reasons.items()))


def _why(reason: str) -> str:
    return f"no text: {LABELS[reason][1]}" if reason in LABELS else WHY.get(reason, reason)


def _faults(report: Report) -> Iterator[Item]:
    if report.faults:
        rows = tuple((one.file, str(one.line), one.detail) for one in report.faults)
        yield Table(("file", "line", "what is wrong"), rows)
        more = report.reasons.get("malformed", 0) - len(report.faults)
        if more > 0:
            yield Line(f"and {more:,} more")


def _masked(report: Report) -> Iterator[Item]:
    if report.masked:
        yield Table((), tuple((MASKED.get(kind, kind), f"{count:,}") for kind, count in report.masked.items()))


def _figures(report: Report) -> Iterator[Item]:
    if report.months:
        yield Bars("messages kept, by month", tuple(report.months), tuple(report.months.values()))
    if report.chats:
        shown = report.chats[:LARGEST]
        names = tuple(str(number) for number in range(1, len(shown) + 1))
        yield Bars(f"messages kept, by chat: the {len(shown)} largest of {len(report.chats):,}", names, shown)
    if report.hours:
        yield Bars("replies, by hour of the day", tuple(str(hour) for hour in range(24)), report.hours)
    if sum(report.lengths):
        ends = (*(str(following - 1) for following in LENGTHS[1:]), "")
        names = tuple(
            f"{least}+" if not end else str(least) if end == str(least) else f"{least}–{end}"
            for least, end in zip(LENGTHS, ends, strict=True)
        )
        yield Bars("replies, by length in letters", names, report.lengths)
