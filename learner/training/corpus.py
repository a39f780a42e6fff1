"""Reads dialogues or texts and turns them into rows of tokens, with what is to be learned marked in each.

A prompt is rendered exactly as the engine renders it. Knows nothing of torch or of training.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from learner.corpus.dialogues import Dialogue
from learner.engine.base import ChatMessage, EngineError
from learner.training.examples import Tokens, shorter
from learner.training.tuning import Kind, TrainingRefused

THOUGHT = re.compile(r"<think>.*?(</think>\s*|\Z)", re.DOTALL)
FAULTS_SHOWN = 20


class Renderer(Protocol):
    """What turns messages and texts into tokens: the model's tokenizer and chat template."""

    def prompt(self, messages: Sequence[ChatMessage]) -> Tokens: ...

    def reply(self, text: str) -> Tokens:
        """Tokens of a reply that ends itself, the end token included."""
        ...

    def plain(self, text: str) -> Tokens:
        """Tokens of a text of no chat, the end token included."""
        ...


@dataclass(frozen=True)
class Row:
    """Tokens [n] that are read in one go, and which of them are learned; the first never is."""

    tokens: NDArray[np.int32]
    learned: NDArray[np.bool_]

    @classmethod
    def of(cls, tokens: Sequence[int], learned: Sequence[bool]) -> Row:
        marks = np.array(learned, np.bool_)
        marks[:1] = False
        return cls(np.array(tokens, np.int32), marks)

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Probe:
    """A prompt that the model is asked during training, and what a person said to it, where somebody did."""

    messages: tuple[ChatMessage, ...]
    said: str = ""


@dataclass(frozen=True)
class Corpus:
    """What is trained on and what is held out, how much that is, and what could not be used.

    `held_from` are the held-out dialogues themselves, for probes; texts have none.
    """

    rows: tuple[Row, ...]
    held: tuple[Row, ...]
    held_from: tuple[Dialogue, ...]
    counts: Counter[str]
    faults: tuple[str, ...] = ()

    def tokens(self) -> int:
        """How many tokens are read in one epoch."""
        return sum(map(len, self.rows))

    def learned(self) -> int:
        """How many of them are learned."""
        return sum(int(row.learned.sum()) for row in self.rows)


@dataclass
class Reading:
    """How a corpus is to be read, and what has happened so far."""

    kind: Kind
    renderer: Renderer
    max_length: int
    keep_thinking: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def fault(self, where: str, reason: str) -> None:
        """Note what can't be used; the rest goes on."""
        self.counts["dropped"] += 1
        if len(self.faults) < FAULTS_SHOWN:
            self.faults.append(f"{where}: {reason}")


def read(
    paths: Sequence[Path], reading: Reading, held_out: float, most: int, told: Callable[[int], None] = lambda _: None
) -> Corpus:
    """Read all files. Which dialogues are held out hangs on their words alone. Raises TrainingRefused.

    `told` hears now and then how many lines were read.
    """
    units = list(_units(paths, reading, told))
    if not units:
        raise TrainingRefused(_nothing(paths, reading))
    shares = [_share(unit[0]) for unit in units]
    bar = _bar(shares, held_out, most)
    rows: list[Row] = []
    held: list[Row] = []
    held_from: list[Dialogue] = []
    for (_, made, dialogue), share in zip(units, shares, strict=True):
        (held if share <= bar else rows).extend(made)
        if share <= bar and dialogue is not None:
            held_from.append(dialogue)
    reading.counts["held_out"] = sum(share <= bar for share in shares)
    if not rows:
        raise TrainingRefused(f"all of {', '.join(map(str, paths))} is held out: more than one dialogue is needed")
    return Corpus(tuple(rows), tuple(held), tuple(held_from), reading.counts, tuple(reading.faults))


def digest(paths: Sequence[Path]) -> str:
    """What the files hold, as one SHA-256."""
    found = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(2**20):
                found.update(block)
        found.update(b"\0")
    return found.hexdigest()


def dialogue_rows(dialogue: Dialogue, reading: Reading) -> list[Row]:
    """The rows of a dialogue: replies to one growing prompt share a row, as long as their prompts are its beginning.

    Where a template writes earlier turns otherwise (or the row would grow too long), a new row begins.
    """
    renderer, room = reading.renderer, reading.max_length
    messages = dialogue.messages if reading.keep_thinking else tuple(map(unthinking, dialogue.messages))
    wanted = range(len(messages)) if dialogue.learned is None else sorted(dialogue.learned)
    rows: list[Row] = []
    tokens: list[int] = []
    learned: list[bool] = []
    for place in wanted:
        if messages[place].role != "assistant" or not messages[place].content.strip():
            continue
        reply = renderer.reply(messages[place].content)
        if len(reply) > room // 2:
            reply = reply[: room // 2]
            reading.counts["replies_cut"] += 1
        prompt = renderer.prompt(messages[:place])
        if not (len(prompt) + len(reply) <= room and list(prompt[: len(tokens)]) == tokens):
            rows += [Row.of(tokens, learned)] if tokens else []
            tokens, learned = [], []
            if len(prompt) + len(reply) > room:
                reading.counts["prompts_cut"] += 1
                prompt = shorter(messages[:place], renderer, room // 2)
        learned += [False] * (len(prompt) - len(tokens)) + [True] * len(reply)
        tokens = [*prompt, *reply]
        reading.counts["replies"] += 1
    return rows + ([Row.of(tokens, learned)] if tokens else [])


def text_rows(text: str, reading: Reading) -> list[Row]:
    """A text in rows of at most `max_length` tokens; each begins with the last one of the row before, and all learn."""
    tokens, room = reading.renderer.plain(text), reading.max_length
    parts = [tokens[start : start + room] for start in range(0, len(tokens), room - 1)]
    return [Row.of(part, [True] * len(part)) for part in parts if len(part) > 1]


def unthinking(message: ChatMessage) -> ChatMessage:
    """`message` without what a reasoning model thought before it spoke."""
    if message.role != "assistant" or "<think>" not in message.content:
        return message
    return replace(message, content=THOUGHT.sub("", message.content).lstrip())


def probes(corpus: Corpus, own: Sequence[str], most: int = 6) -> list[Probe]:
    """What to ask during training: what the settings name, else the first things that held-out dialogues say."""
    if own:
        return [Probe((ChatMessage("user", text),)) for text in own]
    found: dict[tuple[ChatMessage, ...], Probe] = {}
    for dialogue in corpus.held_from:
        place = next((i for i, one in enumerate(dialogue.messages) if one.role == "assistant" and i), None)
        if place is not None and len(found) < most:
            found.setdefault(
                dialogue.messages[:place], Probe(dialogue.messages[:place], dialogue.messages[place].content)
            )
    return list(found.values())


Unit = tuple[str, list[Row], Dialogue | None]


def _units(paths: Sequence[Path], reading: Reading, told: Callable[[int], None]) -> Iterator[Unit]:
    """What the files hold: by its words, as rows, and as a dialogue."""
    for where, line in _lines(paths, told):
        reading.counts["read"] += 1
        try:
            key, rows, dialogue = _dialogue(line, reading) if reading.kind == "sft" else _text(line, reading)
        except (ValueError, EngineError) as error:
            reading.fault(where, str(error))
            continue
        if not any(row.learned.any() for row in rows):
            reading.fault(where, "nothing in it is to be learned")
            continue
        yield key, rows, dialogue


def _dialogue(line: str, reading: Reading) -> Unit:
    dialogue = Dialogue.from_json(line)
    said = json.dumps([(one.role, one.content) for one in dialogue.messages])
    return said, dialogue_rows(dialogue, reading), dialogue


def _text(line: str, reading: Reading) -> Unit:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise ValueError('expected {"text": "…"}')
    return row["text"], text_rows(row["text"], reading), None


def _lines(paths: Sequence[Path], told: Callable[[int], None]) -> Iterator[tuple[str, str]]:
    """Every line that is not empty, with its file and number."""
    count = 0
    for path in paths:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8", errors="replace").strip()
                if line:
                    count += 1
                    if count % 1000 == 0:
                        told(count)
                    yield f"{path}:{number}", line


def _share(key: str) -> float:
    """Where between 0 and 1 a hash puts `key`: the same on every machine, whatever else the files hold."""
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "replace")).digest()[:8], "big") / 2**64


def _bar(shares: Sequence[float], held_out: float, most: int) -> float:
    """Up to which share a dialogue is held out: at least one is, and about `most` at most."""
    if held_out <= 0:
        return -1.0
    return max(min(shares), min(held_out, most / len(shares)))


def _nothing(paths: Sequence[Path], reading: Reading) -> str:
    why = f"; the first fault: {reading.faults[0]}" if reading.faults else ""
    wanted = "dialogues" if reading.kind == "sft" else "texts"
    return f"no {wanted} to train on in {', '.join(map(str, paths))}{why}"
