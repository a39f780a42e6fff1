"""The commands about what was learned: a lesson now, versions, records, forgetting.

They reach the bot that runs, or the parts themselves when none does. Knows nothing of how anything is done.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bots.control import ControlClient
from bots.parts import AlreadyRunning, lock
from bots.settings import Settings

BAR = 28
Arguments = argparse.Namespace


@contextmanager
def reach(settings: Settings) -> Iterator[Callable[..., dict[str, Any]]]:
    """A way to make control calls: to the bot that runs, or to the parts themselves when none does."""
    try:
        held = lock(settings.data_dir)
    except AlreadyRunning:
        yield ControlClient(settings.data_dir).call
        return
    try:
        yield _alone(settings)
    finally:
        held.release()


def _alone(settings: Settings) -> Callable[..., dict[str, Any]]:
    from bots.standalone import Standalone

    return Standalone(settings).call


def learn(settings: Settings, arguments: Arguments) -> int:
    """Start a lesson and watch it."""
    with reach(settings) as call:
        begun = call("learn", mind=arguments.mind, chat=arguments.chat)
        if begun["state"] == "skipped":
            if "no_base" in begun:
                print(f"no lesson: {begun['have']} records are kept; set model.name to a base that can be trained")
                return 0
            if "undecided" in begun:
                print(f"no lesson until its duels are decided: {begun['undecided']}")
                return 0
            print(f"no lesson: {begun['have']} records can be used, and {begun['need']} are needed")
            return 0
        while (state := call("progress", mind=arguments.mind, chat=arguments.chat))["running"]:
            _draw(state["progress"] or {})
            time.sleep(0.5)
        return _tell(state)


def _draw(progress: dict[str, Any]) -> None:
    if not sys.stderr.isatty():
        return
    done = float(progress.get("done") or 0)
    left = progress.get("seconds_left")
    bar = ("#" * round(done * BAR)).ljust(BAR, ".")
    tail = f" {left:.0f} s left" if left is not None else ""
    print(f"\r[{bar}] {progress.get('phase', '')}{tail}".ljust(79), end="", file=sys.stderr, flush=True)


def _tell(state: dict[str, Any]) -> int:
    if sys.stderr.isatty():
        print(file=sys.stderr)
    last = state["last"] or {"state": "failed", "number": None, "verdict": {}}
    reasons = "; ".join(last["verdict"].get("reasons", ()))
    number = f" {last['number']:04d}" if last["number"] else ""
    challenge = f"; it duels with {last['verdict']['challenges']}" if "challenges" in last["verdict"] else ""
    print(f"lesson{number}: {last['state']}{': ' + reasons if reasons else ''}{challenge}; {state['active']} speaks")
    return 1 if last["state"] == "failed" else 0


# Versions -----------------------------------------------------------------------------------


def lora_list(settings: Settings, arguments: Arguments) -> None:
    """A line for each version; those that speak have a star, those of chats of their own a name, duels a line."""
    from learner import loras
    from learner.scopes import BASE

    mind = arguments.mind or settings.bots[0].mind
    anchor = f" with {settings.model.lora}" if settings.model.lora else ""
    every, undecided = loras.listing(settings.loras_dir, mind), _undecided(settings, mind)
    active = {loras.active(settings.loras_dir, scope) for scope in {mind, *(one.scope for one in every)}}
    base, speaks = settings.model.name or settings.model.remote.model, loras.active(settings.loras_dir, mind)
    print(f"{'*' if speaks == BASE else ' '} base  {base}{anchor}")
    for version in every:
        taught = f"{version.records.get('pairs', 0)} pairs, {version.records.get('ratings', 0)} ratings"
        retired = f"  retired: {version.retired}" if version.retired else ""
        whose = f"{version.name}: " if version.name else ""
        print(f"{'*' if version.version in active else ' '} {version.version}  {whose}{taught}{retired}")
    if undecided:
        print(undecided)


def _undecided(settings: Settings, mind: str) -> str:
    """How the duels of the challenger stand; empty when there is none."""
    from bots.probation import rules_of, standing_of
    from learner import challengers
    from learner.store.store import Store

    challenger = challengers.standing(settings.loras_dir, mind)
    if challenger is None or settings.learner.probation == "off":
        return ""
    store = Store(settings.database_url)
    try:
        return str(standing_of(store, mind, challenger, rules_of(settings)))
    finally:
        store.close()


def lora_show(settings: Settings, arguments: Arguments) -> None:
    """Everything that a version says of itself."""
    from learner import loras

    version = dataclasses.asdict(loras.show(settings.loras_dir, arguments.version))
    print(json.dumps(version, indent=2, ensure_ascii=False, default=str))


def lora_promote(settings: Settings, arguments: Arguments) -> None:
    """Move the pointer."""
    with reach(settings) as call:
        print(_speaks(call("promote", mind=arguments.mind, chat=arguments.chat, version=arguments.version)))


def lora_rollback(settings: Settings, arguments: Arguments) -> None:
    """Move the pointer back."""
    with reach(settings) as call:
        print(_speaks(call("rollback", mind=arguments.mind, chat=arguments.chat)))


def _speaks(done: dict[str, Any]) -> str:
    return f"{done['active']} speaks" + (f" in {done['name']}" if done["name"] else "")


# Records ------------------------------------------------------------------------------------


def records_export(settings: Settings, arguments: Arguments) -> None:
    """Write the records that count."""
    from learner.formats import export
    from learner.store.store import Store

    store = Store(settings.database_url)
    try:
        records = store.records(arguments.mind or settings.bots[0].mind)
        count = export(records, arguments.kind, arguments.format, arguments.output)
    finally:
        store.close()
    print(f"{count} {arguments.kind} records in {arguments.output}")


def records_stats(settings: Settings, arguments: Arguments) -> None:
    """Count what people said."""
    from learner.store.store import Store

    store = Store(settings.database_url)
    try:
        stats = dict(store.stats(arguments.mind or settings.bots[0].mind))
    finally:
        store.close()
    if arguments.json:
        print(json.dumps(stats, ensure_ascii=False))
    else:
        print("\n".join(f"{name}: {value}" for name, value in stats.items()))


def forget(settings: Settings, arguments: Arguments) -> None:
    """Delete a person for good."""
    with reach(settings) as call:
        done = call("forget", person=arguments.person)
    print(
        f"deleted {sum(done['rows'].values())} rows, retired {done['retired'] or 'no LoRA'}, "
        f"dropped {len(done['runs'])} frozen runs"
    )
    if not done["files_clean"]:
        print("another process has the database open: stop it and run this again to clear its files")
