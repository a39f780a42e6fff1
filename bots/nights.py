"""The parent's side of a night: freeze what to learn from, run the lesson in its own process, act on it.

Knows nothing of how a lesson is taught or judged; the child writes only files, the parent only the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bots import lesson
from bots.database import Database
from bots.probation import Probation
from bots.settings import Settings
from learner import frozen, loras
from learner.engine.base import Engine, EngineError
from learner.loras import BASE
from learner.store.rows import RunRow, RunState
from learner.store.store import Store

log = logging.getLogger(__name__)

Announce = Callable[[str, dict[str, Any]], None]
Tell = Callable[[str, int], Awaitable[None]]  # of a mind's night that ended
PROGRESS_EVERY = 1.0  # seconds between stored progress rows


@dataclass(frozen=True)
class NightResult:
    """How a night ended; `have` counts the records that could be used."""

    mind: str
    state: RunState
    have: int
    number: int | None = None
    version: str | None = None
    reasons: tuple[str, ...] = ()
    verdict: dict[str, Any] = field(default_factory=dict)


class Nights:
    """Runs at most one night at a time for each mind, and moves the active pointer."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        database: Database,
        engines: Mapping[str, Engine],
        announce: Announce,
        tell: Tell | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._database = database
        self._engines = engines
        self._announce = announce
        self._tell = tell
        self._tasks: dict[str, asyncio.Task[NightResult]] = {}
        self._progress: dict[str, dict[str, Any]] = {}
        self.probation = Probation(settings, store, database, engines, self.activate, announce)

    # What others ask for ----------------------------------------------------------------------

    def start(self, mind: str) -> asyncio.Task[NightResult]:
        """Begin a night, or join the one that runs."""
        task = self._tasks.get(mind)
        if task is None or task.done():
            task = asyncio.create_task(self._run(mind))
            self._tasks[mind] = task
        return task

    def is_running(self, mind: str) -> bool:
        """Whether a night of `mind` runs now."""
        return mind in self._tasks and not self._tasks[mind].done()

    def progress(self, mind: str) -> dict[str, Any] | None:
        """Where the running night stands; None when none runs."""
        return self._progress.get(mind) if self.is_running(mind) else None

    async def count(self, mind: str) -> int:
        """How many records of `mind` could be used now."""
        records = await self._database(self._store.records, mind)
        return len(records.pairs) + len(records.ratings)

    async def is_owed(self, mind: str, due: float) -> bool:
        """Whether a night was due at `due` that had something new to learn from, and did not run."""
        records = await self._database(self._store.records, mind)
        last = await self.last(mind)
        since = last.started_at if last is not None else 0.0
        given = [pair.provenance for pair in records.pairs] + [rating.provenance for rating in records.ratings]
        return since < due and any(since < one.created_at < due for one in given)

    async def last(self, mind: str) -> RunRow | None:
        """The newest finished night of `mind`."""
        runs = await self._database(self._store.runs, mind, 5)
        return next((run for run in runs if run.state != "running"), None)

    def active(self, mind: str) -> str:
        """The version that the pointer names, or "base"."""
        return loras.active(self._settings.loras_dir, mind)

    async def activate(self, mind: str) -> str:
        """Let the running engine follow the pointer. Raises LoraMismatch, and the old one goes on speaking."""
        version = self.active(mind)
        engine = self._engines.get(mind)
        status = engine.status() if engine is not None else None
        if engine is not None and status is not None and status.takes_loras and (status.active_lora or BASE) != version:
            await engine.swap_lora(loras.active_folder(self._settings.loras_dir, mind))
            self._announce("lora", {"mind": mind, "lora": None if version == BASE else version})
            log.info("lora: %s now speaks for mind %s", version, mind)
        return version

    async def recover(self) -> None:
        """After a crash: take over what a night finished, mark what it did not."""
        for mind in {bot.mind for bot in self._settings.bots}:
            for run in await self._database(self._store.runs, mind, 20):
                if run.state == "running":
                    await self._conclude(mind, run.number, None, have=0)
            await self.probation.resume(mind)

    async def close(self) -> None:
        """Stop running nights; their frozen folders stay."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.probation.close()

    # One night --------------------------------------------------------------------------------

    async def _run(self, mind: str) -> NightResult:
        """The one broad catch around a night: the old LoRA stays, the reason is stored and shown."""
        try:
            result = await self._teach(mind)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("night: mind %s failed", mind)
            result = NightResult(mind, "failed", 0, reasons=(f"{type(error).__name__}: {error}",))
        self._progress.pop(mind, None)
        self._announce(
            "night",
            {
                "mind": mind,
                "done": 1.0,
                "state": result.state,
                "number": result.number,
                "reasons": list(result.reasons),
                "lora": self.active(mind),
            },
        )
        if self._tell is not None and result.number is not None:
            await self._tell(mind, result.number)
        return result

    async def _teach(self, mind: str) -> NightResult:
        self._note(mind, {"phase": "records", "done": 0.0})
        records = await self._database(self._store.records, mind)
        have = len(records.pairs) + len(records.ratings)
        if not self._settings.model.trains:
            return NightResult(mind, "skipped", have, verdict={"no_base": True})
        if have < self._settings.learner.min_records:
            return NightResult(mind, "skipped", have)
        undecided = await self.probation.undecided(mind)
        if undecided is not None:
            return NightResult(mind, "skipped", have, reasons=(str(undecided),), verdict=undecided.values())
        newest = loras.next_number(self._settings.loras_dir) - 1
        number = await self._database(self._store.next_number, newest)
        folder = self._settings.runs_dir / f"{number:04d}"
        request = lesson.night_request(self._settings, mind, number, await self._owners(mind))
        await asyncio.to_thread(frozen.freeze, folder, request, records, lesson.canaries(self._settings))
        await self._database(self._store.add_run, RunRow(number, mind, "running", time.time(), None))
        log.info("night %04d: %s pairs, %s ratings", number, len(records.pairs), len(records.ratings))
        code, complaint = await self._lesson(mind, number, folder)
        return await self._conclude(mind, number, code, have, complaint)

    async def _owners(self, mind: str) -> list[str]:
        """Who owns a bot of this mind, as teachers are named."""
        bots = [bot.name for bot in self._settings.bots if bot.mind == mind]
        owners = [owner for bot in bots for owner in await self._database(self._store.owners, bot)]
        return [f"{owner.platform}:{owner.person}" for owner in owners]

    async def _lesson(self, mind: str, number: int, folder: Path) -> tuple[int, str]:
        """Run the child; its exit code and the last line of its complaints."""
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "learner.nightly",
            str(folder),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # Threads that wait by spinning would take the cores from whoever talks, and from one another.
            env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
        )
        assert child.stdout is not None
        assert child.stderr is not None
        complaints = asyncio.create_task(child.stderr.read())
        try:
            stored = 0.0
            async for line in child.stdout:
                with contextlib.suppress(ValueError):
                    progress = {**json.loads(line), "number": number}
                    self._note(mind, progress)
                    if time.monotonic() - stored > PROGRESS_EVERY:
                        stored = time.monotonic()
                        await self._database(self._store.update_run, number, progress=progress)
            code = await child.wait()
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        lines = (await complaints).decode("utf-8", "replace").strip().splitlines()
        return code, lines[-1] if lines else ""

    async def _conclude(self, mind: str, number: int, code: int | None, have: int, complaint: str = "") -> NightResult:
        """Store how night `number` ended; a published LoRA speaks or challenges. `code` None: after a crash."""
        verdict = lesson.read_verdict(self._settings.runs_dir / f"{number:04d}")
        version = f"{number:04d}"
        if code not in (0, None) or verdict is None:
            reason = complaint or ("it was interrupted" if code is None else f"the lesson exited with {code}")
            return await self._store_end(mind, number, "failed", have, None, (reason,), verdict or {})
        if verdict["outcome"] != "published":
            reasons = tuple(verdict.get("reasons", ()))
            return await self._store_end(mind, number, "refused", have, None, reasons, verdict)
        try:
            if self.probation.enabled:
                verdict = {**verdict, "challenges": (await self.probation.begin(mind, version)).champion}
            else:
                await self._let_speak(mind, version)
        except (loras.LoraError, EngineError) as error:
            return await self._store_end(mind, number, "refused", have, None, (str(error),), verdict)
        if not self._settings.model.speaks_loras:
            verdict = {**verdict, "exported": True}
        return await self._store_end(mind, number, "published", have, version, (), verdict)

    async def _let_speak(self, mind: str, version: str) -> None:
        """Move the pointer and let the engine follow; where it can't, move it back and raise."""
        before = self.active(mind)
        try:
            loras.set_active(self._settings.loras_dir, mind, version)
            await self.activate(mind)
        except (loras.LoraError, EngineError):
            loras.set_active(self._settings.loras_dir, mind, before)
            raise

    async def _store_end(
        self,
        mind: str,
        number: int,
        state: RunState,
        have: int,
        version: str | None,
        reasons: tuple[str, ...],
        verdict: dict[str, Any],
    ) -> NightResult:
        stored = {**verdict, "reasons": list(reasons)}
        await self._database(self._store.update_run, number, state=state, verdict=stored, finished_at=time.time())
        log.info("night %04d: %s%s", number, state, f" ({'; '.join(reasons)})" if reasons else "")
        return NightResult(mind, state, have, number, version, reasons, verdict)

    def _note(self, mind: str, progress: dict[str, Any]) -> None:
        self._progress[mind] = progress
        self._announce("night", {"mind": mind, "state": "running", **progress})


def drop_runs_of(runs_dir: Path, exchanges: frozenset[str]) -> list[str]:
    """Delete the frozen runs that hold a record of `exchanges`; their names."""
    gone = []
    for folder in sorted(runs_dir.glob("[0-9]*")):
        if lesson.exchanges_of(folder) & exchanges:
            shutil.rmtree(folder)
            gone.append(folder.name)
    return gone
