"""Writes dialogues and plain texts as they come; the files appear whole or not at all.

Knows nothing of where they come from. Dialogues go to the file that was named. Plain texts, for pretraining, go
there where a source holds nothing else, and beside it, as NAME.text.jsonl, where it holds both.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import TextIO

from learner.corpus.dialogues import Dialogue


class Output:
    """A context: what was written stays when it ends well, and nothing does when it does not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.texts_path = path.with_name(f"{path.stem}.text.jsonl")
        self._parts = (path.with_name(path.name + ".part"), path.with_name(path.name + ".text.part"))
        self._files: list[TextIO] = []
        self._written = [0, 0]

    def __enter__(self) -> Output:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._files = [part.open("w", encoding="utf-8", newline="\n") for part in self._parts]
        return self

    def dialogue(self, dialogue: Dialogue) -> None:
        """Write one more."""
        self._line(0, dialogue.to_json())

    def text(self, text: str) -> None:
        """Write one more."""
        self._line(1, json.dumps({"text": text}, ensure_ascii=False))

    def _line(self, side: int, line: str) -> None:
        self._files[side].write(line + "\n")
        self._written[side] += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files:
            file.close()
        (main, text), (dialogues, texts) = self._parts, self._written
        if kind is None:
            (text if texts and not dialogues else main).replace(self.path)
            if texts and dialogues:
                text.replace(self.texts_path)
        for part in self._parts:
            part.unlink(missing_ok=True)
