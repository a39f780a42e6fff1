"""Runs what asks a model, from a terminal: progress on stderr, Ctrl-C that loses nothing, a report at the end.

Knows nothing of what is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TextIO

from learner.corpus.synthesis import session
from learner.corpus.synthesis.calls import Calls
from learner.corpus.synthesis.errors import Interrupted, SynthesisError
from learner.corpus.synthesis.estimate import Estimate
from learner.corpus.synthesis.harvest import Harvest
from learner.corpus.synthesis.progress import Pace
from learner.corpus.synthesis.session import Files, Means, Report
from learner.corpus.synthesis.spending import Prices

LINE_EVERY = 10.0  # seconds, where stderr is no terminal
INTERRUPTED = 130


@dataclass
class Shown:
    """Progress on a stream: one line that is overwritten on a terminal, now and then a line elsewhere."""

    pace: Pace
    priced: bool
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    _at: float = 0.0
    _width: int = 0

    def answered(self, calls: Calls) -> None:
        """After each call."""
        self.pace.answered()
        self.show(calls.spending.cost)

    def show(self, cost: float, at_once: bool = False) -> None:
        """Write the line, unless one was written just now."""
        terminal = self.stream.isatty()
        if not at_once and self.pace.clock() - self._at < (0.2 if terminal else LINE_EVERY):
            return
        self._at, line = self.pace.clock(), self.pace.line(cost, self.priced)
        padded = line.ljust(self._width)
        self._width = len(line)
        self.stream.write(f"\r{padded}" if terminal else f"{line}\n")
        self.stream.flush()

    def end(self, cost: float) -> None:
        """Show how far it came, and leave the line."""
        if self._width:
            self.show(cost, at_once=True)
            self.stream.write("\n" if self.stream.isatty() else "")


Job = Callable[[Calls, Shown], Awaitable[None]]


def run(means: Means, files: Files, wanted: int, harvests: list[Harvest], job: Job) -> tuple[Report, int]:
    """Run `job`, which adds its harvests to `harvests`, the dataset's last; the report and the exit code."""
    return asyncio.run(_run(means, files, wanted, harvests, job))


async def _run(means: Means, files: Files, wanted: int, harvests: list[Harvest], job: Job) -> tuple[Report, int]:
    shown = Shown(Pace(wanted, time.monotonic), means.prices != Prices())
    began, stopped, calls = time.monotonic(), None, None
    try:
        async with session.opened(means, files.journal, random.Random(), shown.answered) as calls:
            with _signals(calls):
                await job(calls, shown)
    except SynthesisError as error:
        stopped = error
    except asyncio.CancelledError:  # a second Ctrl-C; answers under way are given up
        stopped = Interrupted("stopped at once; answers under way were given up and may have been charged")
    finally:
        shown.end(calls.spending.cost if calls else 0.0)
    if calls is None or not harvests:
        raise stopped or SynthesisError("nothing was asked")
    stopped = stopped or (calls.halt.reason if harvests[-1].more() > 0 else None)
    session.finish(files, harvests, stopped)
    code = 0 if stopped is None else INTERRUPTED if isinstance(stopped, Interrupted) else 1
    return session.report(harvests, calls, time.monotonic() - began, stopped, wanted), code


@contextlib.contextmanager
def _signals(calls: Calls) -> Iterator[None]:
    """Ctrl-C waits for the answers under way, as they are paid; a second one does not."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def stop() -> None:
        if isinstance(calls.halt.reason, Interrupted):
            task.cancel()
            return
        calls.interrupt()
        print("\nstopping: waiting for the answers under way (Ctrl-C again: give them up)", file=sys.stderr)

    taken = []
    for name in ("SIGINT", "SIGTERM"):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C cancels the task
            loop.add_signal_handler(getattr(signal, name), stop)
            taken.append(name)
    try:
        yield
    finally:
        for name in taken:
            loop.remove_signal_handler(getattr(signal, name))


def tell(report: Report, files: Files, priced: bool, as_json: bool) -> None:
    """Print how it ended; with `as_json` a last line of JSON."""
    print("\n".join(_lines(report, files, priced)))
    if report.stopped:
        print(f"nightschool: {report.stopped}", file=sys.stderr)
    if as_json:
        print(json.dumps(report.row(), ensure_ascii=False))


def _lines(report: Report, files: Files, priced: bool) -> Iterator[str]:
    where = f" in {files.output}" if files.output.exists() else ""
    yield f"{report.made} of {report.wanted} dialogues{where}"
    reasons = ", ".join(f"{count} {reason}" for reason, count in report.rejected.items())
    apart = f"; see {files.errors}" if files.errors.exists() else ""
    yield f"dropped: {report.duplicates} alike, {sum(report.rejected.values())} rejected ({reasons or 'none'}){apart}"
    if report.calls or report.from_journal:
        uncertain = f", {report.uncertain} without an answer (maybe charged)" if report.uncertain else ""
        yield f"calls: {report.calls} ({report.retried} again{uncertain}), {report.from_journal} from the journal"
        if report.interrupted:
            yield f"under way when earlier runs were killed: {report.interrupted} calls (maybe charged; made again)"
        about = "about " if report.tokens_estimated else ""
        money = f", cost {report.cost:.4f}" if priced else ""
        yield f"tokens of all runs: {about}{report.tokens_in} in, {report.tokens_out} out{money}"


def tell_estimate(estimate: Estimate, means: Means, as_json: bool) -> None:
    """Print what a run would take."""
    for part in estimate.parts:
        there = f", {part.answered} answered already" if part.answered else ""
        lengths = f"about {part.tokens_in:.0f} tokens in and {part.tokens_out:.0f} out each"
        print(f"{part.kind}: {part.calls} calls{there}, {lengths}")
    tokens_in, tokens_out = estimate.tokens
    priced = means.prices != Prices()
    cost = (
        f", cost about {estimate.cost(means.prices):.4f}"
        if priced
        else "; give --price-in and --price-out for the cost"
    )
    print(f"to do: {estimate.calls} calls, about {tokens_in} tokens in and {tokens_out} out{cost}")
    if as_json:
        row = {"calls": estimate.calls, "tokens_in": tokens_in, "tokens_out": tokens_out}
        print(json.dumps(row | ({"cost": round(estimate.cost(means.prices), 6)} if priced else {})))
