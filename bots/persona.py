"""Who the bot is: its system prompt and its greeting.

Knows nothing of history, models or platforms.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Persona:
    """A name, a profile and a greeting; all may be empty."""

    name: str = ""
    profile: str = ""
    greeting: str = ""

    def system_prompt(self, language: str) -> str:
        """What the model is told of itself; empty when there is nothing to tell."""
        if language == "zh":
            who = f"你是{self.name}。" if self.name else ""
            return who + self.profile
        who = f"You are {self.name}. " if self.name else ""
        return (who + self.profile).strip()


class CurrentPersona:
    """The persona that speaks now: as configured, or with the profile that the owner set meanwhile."""

    def __init__(self, configured: Persona) -> None:
        self._configured = configured
        self.now = configured

    def set_profile(self, profile: str) -> None:
        """Speak with `profile`; "" is the configured one again."""
        self.now = replace(self._configured, profile=profile) if profile else self._configured
