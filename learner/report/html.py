"""A report as one HTML page that needs nothing else: no scripts, no fonts, no network. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from learner.report.model import Report
from learner.report.sections import Bars, Chart, Exchanged, Item, Line, Section, Table, sections, title
from learner.report.wording import Say, rounded

WIDTH, HEIGHT, EDGE = 320, 110, 6
BELOW, LETTER = 14, 7  # under bars: the height of their names, the width of a letter
LEFT, TOP = 48, 8  # where a curve begins: its highest and lowest value stand beside it
STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --soft: #5d6778; --paper: #f6f7f9; --card: #fff; --line: #dde1e8;
  --curve: #3b6fd4; --good: #1c7c4a; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #9aa4b5; --paper: #14171c; --card: #1d2128;
  --line: #323844; --curve: #7ea6f7; --good: #63c793; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 52rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, "PingFang SC", "Noto Sans CJK SC", sans-serif; }
h1 { font-size: 1.5rem; margin: .5rem 0 1rem; }
h2 { font-size: 1.05rem; margin: 0 0 .6rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem;
  margin: 0 0 1rem; overflow-wrap: anywhere; }
p { margin: .3rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: start; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: break-word; }
th { color: var(--soft); font-weight: 500; font-size: .85rem; }
tr:last-child td { border-bottom: 0; }
td + td { font-variant-numeric: tabular-nums; }
.good td:last-child, .bad td:last-child { white-space: nowrap; }
.good td:last-child { color: var(--good); }
.bad td:last-child { color: var(--bad); font-weight: 600; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(14rem, 1fr)); gap: .8rem;
  margin: .4rem 0 1rem; }
figure { margin: 0; }
figcaption { color: var(--soft); font-size: .85rem; }
svg { display: block; width: 100%; height: auto; }
svg polyline { fill: none; stroke: var(--curve); stroke-width: 2; stroke-linejoin: round; }
svg circle { fill: var(--curve); }
svg rect { fill: var(--curve); }
svg text.below { text-anchor: middle; }
svg line { stroke: var(--line); }
svg text { fill: var(--soft); font-size: 10px; text-anchor: end; }
article { padding: .6rem 0; border-top: 1px solid var(--line); }
article:first-of-type { border-top: 0; padding-top: 0; }
article h3 { font-size: 1rem; margin: 0 0 .3rem; }
dl { margin: 0; display: grid; grid-template-columns: max-content 1fr; gap: .2rem .8rem; }
dt { color: var(--soft); }
dd { margin: 0; }
"""


def render(report: Report, say: Say, language: str) -> str:
    """The whole page."""
    return page(title(report, say), sections(report, say), language)


def page(title: str, shown: Sequence[Section], language: str) -> str:
    """`shown` as a whole page under a headline."""
    headline = escape(title)
    body = "\n".join(_section(section) for section in shown)
    return (
        f'<!doctype html>\n<html lang="{escape(language)}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{headline}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{headline}</h1>\n{body}\n"
        "</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    items = "\n".join(_items(section.items))
    return f"<section>\n<h2>{escape(section.title)}</h2>\n{items}\n</section>"


def _items(items: Sequence[Item]) -> Iterator[str]:
    """The items, charts that follow one another side by side."""
    charts: list[str] = []
    for item in items:
        if isinstance(item, Chart | Bars):
            charts.append(_chart(item) if isinstance(item, Chart) else _bars(item))
            continue
        if charts:
            yield _side_by_side(charts)
            charts = []
        yield _item(item)
    if charts:
        yield _side_by_side(charts)


def _side_by_side(charts: Sequence[str]) -> str:
    return f'<div class="charts">{"".join(charts)}</div>'


def _item(item: Line | Table | Exchanged) -> str:
    match item:
        case Line(text):
            return f"<p>{escape(text)}</p>"
        case Table():
            return _table(item)
        case Exchanged(prompt, replies):
            said = "".join(f"<dt>{escape(who)}</dt><dd>{escape(text)}</dd>" for who, text in replies)
            return f"<article><h3>{escape(prompt)}</h3><dl>{said}</dl></article>"


def _table(table: Table) -> str:
    head = f"<thead><tr>{_cells('th', table.head)}</tr></thead>" if table.head else ""
    marks = table.marks or (None,) * len(table.rows)
    rows = "".join(_row(row, mark) for row, mark in zip(table.rows, marks, strict=True))
    return f'<div class="scroll"><table>{head}<tbody>{rows}</tbody></table></div>'


def _row(row: Sequence[str], mark: bool | None) -> str:
    shade = "" if mark is None else f' class="{"good" if mark else "bad"}"'
    return f"<tr{shade}>{_cells('td', row)}</tr>"


def _cells(tag: str, cells: Sequence[str]) -> str:
    return "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)


def _chart(chart: Chart) -> str:
    """A curve; steps without a value are left out of it."""
    points = [(step, value) for step, value in enumerate(chart.values) if value is not None]
    drawn = _curve(points, len(chart.values)) if points else ""
    said = f"{rounded(points[0][1], 3)} → {rounded(points[-1][1], 3)}" if points else "—"
    name = escape(chart.title)
    picture = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}: {said}">{drawn}</svg>'
    return f"<figure>{picture}<figcaption>{name}: {said}</figcaption></figure>"


def _bars(bars: Bars) -> str:
    """Upright bars; below them the first and the last name, and as many between as fit."""
    most, name = max(bars.counts, default=0), escape(bars.title)
    step = (WIDTH - LEFT - EDGE) / max(1, len(bars.counts))
    bottom = HEIGHT - EDGE - BELOW
    drawn = [f'<text x="{LEFT - EDGE}" y="{TOP + 4}">{most:,}</text>', f'<text x="{LEFT - EDGE}" y="{bottom}">0</text>']
    widest = max(map(len, bars.names), default=1) * LETTER
    every = max(1, -(-widest // max(1, int(step))))
    for place, (label, count) in enumerate(zip(bars.names, bars.counts, strict=True)):
        high, x = count / (most or 1) * (bottom - TOP), LEFT + place * step
        told = f"<title>{escape(label)}: {count:,}</title>"
        drawn.append(
            f'<rect x="{x:.1f}" y="{bottom - high:.1f}" width="{step * 0.85:.1f}" height="{high:.1f}">{told}</rect>'
        )
        if place % every == 0:
            drawn.append(f'<text class="below" x="{x + step * 0.42:.1f}" y="{HEIGHT - EDGE}">{escape(label)}</text>')
    drawn.append(f'<line x1="{LEFT}" y1="{bottom}" x2="{WIDTH - EDGE}" y2="{bottom}"/>')
    picture = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}">{"".join(drawn)}</svg>'
    return f"<figure>{picture}<figcaption>{name}</figcaption></figure>"


def _curve(points: Sequence[tuple[int, float]], steps: int) -> str:
    low, high = min(value for _, value in points), max(value for _, value in points)
    across, up = max(1, steps - 1), (high - low) or 1.0

    def place(step: int, value: float) -> tuple[float, float]:
        x = LEFT + step / across * (WIDTH - LEFT - EDGE)
        return x, HEIGHT - EDGE - (value - low) / up * (HEIGHT - EDGE - TOP)

    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
    x, y = place(*points[-1])
    bottom, beside = HEIGHT - EDGE + 3, LEFT - EDGE
    return (
        f'<line x1="{LEFT}" y1="{bottom}" x2="{WIDTH - EDGE}" y2="{bottom}"/>'
        f'<text x="{beside}" y="{TOP + 4}">{rounded(high, 3)}</text>'
        f'<text x="{beside}" y="{HEIGHT - EDGE}">{rounded(low, 3)}</text>'
        f'<polyline points="{line}"/><circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
    )
