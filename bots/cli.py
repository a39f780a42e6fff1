"""The command line, thin: reads arguments and settings, calls the parts, prints what they say.

Knows nothing of how anything is done.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from adapters.base import AdapterError
from bots import app as application
from bots.control import ControlClient, ControlError
from bots.parts import AlreadyRunning, lock
from bots.server import PortInUse
from bots.settings import Settings, SettingsError, load
from learner.engine.base import ModelUnusable
from learner.loras import LoraError
from learner.store.errors import StoreError

BAR = 28
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
Arguments = argparse.Namespace


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 when it was done, 1 with a sentence on stderr when it could not be."""
    arguments = parser().parse_args(argv)
    log_to_stderr(arguments.verbose)
    try:
        settings = load(Path(arguments.config))
        return int(arguments.run(settings, arguments) or 0)
    except (
        AdapterError,
        SettingsError,
        StoreError,
        ControlError,
        PortInUse,
        ModelUnusable,
        AlreadyRunning,
        LoraError,
        OSError,
    ) as error:
        print(f"nightschool: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def log_to_stderr(verbose: bool) -> None:
    """Log what happens; on a terminal, where somebody chats, only what goes wrong."""
    shown = logging.StreamHandler()
    shown.setLevel(logging.DEBUG if verbose else logging.WARNING if sys.stderr.isatty() else logging.INFO)
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, format=LOG_FORMAT, handlers=[shown])
    for noisy in ("alembic", "apscheduler", "httpx", "httpcore", "uvicorn", "filelock", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def log_to_file(data_dir: Path) -> None:
    """Log to data_dir/nightschool.log as well, 3 files of 1 MB."""
    kept = RotatingFileHandler(data_dir / "nightschool.log", maxBytes=2**20, backupCount=2, encoding="utf-8")
    kept.setFormatter(logging.Formatter(LOG_FORMAT))
    logging.getLogger().addHandler(kept)


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", default="config.toml", help="the settings file (default: config.toml)")
    common.add_argument("--verbose", action="store_true", help="log more")
    top = argparse.ArgumentParser(prog="nightschool", description="A chat bot that goes to night school.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(parent: Any, name: str, run: Callable[[Settings, Arguments], int | None], text: str) -> Any:
        command = parent.add_parser(name, parents=[common], help=text, description=text)
        command.set_defaults(run=run)
        return command

    add(commands, "run", run, "talk: the chat page, the terminal, and a lesson every night")
    status_ = add(commands, "status", status, "how the running bot and its platforms stand")
    status_.add_argument("--json", action="store_true", help="one line of JSON")
    add(commands, "doctor", doctor, "look at all that a bot needs, and say what to do about what is wrong")
    learn_ = add(commands, "learn", learn, "run a lesson now")
    learn_.add_argument("--mind", default="", help="whose lesson (default: the first bot's mind)")
    lora = commands.add_parser("lora", help="the versions that were learned").add_subparsers(required=True)
    add(lora, "list", lora_list, "list all versions")
    add(lora, "show", lora_show, "tell all about one version").add_argument("version")
    add(lora, "promote", lora_promote, "let a version speak (or: base)").add_argument("version")
    add(lora, "rollback", lora_rollback, "let the version that spoke before speak again")
    records = commands.add_parser("records", help="what people said about replies").add_subparsers(required=True)
    export = add(records, "export", records_export, "write preference records for another tool")
    export.add_argument("--kind", choices=("dpo", "kto"), required=True)
    export.add_argument("--format", choices=("trl", "llamafactory"), required=True)
    export.add_argument("--output", required=True, type=Path)
    stats = add(records, "stats", records_stats, "count what there is to learn from")
    stats.add_argument("--json", action="store_true", help="one line of JSON")
    forget_ = add(commands, "forget", forget, "delete a person, and retire what was learned from them")
    forget_.add_argument("person", help="PLATFORM:ID, as in web:local")
    for command in (export, stats, *(child for child in lora.choices.values())):
        command.add_argument("--mind", default="", help="which mind (default: the first bot's)")
    return top


# Talking ------------------------------------------------------------------------------------


def run(settings: Settings, arguments: Arguments) -> int:
    """Talk until Ctrl-C, /quit, or the terminal's end."""
    return asyncio.run(_talk(settings))


async def _talk(settings: Settings) -> int:
    app = application.App(settings)
    log_to_file(settings.data_dir)
    loop = asyncio.get_running_loop()
    for name in ("SIGINT", "SIGTERM"):
        try:
            loop.add_signal_handler(getattr(signal, name), app.quit)
        except NotImplementedError:  # Windows: Ctrl-C arrives as KeyboardInterrupt
            break
    try:
        await app.start()
        if any(name == "web" for _, name in app.adapters):
            print(f"chat page: {app.server.url}", file=sys.stderr, flush=True)
        application.show_claim(app)
        await app.wait()
    finally:
        await app.stop()
    return 0


def status(settings: Settings, arguments: Arguments) -> int:
    """Tell how the bot that runs on the data folder stands; 1 when none does."""
    try:
        lock(settings.data_dir).release()
    except AlreadyRunning:
        told = ControlClient(settings.data_dir).call("status")
        if arguments.json:
            print(json.dumps(told, ensure_ascii=False))
        else:
            print("\n".join(_status_lines(told)))
        return 0
    print(f"no bot runs on {settings.data_dir}; start one with: nightschool run")
    return 1


def _status_lines(told: dict[str, Any]) -> Iterator[str]:
    for mind in told["minds"]:
        yield f"mind {mind['mind']}: {mind['model']}, LoRA {mind['lora']}, {mind['records']} records to learn from"
    for one in told["platforms"]:
        yield f"{one['bot']}: {one['adapter']}: {one['state']} {one['detail']}".rstrip()
        if one["qr"]:
            yield f"  scan to log in: {one['qr']}"
    for one in told["unsendable"]:
        yield f"{one['bot']}: {one['platform']}: reply {one['id']} could not be sent: {one['reason']}"


def doctor(settings: Settings, arguments: Arguments) -> int:
    """Print what was found, wrong things with what to do; 1 when something is wrong."""
    return asyncio.run(_examine(settings))


async def _examine(settings: Settings) -> int:
    from bots.doctor import examine

    wrong = 0
    async for found in examine(settings):
        wrong += not found.right
        print(
            f"{'ok   ' if found.right else 'WRONG'} {found.what}{': ' + found.to_do if found.to_do else ''}", flush=True
        )
    return 1 if wrong else 0


# Learning -----------------------------------------------------------------------------------


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
        begun = call("learn", mind=arguments.mind)
        if begun["state"] == "skipped":
            print(f"no lesson: {begun['have']} records can be used, and {begun['need']} are needed")
            return 0
        while (state := call("progress", mind=arguments.mind))["running"]:
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
    print(f"lesson{number}: {last['state']}{': ' + reasons if reasons else ''}; {state['active']} speaks")
    return 1 if last["state"] == "failed" else 0


# Versions -----------------------------------------------------------------------------------


def lora_list(settings: Settings, arguments: Arguments) -> None:
    """A line for each version; the active one has a star."""
    from learner import loras

    mind = arguments.mind or settings.bots[0].mind
    active = loras.active(settings.loras_dir, mind)
    print(f"{'*' if active == loras.BASE else ' '} base  {settings.model.name}")
    for version in loras.listing(settings.loras_dir, mind):
        taught = f"{version.records.get('pairs', 0)} pairs, {version.records.get('ratings', 0)} ratings"
        retired = f"  retired: {version.retired}" if version.retired else ""
        print(f"{'*' if version.version == active else ' '} {version.version}  {taught}{retired}")


def lora_show(settings: Settings, arguments: Arguments) -> None:
    """Everything that a version says of itself."""
    from learner import loras

    version = dataclasses.asdict(loras.show(settings.loras_dir, arguments.version))
    print(json.dumps(version, indent=2, ensure_ascii=False, default=str))


def lora_promote(settings: Settings, arguments: Arguments) -> None:
    """Move the pointer."""
    with reach(settings) as call:
        print(f"{call('promote', mind=arguments.mind, version=arguments.version)['active']} speaks")


def lora_rollback(settings: Settings, arguments: Arguments) -> None:
    """Move the pointer back."""
    with reach(settings) as call:
        print(f"{call('rollback', mind=arguments.mind)['active']} speaks")


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


if __name__ == "__main__":
    sys.exit(main())
