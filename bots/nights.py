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

from bots import lesson, personal
from bots.database import Database
from bots.probation import Probation, Standing
from bots.settings import Settings
from bots.voices import Voices
from learner import frozen, lora_folder, loras
from learner.engine.base import Engine, EngineError
from learner.records import PreferenceRecords
from learner.scopes import BASE, Scope
from learner.store.rows import RunRow, RunState
from learner.store.store import Store

log = logging.getLogger(__name__)

Announce = Callable[[str, dict[str, Any]], None]
Tell = Callable[[str, int], Awaitable[None]]  # of a scope's night that ended
RUNS_BACK = 20  # so many nights without a verdict are looked past
WAITING = "waiting"  # for another scope's night to end
PROGRESS_EVERY = 1.0  # seconds between stored progress rows


@dataclass(frozen=True)
class NightResult:
    """How a night ended, and whose it was; `have` counts the records that could be used."""

    scope: str
    state: RunState
    have: int
    number: int | None = None
    version: str | None = None
    reasons: tuple[str, ...] = ()
    verdict: dict[str, Any] = field(default_factory=dict)


class Nights:
    """Runs one night at a time, for a mind or for chats of their own, and moves the active pointer."""

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
        self._teaching = asyncio.Lock()
        self.voices = {mind: Voices(settings, mind, engine) for mind, engine in engines.items()}
        self.probation = Probation(settings, store, database, engines, self.activate, announce)

    # What others ask for ----------------------------------------------------------------------

    def start(self, scope: str) -> asyncio.Task[NightResult]:
        """Begin a night of a scope, once no other runs, or join its own that runs."""
        task = self._tasks.get(scope)
        if task is None or task.done():
            task = asyncio.create_task(self._run(scope))
            self._tasks[scope] = task
        return task

    def is_running(self, scope: str) -> bool:
        """Whether a night of `scope` runs now, or waits for its turn."""
        return scope in self._tasks and not self._tasks[scope].done()

    def progress(self, scope: str) -> dict[str, Any] | None:
        """Where the running night stands; None when none runs."""
        return self._progress.get(scope) if self.is_running(scope) else None

    async def count(self, scope: str) -> int:
        """How many records of `scope` could be used now."""
        records = await self._records(scope)
        return len(records.pairs) + len(records.ratings)

    async def is_owed(self, scope: str, due: float) -> bool:
        """Whether a night was due at `due` that had something new to learn from, and did not run."""
        last = await self.last(scope)
        since = last.started_at if last is not None else 0.0
        new = since < due and any(since < at < due for at in await self._given(scope))
        return new and await self.is_worth(scope)

    async def is_worth(self, scope: str) -> bool:
        """Whether a lesson is to be held when the hour comes: for chats of their own, once enough is new."""
        if Scope.read(scope).name is None:
            return True
        runs = await self._database(self._store.runs, scope, RUNS_BACK)
        taught = next((run.started_at for run in runs if run.state in ("published", "refused")), 0.0)
        return sum(taught < at for at in await self._given(scope)) >= self._settings.learner.min_records

    async def _given(self, scope: str) -> list[float]:
        """When what can be learned from was said."""
        records = await self._records(scope)
        given = [pair.provenance for pair in records.pairs] + [rating.provenance for rating in records.ratings]
        return [one.created_at for one in given]

    async def _records(self, scope: str) -> PreferenceRecords:
        heard = personal.heard(self._settings, scope)
        return await self._database(self._store.records, Scope.read(scope).mind, heard)

    async def last(self, scope: str) -> RunRow | None:
        """The newest finished night of `scope`."""
        runs = await self._database(self._store.runs, scope, 5)
        return next((run for run in runs if run.state != "running"), None)

    def active(self, scope: str) -> str:
        """The version that the pointer names, or "base", or for chats of their own "common"."""
        return loras.active(self._settings.loras_dir, scope)

    async def activate(self, scope: str) -> str:
        """Let the running engine follow the pointer. Raises LoraMismatch, and the old one goes on speaking."""
        version, whose = self.active(scope), Scope.read(scope)
        engine = self._engines.get(whose.mind)
        if engine is None or not engine.status().takes_loras:
            return version
        if whose.name is not None:
            await self.voices[whose.mind].check(scope)
        elif (engine.status().active_lora or BASE) != version:
            await engine.swap_lora(loras.active_folder(self._settings.loras_dir, scope))
            self._announce("lora", {"mind": scope, "lora": None if version == BASE else version})
            log.info("lora: %s now speaks for mind %s", version, scope)
        return version

    async def recover(self) -> None:
        """After a crash: take over what a night finished, mark what it did not."""
        minds = {bot.mind for bot in self._settings.bots}
        for run in await self._database(self._store.unfinished_runs):
            if Scope.read(run.mind).mind in minds:
                await self._conclude(run.mind, run.number, None, have=0)
        for mind in minds:
            await self.probation.resume(mind)

    async def close(self) -> None:
        """Stop running nights; their frozen folders stay."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.probation.close()

    # One night --------------------------------------------------------------------------------

    async def _run(self, scope: str) -> NightResult:
        """The one broad catch around a night: the old LoRA stays, the reason is stored and shown."""
        try:
            if self._teaching.locked():
                self._progress[scope] = {"phase": WAITING, "done": 0.0}
            async with self._teaching:
                result = await self._teach(scope)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("night: %s failed", scope)
            result = NightResult(scope, "failed", 0, reasons=(f"{type(error).__name__}: {error}",))
        self._progress.pop(scope, None)
        self._announce(
            "night",
            {
                "mind": scope,
                "done": 1.0,
                "state": result.state,
                "number": result.number,
                "reasons": list(result.reasons),
                "lora": self.active(scope),
            },
        )
        if self._tell is not None and result.number is not None:
            await self._tell(scope, result.number)
        return result

    async def _teach(self, scope: str) -> NightResult:
        self._note(scope, {"phase": "records", "done": 0.0})
        records = await self._records(scope)
        have = len(records.pairs) + len(records.ratings)
        if not self._settings.model.trains:
            return NightResult(scope, "skipped", have, verdict={"no_base": True})
        if have < self._settings.learner.min_records:
            return NightResult(scope, "skipped", have)
        undecided = await self.undecided(scope)
        if undecided is not None:
            return NightResult(scope, "skipped", have, reasons=(str(undecided),), verdict=undecided.values())
        newest = loras.next_number(self._settings.loras_dir) - 1
        number = await self._database(self._store.next_number, newest)
        folder = self._settings.runs_dir / f"{number:04d}"
        request = lesson.night_request(self._settings, scope, number, await self._owners(Scope.read(scope).mind))
        await asyncio.to_thread(frozen.freeze, folder, request, records, lesson.canaries(self._settings))
        await self._database(self._store.add_run, RunRow(number, scope, "running", time.time(), None))
        log.info("night %04d: %s pairs, %s ratings", number, len(records.pairs), len(records.ratings))
        code, complaint = await self._lesson(scope, number, folder)
        return await self._conclude(scope, number, code, have, complaint)

    async def undecided(self, scope: str) -> Standing | None:
        """The challenger that no lesson may overtake. Chats of their own have none: too few choices to decide by."""
        return await self.probation.undecided(scope) if Scope.read(scope).name is None else None

    async def _owners(self, mind: str) -> list[str]:
        """Who owns a bot of this mind, as teachers are named."""
        bots = [bot.name for bot in self._settings.bots if bot.mind == mind]
        owners = [owner for bot in bots for owner in await self._database(self._store.owners, bot)]
        return [f"{owner.platform}:{owner.person}" for owner in owners]

    async def _lesson(self, scope: str, number: int, folder: Path) -> tuple[int, str]:
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
                    self._note(scope, progress)
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

    async def _conclude(self, scope: str, number: int, code: int | None, have: int, complaint: str = "") -> NightResult:
        """Store how night `number` ended; a published LoRA speaks or challenges. `code` None: after a crash."""
        verdict = lesson.read_verdict(self._settings.runs_dir / f"{number:04d}")
        version = f"{number:04d}"
        if code not in (0, None) or verdict is None:
            reason = complaint or ("it was interrupted" if code is None else f"the lesson exited with {code}")
            return await self._store_end(scope, number, "failed", have, None, (reason,), verdict or {})
        if verdict["outcome"] != "published":
            reasons = tuple(verdict.get("reasons", ()))
            return await self._store_end(scope, number, "refused", have, None, reasons, verdict)
        try:
            if self.probation.enabled and Scope.read(scope).name is None:
                verdict = {**verdict, "challenges": (await self.probation.begin(scope, version)).champion}
            else:
                await self._let_speak(scope, version)
        except (lora_folder.LoraError, EngineError) as error:
            return await self._store_end(scope, number, "refused", have, None, (str(error),), verdict)
        if not self._settings.model.speaks_loras:
            verdict = {**verdict, "exported": True}
        return await self._store_end(scope, number, "published", have, version, (), verdict)

    async def _let_speak(self, scope: str, version: str) -> None:
        """Move the pointer and let the engine follow; where it can't, move it back and raise."""
        before = self.active(scope)
        try:
            loras.set_active(self._settings.loras_dir, scope, version)
            await self.activate(scope)
        except (lora_folder.LoraError, EngineError):
            loras.set_active(self._settings.loras_dir, scope, before)
            raise

    async def _store_end(
        self,
        scope: str,
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
        return NightResult(scope, state, have, number, version, reasons, verdict)

    def _note(self, scope: str, progress: dict[str, Any]) -> None:
        name = Scope.read(scope).name
        shown = progress if name is None else {**progress, "detail": f"{name}: {progress.get('detail', '')}"}
        self._progress[scope] = shown
        self._announce("night", {"mind": scope, "state": "running", **shown})


def drop_runs_of(runs_dir: Path, exchanges: frozenset[str]) -> list[str]:
    """Delete the frozen runs that hold a record of `exchanges`; their names."""
    gone = []
    for folder in sorted(runs_dir.glob("[0-9]*")):
        if lesson.exchanges_of(folder) & exchanges:
            shutil.rmtree(folder)
            gone.append(folder.name)
    return gone
