"""Writes canaries.jsonl: what a night may not unlearn in a model that brings no canaries of its own.

From facts.toml and small sums. Knows nothing of models or gates. Run: python data/canaries/make.py
"""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LANGUAGES = ("zh", "en")
SUMS = 20  # of each kind
ASKED = {
    "+": {"zh": "{}加{}等于多少？", "en": "What is {} plus {}?"},
    "-": {"zh": "{}减{}等于多少？", "en": "What is {} minus {}?"},
    "*": {"zh": "{}乘{}等于多少？", "en": "What is {} times {}?"},
}


def row(prompt: str, any_of: list[str], language: str | None, intent: str) -> dict[str, Any]:
    """One canary."""
    said = [{"role": "user", "content": prompt}]
    return {"prompt": said, "any_of": any_of, "language": language, "intent": intent}


def told(intent: str, table: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every fact of a table in every question, in both languages."""
    for fact in table["facts"]:
        for place, language in enumerate(LANGUAGES):
            subject, right = fact[place], fact[2 + place]
            for question in table[language] if subject else ():
                yield row(question.replace("{}", subject), right, None if table.get("digits") else language, intent)


def sums() -> Iterator[dict[str, Any]]:
    """Small sums, always the same ones."""
    rng = random.Random(0)
    for kind, asked in ASKED.items():
        made = set[tuple[int, int]]()
        while len(made) < SUMS:
            first, second = (rng.randint(2, 9) if kind == "*" else rng.randint(3, 49) for _ in range(2))
            made.add((max(first, second), min(first, second)))
        for first, second in sorted(made):
            right = first + second if kind == "+" else first - second if kind == "-" else first * second
            for language in LANGUAGES if str(right) not in (str(first), str(second)) else ():
                yield row(asked[language].format(first, second), [str(right)], None, "sum")


def canaries() -> list[dict[str, Any]]:
    """All of them."""
    tables = tomllib.loads((HERE / "facts.toml").read_text("utf-8"))
    return [*(one for intent, table in tables.items() for one in told(intent, table)), *sums()]


def main() -> None:
    """Write them."""
    lines = [json.dumps(one, ensure_ascii=False) for one in canaries()]
    (HERE / "canaries.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    print(f"{len(lines)} canaries")


if __name__ == "__main__":
    main()
