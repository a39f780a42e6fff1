"""Reads RoleBench rows and the profiles that go with them: role play, one question at a time.

Knows nothing of the bot.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from learner.corpus.dialogues import Dialogue
from learner.corpus.masking import HAN
from learner.corpus.opening import open_text
from learner.corpus.readers import Reading, Unreadable
from learner.corpus.readers.json_rows import json_rows
from learner.corpus.roles import system_prompt
from learner.corpus.rows import Dropped, Given, Row, malformed
from learner.engine.base import ChatMessage


def profiles_in(path: Path) -> dict[str, str]:
    """The profiles in a JSON file {role: description}. Raises Unreadable."""
    with open_text(path) as file:
        try:
            found = json.load(file)
        except ValueError as error:
            raise Unreadable(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
        raise Unreadable(f"{path}: expected profiles as {{role: description}}")
    return found


def read_rolebench(path: Path, reading: Reading) -> Iterator[Row]:
    """A row gives a dialogue for each answer that it holds."""
    profiles = dict(reading.profiles)
    for line, row in json_rows(path):
        yield row if isinstance(row, Dropped) else _row(row, line, path, profiles, reading.roles)


def _row(row: Any, line: int, path: Path, profiles: dict[str, str], wanted: tuple[str, ...]) -> Row:
    if not isinstance(row, dict) or not isinstance(row.get("role"), str) or not isinstance(row.get("question"), str):
        return malformed(line, "expected {role, question, generated}, role and question being texts")
    generated = row.get("generated")
    answers = [generated] if isinstance(generated, str) else generated
    if not isinstance(answers, list) or not all(isinstance(one, str) for one in answers):
        return malformed(line, "generated is to be a list of texts")
    role, question = row["role"], row["question"]
    if wanted and role not in wanted:
        return Dropped("another role")
    answers = [one for one in dict.fromkeys(answers) if one.strip()]
    if not answers or not question.strip():
        return Dropped("empty")
    profile = profiles.get(role, "")
    language = "zh" if HAN.search(profile or role) else "en"
    head = ChatMessage("system", system_prompt(role, profile, language)), ChatMessage("user", question)
    about = {"role": role} | ({"type": row["type"]} if row.get("type") else {})
    return Given(
        tuple(
            Dialogue((*head, ChatMessage("assistant", one)), f"rolebench:{path.name}", None, about) for one in answers
        )
    )
