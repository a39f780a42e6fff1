"""The texts that a model is asked with: ours, or those of a folder. Each knows which {placeholders} it may hold.

Knows nothing of models or answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from learner.corpus.synthesis.errors import PromptError

Language = Literal["zh", "en"]
PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")

# Each file's name, and the placeholders that it may hold. Those without any are lists, a line each.
PROMPTS: Mapping[str, frozenset[str]] = {
    "profile": frozenset({"name", "about"}),
    "catchphrases": frozenset({"catchphrases"}),
    "topics": frozenset({"name", "profile", "count", "avoid"}),
    "dialogue": frozenset({"name", "profile", "topic", "rounds", "opening", "angle"}),
    "plain_topics": frozenset({"count", "avoid"}),
    "plain_dialogue": frozenset({"topic", "rounds", "angle"}),
    "restyle": frozenset({"style", "question", "answer"}),
    "opening_character": frozenset({"name"}),
    "opening_person": frozenset({"name"}),
    "angles": frozenset(),
    "plain_angles": frozenset(),
    "outside": frozenset(),
}
# What a prompt must hold to make sense.
NEEDED: Mapping[str, frozenset[str]] = {
    "profile": frozenset({"name"}),
    "dialogue": frozenset({"name", "topic"}),
    "plain_dialogue": frozenset({"topic"}),
    "restyle": frozenset({"style", "answer"}),
}


@dataclass(frozen=True)
class Prompts:
    """The texts of one language."""

    texts: Mapping[str, str]

    def fill(self, prompt: str, /, **values: str | int) -> str:
        """Text `prompt` with its placeholders filled. What stands in the values is left as it is."""
        return PLACEHOLDER.sub(lambda found: str(values[found[1]]), self.texts[prompt])

    def lines(self, name: str) -> tuple[str, ...]:
        """A list's lines, without empty ones and comments (#)."""
        lines = (line.strip() for line in self.texts[name].splitlines())
        return tuple(line for line in lines if line and not line.startswith("#"))


def load(language: Language, folder: Path | None = None) -> Prompts:
    """Ours of `language`, each replaced by NAME.LANGUAGE.txt or NAME.txt of `folder` where it has one.

    Raises PromptError with the file, what is wrong in it, and what it may hold.
    """
    texts = {name: _ours(name, language) for name in PROMPTS}
    if folder is not None:
        texts |= _own(folder, language)
    return Prompts(texts)


def _ours(name: str, language: Language) -> str:
    return (resources.files(__package__) / "wording" / f"{name}.{language}.txt").read_text("utf-8").strip()


def _own(folder: Path, language: Language) -> dict[str, str]:
    if not folder.is_dir():
        raise PromptError(f"{folder} is no folder; --prompts wants one with {_names()}")
    own: dict[str, str] = {}
    for name in PROMPTS:
        paths = (folder / f"{name}.{language}.txt", folder / f"{name}.txt")
        path = next((one for one in paths if one.is_file()), None)
        if path is not None:
            own[name] = _read(path, name)
    if not own:
        raise PromptError(f"{folder} has no prompt; there are {_names()}")
    return own


def _read(path: Path, name: str) -> str:
    try:
        text = path.read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"{path} can't be read: {error}") from error
    used, may, must = set(PLACEHOLDER.findall(text)), PROMPTS[name], NEEDED.get(name, frozenset())
    known = ", ".join(f"{{{one}}}" for one in sorted(may)) or "none"
    if used - may:
        raise PromptError(f"{path}: {{{min(used - may)}}} is no placeholder of {name}; it may hold {known}")
    if must - used:
        raise PromptError(f"{path}: {{{min(must - used)}}} is missing; without it the model is not told what to do")
    if not text and name != "outside":
        raise PromptError(f"{path} is empty")
    return text


def _names() -> str:
    return ", ".join(f"{name}.txt" for name in PROMPTS)
