"""Reads files in any known format into one corpus, with a report in which every row is accounted for.

Knows nothing of the formats, and nothing of who is told about it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from learner.corpus import masking
from learner.corpus.cleaning import Cap, without_repeats
from learner.corpus.conversations import Chat, Conversation, Pacing
from learner.corpus.dialogues import Dialogue
from learner.corpus.digests import Counts
from learner.corpus.groups import Groups, of_group
from learner.corpus.media import FORWARDED, label
from learner.corpus.opening import writable
from learner.corpus.output import Output
from learner.corpus.readers import CHATS, Reading, Unreadable, detect, reader
from learner.corpus.report import Report, Tally
from learner.corpus.rows import TEXT, Dropped, Given, Said
from learner.corpus.spill import Spill
from learner.engine.base import ChatMessage

Progress = Callable[[int], None]
TOLD = 50_000  # rows between two words of progress


@dataclass(frozen=True)
class Wishes:
    """How to import. `cap`: how often the same reply is learned (0: always); `keep_media`: labels stand for it."""

    reading: Reading = field(default_factory=Reading)
    format: str = "auto"
    pacing: Pacing = field(default_factory=Pacing)
    groups: Groups = "directed"
    keep_media: bool = False
    keep_personal: bool = False
    cap: int = 20


def import_files(paths: Sequence[Path], output: Path, wishes: Wishes, progress: Progress = lambda rows: None) -> Report:
    """Write the corpus of `paths` to `output`. Raises Unreadable where a file can't be read at all."""
    if output.resolve() in (path.resolve() for path in paths):
        raise Unreadable(f"{output} is one of the files to read: name another --output")
    with Output(output) as written:
        return _Import(written, wishes, progress).run(paths)


class _Import:
    """One import while it runs."""

    def __init__(self, output: Output, wishes: Wishes, progress: Progress) -> None:
        self._output, self._wishes, self._progress = output, wishes, progress
        self._tally = Tally()
        self._seen = Counts()
        self._cap = Cap(wishes.cap)
        self._sources: set[str] = set()
        self._rows = 0

    def run(self, paths: Sequence[Path]) -> Report:
        spill = Spill()
        try:
            for path in paths:
                self._file(path, spill)
            for number, messages in spill.chats():
                self._chat(number, messages)
        finally:
            spill.close()
        return self._tally.report(self._wishes.reading.zone)

    def _file(self, path: Path, spill: Spill) -> None:
        name = detect(path) if self._wishes.format == "auto" else self._wishes.format
        before = self._rows
        for row in reader(name)(path, self._wishes.reading):
            self._rows += 1
            if self._rows % TOLD == 0:
                self._progress(self._rows)
            if isinstance(row, Said):
                spill.add(self._cleaned(row))
            elif isinstance(row, Dropped):
                self._tally.drop(row, path.name)
            else:
                self._given(row)
        if name in CHATS:
            self._sources.add(f"{name}:{path.name}")
        self._tally.source(path, name, self._rows - before)

    def _text(self, text: str) -> str:
        text = writable(text)
        if self._wishes.keep_personal:
            return text
        return masking.mask(text, self._tally.mask)

    def _cleaned(self, said: Said) -> Said:
        """`said` as it is kept: no personal data, and a label for what is no text where that is wanted."""
        text = self._text(said.text)
        if said.kind == TEXT:
            return said if text is said.text else said._replace(text=text)
        if said.kind == FORWARDED:
            return said._replace(text="")
        kind = TEXT if text.strip() else said.kind  # a picture with words
        if self._wishes.keep_media:
            text = label(said.kind, self._wishes.reading.language) + text
        return said._replace(text=text, kind=kind)

    def _given(self, row: Given) -> None:
        """A row of a dataset: it is kept when anything of it is new."""
        new = False
        for dialogue in row.dialogues:
            messages = tuple(ChatMessage(one.role, self._text(one.content)) for one in dialogue.messages)
            if self._seen.add(_said_by_all(messages)) == 1:
                kept = replace(dialogue, messages=messages)
                self._output.dialogue(kept)
                self._tally.dialogue(kept)
                new = True
        for text in map(self._text, row.texts):
            if self._seen.add(text) == 1:
                self._output.text(text)
                self._tally.texts += 1
                new = True
        if new:
            self._tally.kept += 1
        else:
            self._tally.reasons["duplicate"] += 1

    def _chat(self, number: int, messages: Iterator[Said]) -> None:
        wishes, dropped = self._wishes, Counter[str]()
        chat = Chat(wishes.pacing, self._cap, wishes.keep_media, dropped)
        clean = without_repeats(messages, dropped)
        first = next(clean, None)
        if first is not None:
            clean = _and_then(first, clean)
            if first.group:
                clean = of_group(clean, wishes.groups, wishes.pacing.reply_within, wishes.reading.me, dropped)
            for conversation in chat.read(clean):
                self._keep(conversation, number)
        self._tally.reasons.update(dropped)

    def _keep(self, conversation: Conversation, number: int) -> None:
        messages = conversation.messages
        if self._seen.add(_said_by_all(messages)) > 1:
            self._tally.reasons["duplicate"] += conversation.rows
            return
        about = {"chat": number, "at": conversation.turns[0].at}
        self._output.dialogue(Dialogue(messages, self._source(), conversation.learned, about))
        self._tally.dialogues += 1
        self._tally.kept += conversation.rows
        for turn in conversation.turns:
            if not turn.repeated:
                self._tally.messages(number, turn.at, turn.rows)
            if turn.mine and not turn.why_not:
                self._tally.reply(turn.text, turn.at)

    def _source(self) -> str:
        """Where a conversation is from: a chat may be in several files, so they are named where there is one."""
        return next(iter(self._sources)) if len(self._sources) == 1 else "chats"


def _said_by_all(messages: Sequence[ChatMessage]) -> str:
    return "\0".join(f"{one.role}\1{one.content}" for one in messages)


def _and_then(first: Said, rest: Iterator[Said]) -> Iterator[Said]:
    yield first
    yield from rest
