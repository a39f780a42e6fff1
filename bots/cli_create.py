"""`nightschool create NAME`: from a name to a bot that speaks so, in one command that can be stopped and run again.

Knows nothing of how dialogues are made or a model is trained: each step is a command of ours.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bots import creating
from bots.cli_synthesis import add_character, complain, file_name
from bots.creating import Done, Step
from bots.settings import BotSettings, ModelSettings, PersonaSettings, Settings, SettingsError, parse, resolve_model
from bots.synthesis_options import language_of
from learner.corpus.synthesis import profile
from learner.corpus.synthesis.errors import PromptError
from learner.corpus.synthesis.profile import Profile
from learner.corpus.synthesis.session import Files
from learner.formats.files import write_text

Arguments = argparse.Namespace
OF_THE_CALLS = {"concurrency", "timeout", "tries", "price_in", "price_out", "budget", "dry_run", "json", "key_env"}
CONFIG = "config"


def add_commands(commands: Any, add: Callable[..., Any]) -> None:
    """Add `create` to the commands of `nightschool`."""
    command = add(commands, "create", create, "from a name to a bot that speaks so: dialogues, training, a config.toml")
    options = Options(command)
    add_character(options)
    own = command.add_argument_group("what becomes of them")
    own.add_argument("--folder", type=Path, metavar="DIR", help="where all of it is written (default: NAME)")
    own.add_argument("--base", metavar="MODEL", help="the model to train (default: config.toml's model.name)")
    own.add_argument("--method", choices=("qlora", "lora"), help="(default: what suits the machine)")
    own.add_argument("--train", default="", metavar="OPTIONS", help='of "train sft", in quotes, as "--epochs 2"')
    own.add_argument("--run", action="store_true", dest="start", help="start the bot when it is made")
    command.set_defaults(options=options)


class Options:
    """Passes options on to a parser and remembers them, so that they can be said again to another command."""

    def __init__(self, parser: Any, actions: list[argparse.Action] | None = None) -> None:
        self._parser = parser
        self.actions: list[argparse.Action] = [] if actions is None else actions

    def add_argument(self, *names: str, **how: Any) -> None:
        """As the parser's; the output is for us to name."""
        if "--output" not in names:
            self.actions.append(self._parser.add_argument(*names, **how))

    def add_argument_group(self, *names: str) -> Options:
        """As the parser's."""
        return Options(self._parser.add_argument_group(*names), self.actions)

    def said(self, arguments: Arguments, without: set[str] | None = None) -> list[str]:
        """The options of `arguments` that are not the defaults, as words of a command line."""
        words: list[str] = []
        for action in self.actions:
            value = getattr(arguments, action.dest)
            if action.option_strings and value != action.default and action.dest not in (without or set()):
                words += [action.option_strings[-1], *_words(value)]
        return words


def _words(value: Any) -> list[str]:
    if value is True:
        return []
    if isinstance(value, dict):
        return [json.dumps(value)]
    if isinstance(value, tuple):
        return ["-".join(map(str, value))]
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


def create(settings: Settings, arguments: Arguments) -> int:
    """Run all steps that are not done yet; 0 when the bot is there."""
    arguments.name = arguments.name.strip()
    folder = (arguments.folder or Path(file_name(arguments.name))).absolute()
    try:
        steps = [synthesis(arguments, folder), training(settings, arguments, folder)]
        if arguments.dry_run:
            return _dry_run(steps)
        done = Done(folder / "steps.json")
        code = creating.go(steps, done, _tell, creating.CLI)
        if code:
            _tell(f"stopped at {_unfinished(steps, done)}; the same command goes on from there")
            return code if code > 0 else 1
        config = write_config(settings, arguments, folder, done)
    except (PromptError, SettingsError) as error:
        return complain(error)
    return _start(config) if arguments.start else 0


def synthesis(arguments: Arguments, folder: Path) -> Step:
    """The step that makes the dialogues. What it costs or how fast it asks does not change them."""
    output = folder / "dialogues.jsonl"
    head = ("corpus", "character", arguments.name)
    options: Options = arguments.options
    said = (*head, *options.said(arguments), "--config", arguments.config, "--output", str(output))
    meant = (*head, *options.said(arguments, OF_THE_CALLS))
    own = [getattr(arguments, name) for name in ("persona", "topics")]
    inputs = tuple(path for path in (*own, *(arguments.ready or ())) if path)
    return Step("dialogues", f"dialogues of {arguments.name}", said, meant, inputs, output)


def training(settings: Settings, arguments: Arguments, folder: Path) -> Step:
    """The step that trains a LoRA on them."""
    data, output, base = folder / "dialogues.jsonl", folder / "lora", base_of(settings, arguments)
    method = ("--method", arguments.method) if arguments.method else ()
    meant = ("train", "sft", "--base", base, *method, *shlex.split(arguments.train))
    said = (*meant, "--data", str(data), "--output", str(output), "--config", arguments.config)
    return Step("training", f"training {base}", said, meant, (data,), output)


def base_of(settings: Settings, arguments: Arguments) -> str:
    """The model that is trained and then speaks."""
    return resolve_model(arguments.base, Path.cwd()) if arguments.base else settings.model.name


def _dry_run(steps: Sequence[Step]) -> int:
    first, second = steps
    code = creating.run((*creating.CLI, *first.command))
    if code or not first.output.exists():
        _tell("what the training takes can be told when the dialogues are there")
        return code
    return creating.run((*creating.CLI, *second.command, "--dry-run"))


def _unfinished(steps: Sequence[Step], done: Done) -> str:
    return next(step.title for step in steps if not done.has(step))


# The bot ------------------------------------------------------------------------------------


def write_config(settings: Settings, arguments: Arguments, folder: Path, done: Done) -> Path:
    """Write the bot's config.toml, unless somebody has changed it; its path. Raises SettingsError, PromptError."""
    path = folder / "config.toml"
    known = profile.read(Files(folder / "dialogues.jsonl").persona)
    text = config_text(settings, arguments, known)
    parse(tomllib.loads(text), path)
    if path.exists() and done.marks().get(CONFIG) != _hash(path.read_text("utf-8")):
        _tell(f"{path} was changed by hand and stays as it is")
    else:
        write_text(path, text)
        done.put(CONFIG, _hash(text))
    _tell(f"{known.name} is ready; start with: nightschool run --config {shlex.quote(str(path))}")
    return path


def config_text(settings: Settings, arguments: Arguments, known: Profile) -> str:
    """The config.toml of a bot that is this character and greets first."""
    model: dict[str, Any] = {"name": base_of(settings, arguments), "lora": "lora"}
    model |= {name: getattr(settings.model, name) for name in ("device", "dtype", "quantisation", "threads")}
    model |= {"quantisation": "nf4"} if arguments.method == "qlora" else {}
    bot = {"name": re.sub(r"[^A-Za-z0-9_-]+", "-", arguments.name).strip("-")[:40] or "character", "greet": True}
    whole: dict[str, Any] = {**vars(known), "first_words": list(known.first_words)}
    language = language_of(arguments, arguments.name)
    return "\n".join(
        [
            "# Made by: nightschool create. All settings: the config.toml that ships.",
            f'data_dir = "data"\nlanguage = "{language}"\n',
            *_table("[model]", model, ModelSettings),
            *_table("[[bots]]", bot, BotSettings),
            *_table("[bots.persona]", whole, PersonaSettings),
        ]
    )


def _table(head: str, values: dict[str, Any], kind: Any) -> list[str]:
    """A TOML table of the values that `kind` has; JSON's strings are TOML's but for one character."""
    rows = {name: value for name, value in values.items() if name in kind.model_fields}
    lines = (
        f"{name} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "\\u007f") for name, value in rows.items()
    )
    return [head, *lines, ""]


def _start(config: Path) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    command = (*creating.CLI, "run", "--config", str(config))
    if os.name == "posix":  # the bot takes this terminal, and its signals
        os.execv(command[0], command)
    return creating.run(command)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _tell(line: str) -> None:
    print(line, flush=True)
