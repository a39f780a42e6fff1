"""`nightschool corpus …` alone, in a process that starts fast enough to be killed often."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from bots import cli_synthesis
from bots.settings import Settings


def add(parent: Any, name: str, run: Any, text: str) -> Any:
    """As bots/cli.py adds a command."""
    command = parent.add_parser(name, help=text)
    command.set_defaults(run=run)
    return command


top = argparse.ArgumentParser()
cli_synthesis.add_commands(top.add_subparsers(required=True), add)
arguments = top.parse_args()
sys.exit(arguments.run(Settings(), arguments))
