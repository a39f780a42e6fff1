"""Writes dialogues in the formats of other tools: Alpaca and ShareGPT, as LLaMA-Factory reads them.

Knows nothing of where the dialogues came from. Neither format has a place for which replies are learned: those
that are not are trained by other tools all the same, unless they mask the history.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from learner.corpus.dialogues import Dialogue

Format = Literal["alpaca", "sharegpt"]
NAMES = {"user": "human", "assistant": "gpt"}
Turns = list[tuple[str, str]]


def export(dialogues: Iterable[Dialogue], format: Format, path: Path) -> tuple[int, int]:
    """Write a JSON array, whole or not at all; how many rows, and how many dialogues had no answer to write."""
    as_row: Callable[[Dialogue], dict[str, Any] | None] = alpaca_row if format == "alpaca" else sharegpt_row
    written, left, unfinished = 0, 0, path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with unfinished.open("w", encoding="utf-8", newline="\n") as file:
        file.write("[")
        for row in map(as_row, dialogues):
            if row is None:
                left += 1
                continue
            file.write(("," if written else "") + "\n" + json.dumps(row, ensure_ascii=False))
            written += 1
        file.write("\n]\n")
    unfinished.replace(path)
    return written, left


def alpaca_row(dialogue: Dialogue) -> dict[str, Any] | None:
    """{instruction, input, output, system?, history?}; None for a dialogue in which nobody answers."""
    system, turns = alternating(dialogue)
    if not turns:
        return None
    pairs = [(turns[place][1], turns[place + 1][1]) for place in range(0, len(turns), 2)]
    row: dict[str, Any] = {"instruction": pairs[-1][0], "input": "", "output": pairs[-1][1]}
    row |= {"system": system} if system else {}
    return row | ({"history": [list(pair) for pair in pairs[:-1]]} if pairs[1:] else {})


def sharegpt_row(dialogue: Dialogue) -> dict[str, Any] | None:
    """{conversations: [{from, value}], system?}; None for a dialogue in which nobody answers."""
    system, turns = alternating(dialogue)
    if not turns:
        return None
    row: dict[str, Any] = {"conversations": [{"from": NAMES[role], "value": text} for role, text in turns]}
    return row | ({"system": system} if system else {})


def alternating(dialogue: Dialogue) -> tuple[str, Turns]:
    """The system prompt, and turns that go user, assistant, …, assistant, as these formats demand.

    Neighbours of one role are joined by a line break; an assistant that spoke first answers an empty text; what
    comes after the last answer is left out.
    """
    system = "\n".join(one.content for one in dialogue.messages if one.role == "system")
    turns: Turns = []
    for one in dialogue.messages:
        if one.role == "system":
            continue
        if turns and turns[-1][0] == one.role:
            turns[-1] = (one.role, f"{turns[-1][1]}\n{one.content}")
        else:
            turns.append((one.role, one.content))
    if turns and turns[0][0] == "assistant":
        turns.insert(0, ("user", ""))
    return system, turns[: len(turns) // 2 * 2]
