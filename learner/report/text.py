"""A report as plain text, for a terminal. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from learner.report.model import Report
from learner.report.sections import Bars, Chart, Exchanged, Item, Line, Section, Table, sections, title
from learner.report.wording import Say, rounded

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 40  # of a curve


def render(report: Report, say: Say) -> str:
    """The whole report."""
    return page(title(report, say), sections(report, say))


def page(headline: str, shown: Sequence[Section]) -> str:
    """`shown` under a headline."""
    parts = ["\n".join(_section(section)) for section in shown]
    return "\n\n".join([f"{headline}\n{'=' * _width(headline)}", *parts]) + "\n"


def curve(values: Sequence[float | None]) -> str:
    """Values as a row of bars with the first and the last; a long one is thinned."""
    known = [value for value in values if value is not None]
    if not known:
        return "—"
    low, high = min(known), max(known)
    shown = values if len(values) <= WIDTH else [values[i * (len(values) - 1) // (WIDTH - 1)] for i in range(WIDTH)]
    span = (high - low) or 1.0
    bars = "".join(" " if one is None else BARS[round((one - low) / span * (len(BARS) - 1))] for one in shown)
    return f"{bars}  {rounded(known[0], 3)} → {rounded(known[-1], 3)}"


def _section(section: Section) -> Iterator[str]:
    yield section.title
    yield "-" * _width(section.title)
    for item in section.items:
        yield from _item(item)


def _item(item: Item) -> Iterator[str]:
    match item:
        case Line(text):
            yield _plain(text)
        case Table():
            yield from _table(item)
        case Chart(name, values):
            yield f"  {name}  {curve(values)}"
        case Bars(name, names, counts):
            yield f"  {_plain(name)}"
            yield from _bars(names, counts)
        case Exchanged(prompt, replies):
            yield f"» {_plain(prompt)}"
            yield from (f"    {who}: {_plain(text)}" for who, text in replies)


def _table(table: Table) -> Iterator[str]:
    lines = [table.head, *table.rows] if table.head else list(table.rows)
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)]
        yield ("  " + "  ".join(cells)).rstrip()


def _bars(names: Sequence[str], counts: Sequence[int]) -> Iterator[str]:
    most, wide = max(counts, default=0) or 1, max(map(_width, names), default=0)
    for name, count in zip(names, counts, strict=True):
        bar = "█" * round(count / most * WIDTH) or ("▏" if count else "")
        yield f"    {' ' * (wide - _width(name))}{_plain(name)}  {bar} {count:,}".rstrip()


def _width(text: str) -> int:
    """How many columns of a terminal `text` takes: a Chinese character has two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _plain(text: str) -> str:
    """`text` without what would steer a terminal."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)
