"""Steps that lead from one thing to the next, each in a process of its own and each done once.

Knows nothing of what they do. A step is done when its output is there and was made by the same command from the same
inputs; what is not done is run again, and goes on by itself from where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from learner.formats.files import write_json

CLI = (sys.executable, "-m", "bots.cli")


@dataclass(frozen=True)
class Step:
    """A command of ours. `says` is what makes its result what it is: options of pace or price are not in it."""

    name: str
    title: str
    command: tuple[str, ...]
    says: tuple[str, ...]
    inputs: tuple[Path, ...]
    output: Path

    def mark(self) -> str:
        """The hash of what its output hangs on. Raises OSError when an input is missing."""
        whole = hashlib.sha256(json.dumps(self.says).encode())
        for path in self.inputs:
            whole.update(hashlib.sha256(path.read_bytes()).digest())
        return whole.hexdigest()


class Done:
    """Remembers in a file which steps are done."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def has(self, step: Step) -> bool:
        """Whether its output is there and is still the right one."""
        return step.output.exists() and self.marks().get(step.name) == step.mark()

    def note(self, step: Step) -> None:
        """It ended well."""
        write_json(self._path, self.marks() | {step.name: step.mark()})

    def marks(self) -> dict[str, str]:
        """Step by step, what was noted; empty when the file can't be read, as steps can be run again."""
        try:
            row = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return {str(name): str(mark) for name, mark in row.items()} if isinstance(row, dict) else {}

    def put(self, name: str, mark: str) -> None:
        """Note a mark that is no step's."""
        write_json(self._path, self.marks() | {name: mark})


def go(steps: Sequence[Step], done: Done, tell: Callable[[str], None], cli: Sequence[str]) -> int:
    """Run the steps that are not done, in order; 0, or the exit code of the one that failed."""
    for number, step in enumerate(steps, start=1):
        head = f"step {number} of {len(steps)}: {step.title}"
        if done.has(step):
            tell(f"{head}: done already")
            continue
        tell(head)
        code = run((*cli, *step.command))
        if code:
            return code
        done.note(step)
    return 0


def run(command: Sequence[str]) -> int:
    """Run a command to its end; its progress goes where ours goes. Signals are passed on, and are its own to answer."""
    posix = os.name == "posix"  # on Windows the console tells both, and Ctrl-C can't be passed on
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=posix) as process:

        def pass_on(number: int, frame: FrameType | None) -> None:
            if posix:
                process.send_signal(number)

        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        before = {number: signal.signal(number, pass_on) for number in numbers}
        try:
            return process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
