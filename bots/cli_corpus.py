"""The commands that make a corpus: other tools' files in, dialogues out, and what they look like.

Knows nothing of formats, and nothing of how anything is trained.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bots.settings import Settings
from learner.corpus import dialogues, export, identity, picture, report
from learner.corpus.clock import seconds_of, zone_of
from learner.corpus.conversations import Pacing
from learner.corpus.importing import Wishes, import_files
from learner.corpus.media import Language
from learner.corpus.output import Output
from learner.corpus.readers import FORMATS, Reading, Unreadable
from learner.corpus.readers.rolebench import profiles_in
from learner.corpus.report import Report, Tally

Arguments = argparse.Namespace
Add = Callable[..., Any]
READ = (".csv", ".json", ".jsonl", ".txt")  # what is looked for in a folder
HOUR = 3600


class CorpusError(ValueError):
    """A wish that can't be met."""


def add_commands(commands: Any, add: Add) -> Any:
    """Add `corpus` and its commands; the group, so that others can add theirs to it."""
    corpus = commands.add_parser("corpus", help="what a model is to be trained on").add_subparsers(
        required=True, metavar="COMMAND"
    )
    importing = add(corpus, "import", import_, "turn chats and other tools' datasets into dialogues")
    _importing(importing)
    importing.add_argument("--from", dest="format", default="auto", choices=("auto", *FORMATS), help="default: auto")
    importing.add_argument("--profiles", type=Path, metavar="FILE", help="of roles, as JSON: {role: description}")
    roles = add(corpus, "roles", roles_, "turn RoleBench rows and profiles into dialogues")
    _importing(roles)
    roles.add_argument("--profiles", type=Path, metavar="FILE", help="JSON: {role: description}")
    roles.add_argument("--role", action="append", default=[], metavar="NAME", help="only this one; may be repeated")
    made = add(corpus, "identity", identity_, "make dialogues in which the bot says who it is")
    made.add_argument("--name", required=True, help="what the bot is called")
    made.add_argument("--author", required=True, help="who made it")
    made.add_argument("--output", required=True, type=Path, metavar="FILE", help="the dialogues, as JSON lines")
    made.add_argument("--language", choices=("zh", "en", "both"), default="both")
    made.add_argument("--count", type=int, default=600, help="how many in all (default: 600)")
    made.add_argument("--seed", type=int, default=0, help="the same seed gives the same dialogues")
    made.add_argument("--json", action="store_true", help="the counts as one last line of JSON")
    exported = add(corpus, "export", export_, "write dialogues for another tool")
    exported.add_argument("file", type=Path, help="the corpus")
    exported.add_argument("--format", choices=("alpaca", "sharegpt"), required=True)
    exported.add_argument("--output", required=True, type=Path, metavar="FILE")
    shown = add(corpus, "show", show, "what a corpus looks like")
    shown.add_argument("file", type=Path, help="the corpus, or its report")
    shown.add_argument("--html", type=Path, metavar="OUT", help="write it as one HTML page")
    shown.add_argument("--json", action="store_true", help="one line of JSON")
    return corpus


def _importing(command: Any) -> None:
    """The options of every command that reads files; those of chats first."""
    command.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a file, or a folder of them")
    command.add_argument("--output", required=True, type=Path, metavar="FILE", help="the dialogues, as JSON lines")
    command.add_argument(
        "--me",
        action="append",
        default=[],
        metavar="NAME",
        help="your name or id in Telegram; in groups, what others @ you by; may be repeated",
    )
    command.add_argument("--gap", default="6h", help="a longer silence ends a conversation (default: 6h)")
    command.add_argument("--reply-within", default="2h", help="what comes later is no reply (default: 2h)")
    command.add_argument("--longest", type=int, default=40, help="turns of a dialogue (default: 40)")
    command.add_argument("--zone", default="", help="of local times, as in Asia/Shanghai (default: this machine's)")
    command.add_argument("--media", choices=("drop", "label"), default="drop", help="pictures and the like")
    command.add_argument(
        "--groups", choices=("directed", "labelled", "drop"), default="directed",
        help="of a group: only replies to one person, everything with who said it, or nothing",
    )  # fmt: skip
    command.add_argument("--keep-personal", action="store_true", help="do not mask numbers, mail and addresses")
    command.add_argument("--cap", type=int, default=20, help="how often the same reply is learned (0: always)")
    command.add_argument("--json", action="store_true", help="the counts as one last line of JSON")


def import_(settings: Settings, arguments: Arguments) -> int:
    """Write the corpus and its report, and tell what became of every row."""
    return _told(lambda: _imported(settings, arguments, arguments.format), arguments)


def roles_(settings: Settings, arguments: Arguments) -> int:
    """The same for RoleBench rows."""
    return _told(lambda: _imported(settings, arguments, "rolebench"), arguments)


def identity_(settings: Settings, arguments: Arguments) -> int:
    """Write who-are-you dialogues and their report."""
    return _told(lambda: _who_are_you(arguments), arguments)


def export_(settings: Settings, arguments: Arguments) -> int:
    """Write a corpus as another tool reads it."""
    try:
        written, left = export.export(dialogues.read(arguments.file), arguments.format, arguments.output)
    except ValueError as error:
        return _complain(error)
    print(
        f"{arguments.output}: {written:,} rows" + (f"; {left:,} dialogues without an answer left out" if left else "")
    )
    return 0


def show(settings: Settings, arguments: Arguments) -> int:
    """Print a report, or write it as a page."""
    try:
        found = report.load(arguments.file)
    except report.ReportMissing as error:
        return _complain(error)
    name = arguments.file.name.removesuffix(".report.json")
    if arguments.html is not None:
        arguments.html.write_text(picture.page(found, name), "utf-8", errors="replace")
        print(arguments.html)
    elif not arguments.json:
        print(picture.text(found, name), end="")
    if arguments.json:
        print(json.dumps(report.row(found), ensure_ascii=False))
    return 0


def _told(make: Callable[[], Report], arguments: Arguments) -> int:
    """Make a corpus, keep its report beside it, and print it."""
    try:
        made = make()
    except (CorpusError, Unreadable, ValueError) as error:
        return _complain(error)
    report.save(made, arguments.output)
    print(picture.text(made, arguments.output.name), end="")
    if made.reasons.get("unanswered") and not made.replies:
        print("nightschool: none of what was read is a reply of yours: is --me your name there?", file=sys.stderr)
    if arguments.json:
        counts = {name: getattr(made, name) for name in ("read", "kept", "dropped", "reasons")}
        print(json.dumps(counts, ensure_ascii=False))
    return 0


def _imported(settings: Settings, arguments: Arguments, format: str) -> Report:
    for name, least in (("cap", 0), ("longest", 2)):
        if getattr(arguments, name) < least:
            raise CorpusError(f"--{name} is to be {least} or more")
    profiles = tuple(profiles_in(arguments.profiles).items()) if arguments.profiles else ()
    reading = Reading(
        tuple(arguments.me), zone_of(arguments.zone), settings.language, profiles, tuple(getattr(arguments, "role", ()))
    )
    pacing = Pacing(seconds_of(arguments.gap), seconds_of(arguments.reply_within), arguments.longest)
    wishes = Wishes(
        reading, format, pacing, arguments.groups, arguments.media == "label", arguments.keep_personal, arguments.cap
    )
    made = import_files([*_files(arguments.files)], arguments.output, wishes, _progress)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return made


def _who_are_you(arguments: Arguments) -> Report:
    who, source = identity.Self(arguments.name.strip(), arguments.author.strip()), random.Random(arguments.seed)
    if not who.name or not who.author or arguments.count < 1:
        raise CorpusError("--name and --author are not to be empty, and --count is to be 1 or more")
    languages: tuple[Language, ...] = ("zh", "en") if arguments.language == "both" else (arguments.language,)
    tally = Tally()
    with Output(arguments.output) as output:
        for number, language in enumerate(languages):
            share = arguments.count // len(languages) + (number < arguments.count % len(languages))
            for dialogue in identity.dialogues(who, language, share, source):
                output.dialogue(dialogue)
                tally.made(dialogue)
    tally.source(Path(f"{identity.SOURCE}:{who.name}"), identity.SOURCE, tally.kept)
    return tally.report(None)


def _files(paths: list[Path]) -> Iterator[Path]:
    """The files, and those in the folders, by name."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = sorted(one for one in path.rglob("*") if one.suffix.lower() in READ and one.is_file())
        if not found:
            raise CorpusError(f"{path} holds no {', '.join(READ)} file")
        yield from found


def _progress(rows: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{rows:,} rows", end="", file=sys.stderr, flush=True)


def _complain(error: Exception) -> int:
    print(f"nightschool: {error}", file=sys.stderr)
    return 1
