"""What a model is told of who it is: the same words where it is trained and where it speaks.

Knows nothing of where names and profiles come from.
"""

from __future__ import annotations


def system_prompt(name: str, profile: str, language: str) -> str:
    """A persona's system prompt in "zh" or, in any other language, in English; empty where there is nothing to tell."""
    if language == "zh":
        return (f"你是{name}。" if name else "") + profile
    return ((f"You are {name}. " if name else "") + profile).strip()
