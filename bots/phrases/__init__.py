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
    """Load `language`, one of LANGUAGES: what is said in chats, and the words of a night's report."""
    folder, sentences = files("bots.phrases"), dict[str, str]()
    for name in (f"{language}.toml", f"report.{language}.toml"):
        sentences |= tomllib.loads(folder.joinpath(name).read_text("utf-8"))
    return Phrases(language, sentences)
