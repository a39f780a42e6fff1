"""Every sentence of the bot's own, by language. Knows nothing of when they are said."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

LANGUAGES = ("zh", "en")


@dataclass(frozen=True)
class Phrases:
    """The sentences of one language; `say` fills in what they name."""

    language: str
    sentences: dict[str, str]

    def say(self, key: str, **values: object) -> str:
        """The sentence `key` with its values. Raises KeyError for an unknown one."""
        return self.sentences[key].format(**values)


@cache
def phrases(language: str) -> Phrases:
    """Load `language`, one of LANGUAGES."""
    text = files("bots.phrases").joinpath(f"{language}.toml").read_text("utf-8")
    return Phrases(language, tomllib.loads(text))
