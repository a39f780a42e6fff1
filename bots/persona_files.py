"""Reads personas from a JSON file of profiles, {name: description}, as RoleBench publishes them.

Knows nothing of bots or settings.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

# One line, and nothing that /persona takes for something else.
NAME = re.compile(r"(?![-=/\s])[^\x00-\x1f\x7f]{1,40}(?<!\s)")
RULE = "a persona's name has 1 to 40 characters on one line and begins with none of - = /"


def checked(name: str) -> str:
    """`name`. Raises ValueError where /persona could not choose it."""
    if not NAME.fullmatch(name):
        raise ValueError(RULE)
    return name


def profiles(path: Path) -> dict[str, str]:
    """Name -> profile, in the file's order. Raises ValueError with every fault."""
    try:
        told = json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON in UTF-8: {error}") from error
    if not isinstance(told, dict):
        raise ValueError(f'{path} must hold one JSON object, {{"name": "profile", …}}')
    wrong = [name for name, profile in told.items() if not NAME.fullmatch(name) or not isinstance(profile, str)]
    if wrong:
        raise ValueError(f"{path}: {', '.join(map(repr, wrong))}: {RULE}, and a profile is text")
    return told
