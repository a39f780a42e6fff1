"""The command line, thin: reads arguments and settings, calls the parts, prints what they say.

Knows nothing of how anything is done.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from adapters.base import AdapterError
from bots import app as application
from bots import cli_canary as canaries
from bots import cli_corpus, cli_create, cli_records, cli_report, cli_synthesis, cli_train
from bots import cli_learning as learning
from bots import cli_teachers as people
from bots.control import ControlClient, ControlError
from bots.parts import AlreadyRunning, lock
from bots.personal import NotPersonal
from bots.server import PortInUse
from bots.settings import Settings, SettingsError, load
from learner.engine.base import ModelUnusable
from learner.lora_folder import LoraError
from learner.store.errors import StoreError

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
        NotPersonal,
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
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # warns of a kernel that it does without


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
    learn_ = add(commands, "learn", learning.learn, "run a lesson now")
    learn_.add_argument("--mind", default="", help="whose lesson (default: the first bot's mind)")
    report = add(commands, "report", cli_report.report, "what a night learned, tried and decided")
    report.add_argument("number", nargs="?", type=int, help="which night, as 0012 (default: the newest)")
    report.add_argument("--html", type=Path, metavar="FILE", help="write it as one HTML page")
    report.add_argument("--json", action="store_true", help="one line of JSON")
    lora = commands.add_parser("lora", help="the versions that were learned").add_subparsers(required=True)
    add(lora, "list", learning.lora_list, "list all versions")
    add(lora, "show", learning.lora_show, "tell all about one version").add_argument("version")
    add(lora, "promote", learning.lora_promote, "let a version speak (or: base)").add_argument("version")
    add(lora, "rollback", learning.lora_rollback, "let the version that spoke before speak again")
    canary = commands.add_parser("canary", help="what the bot must go on knowing").add_subparsers(required=True)
    added = add(canary, "add", canaries.canary_add, "keep a question whose answer must not be lost by learning")
    added.add_argument("prompt", help="what a person says")
    added.add_argument("--any-of", nargs="+", default=[], metavar="TEXT", help="a right reply holds one of these")
    added.add_argument("--language", choices=("zh", "en"), help="of a right reply (default: the prompt's)")
    add(canary, "list", canaries.canary_list, "list your own canaries")
    add(canary, "remove", canaries.canary_remove, "drop one").add_argument("number", type=int)
    cli_synthesis.add_commands(cli_corpus.add_commands(commands, add), add)
    records = commands.add_parser("records", help="what people said about replies").add_subparsers(required=True)
    export = add(records, "export", learning.records_export, "write preference records for another tool")
    export.add_argument("--kind", choices=("dpo", "kto"), required=True)
    export.add_argument("--format", choices=("trl", "llamafactory"), required=True)
    export.add_argument("--output", required=True, type=Path)
    import_ = cli_records.add_commands(records, add)
    stats = add(records, "stats", learning.records_stats, "count what there is to learn from")
    stats.add_argument("--json", action="store_true", help="one line of JSON")
    cli_create.add_commands(commands, add)
    teachers_ = add(commands, "teachers", people.teachers, "who teaches, and how much their word counts")
    teachers_.add_argument("--json", action="store_true", help="one line of JSON")
    forget_ = add(commands, "forget", learning.forget, "delete a person, and retire what was learned from them")
    forget_.add_argument("person", help="PLATFORM:ID, as in web:local")
    cli_train.add_commands(commands, add)
    for command in (report, export, import_, stats, teachers_, *(child for child in lora.choices.values())):
        command.add_argument("--mind", default="", help="which mind (default: the first bot's)")
    for command in (learn_, report, lora.choices["promote"], lora.choices["rollback"]):
        command.add_argument("--chat", default="", help="the LoRA of this chat's own (PLATFORM:CHAT, or its name)")
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
        if mind["challenger"]:
            yield f"  challenger: {mind['challenger']}"
        for own in mind["personal"]:
            yield f"  {own['name']}: LoRA {own['lora']}, {own['records']} records to learn from"
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


if __name__ == "__main__":
    sys.exit(main())
