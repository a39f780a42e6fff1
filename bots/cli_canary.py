"""The commands about the owner's own canaries. Knows nothing of how they are kept or judged."""

from __future__ import annotations

import argparse
import sys

from bots import own_canaries
from bots.settings import Settings
from learner.training.canaries import Canary

Arguments = argparse.Namespace


def canary_add(settings: Settings, arguments: Arguments) -> int:
    """Keep one more."""
    try:
        canary = own_canaries.add(settings.data_dir, arguments.prompt, tuple(arguments.any_of), arguments.language)
    except ValueError as error:
        return _complain(error)
    print(f"canary {len(own_canaries.own(settings.data_dir))}: {_line(canary)}")
    print("from the next lesson on, no LoRA that answers it wrongly speaks, unless the bot already does now")
    return 0


def canary_list(settings: Settings, arguments: Arguments) -> None:
    """A line for each."""
    kept = own_canaries.own(settings.data_dir)
    for number, canary in enumerate(kept, 1):
        print(f"{number}  {_line(canary)}")
    if not kept:
        print('no canaries of your own; add one with: nightschool canary add "what is my cat called" --any-of Momo')


def canary_remove(settings: Settings, arguments: Arguments) -> int:
    """Drop one."""
    try:
        print(f"removed: {_line(own_canaries.remove(settings.data_dir, arguments.number))}")
    except ValueError as error:
        return _complain(error)
    return 0


def _line(canary: Canary) -> str:
    wanted = " or ".join(repr(part) for part in canary.any_of) or "anything"
    return f"{canary.prompt[-1].content!r}: {wanted}, in {canary.language}"


def _complain(error: ValueError) -> int:
    print(f"nightschool: {error}", file=sys.stderr)
    return 1
