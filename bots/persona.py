"""Who the bot is: its system prompt, what it says first, and the personas that a chat can choose among.

Knows nothing of history, models or platforms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from learner.corpus import roles

DEFAULT = "-"  # what is said to have the bot's own persona back
Draw = Callable[[Sequence[str]], str]


@dataclass(frozen=True)
class Persona:
    """A name, a profile, a greeting, and openings of which one is drawn instead of it; all may be empty."""

    name: str = ""
    profile: str = ""
    greeting: str = ""
    first_words: tuple[str, ...] = ()

    def system_prompt(self, language: str) -> str:
        """What the model is told of itself; empty when there is nothing to tell."""
        return roles.system_prompt(self.name, self.profile, language)

    def opening(self, draw: Draw) -> str:
        """What it says when it speaks first; empty when it waits to be spoken to."""
        return draw(self.first_words) if self.first_words else self.greeting


class CurrentPersona:
    """The persona that speaks now: as configured, or with the profile that the owner set meanwhile.

    `others` are those that a chat can choose instead.
    """

    def __init__(self, configured: Persona, others: Sequence[Persona] = ()) -> None:
        self._configured = configured
        self._others = {persona.name: persona for persona in others}
        self.now = configured

    def set_profile(self, profile: str) -> None:
        """Speak with `profile`; "" is the configured one again."""
        self.now = replace(self._configured, profile=profile) if profile else self._configured

    @property
    def others(self) -> tuple[str, ...]:
        """The names that a chat can choose."""
        return tuple(self._others)

    def of(self, chosen: str) -> Persona:
        """The persona of a chat that chose `chosen`; the bot's own for "", and for one that config.toml lost."""
        return self._others.get(chosen, self.now)

    def meant_by(self, words: str) -> str | None:
        """The name that `words` choose, "" for the bot's own persona, None where nobody is called so."""
        said = words.strip().casefold()
        if said in {DEFAULT, self.now.name.casefold()} - {""}:
            return ""
        return next((name for name in self._others if name.casefold() == said), None)
