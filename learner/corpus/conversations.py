"""Turns the messages of one chat into conversations: whose turn it is, where one ends, which replies are learned.

Knows nothing of formats or files. `me` becomes the assistant, everybody else the user.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from learner.corpus.media import FORWARDED
from learner.corpus.rows import TEXT, Said
from learner.engine.base import ChatMessage

HOUR = 3600
PILE = 50  # messages of one person's turn that are kept: who wrote more without an answer had none


@dataclass(frozen=True)
class Pacing:
    """How a chat is cut, in seconds and in turns.

    `gap`: a silence longer than this ends a conversation. 6 hours: shorter than a night, so that a morning
    begins anew wherever midnight is, and longer than a class, a shift's half or a flight's silence.
    `reply_within`: what is said later than this after the other's last message is no reply to it; it stays as
    context but is not learned. 2 hours: people answer most of what they answer at all well within it.
    `longest`: a conversation of more turns is cut, and the `context` turns before the cut are repeated, unlearned.
    """

    gap: int = 6 * HOUR
    reply_within: int = 2 * HOUR
    longest: int = 40
    context: int = 6


@dataclass
class Turn:
    """What one side said until the other spoke."""

    mine: bool
    at: int
    last: int
    texts: list[str]
    worded: bool = True  # it is not all labels
    rows: int = 1
    judged: bool = False
    why_not: str = ""  # of one's own: the reason that it is no reply to learn; "" where it is
    repeated: bool = False  # it is another conversation's as well, and counted there

    @property
    def text(self) -> str:
        """All that was said, a line for each message."""
        return "\n".join(self.texts)

    def go_on(self, said: Said) -> None:
        """Take one more message."""
        self.texts.append(said.text)
        self.worded = self.worded or said.kind == TEXT
        self.rows += 1
        self.last = said.at

    def forget_first(self) -> None:
        """Leave out the oldest message."""
        del self.texts[0]
        self.rows -= 1


@dataclass(frozen=True)
class Conversation:
    """Turns that alternate and end with a reply that is learned."""

    turns: tuple[Turn, ...]

    @property
    def rows(self) -> int:
        """How many messages it holds that no other conversation holds."""
        return sum(turn.rows for turn in self.turns if not turn.repeated)

    @property
    def messages(self) -> tuple[ChatMessage, ...]:
        """The turns as a dialogue has them."""
        return tuple(ChatMessage("assistant" if turn.mine else "user", turn.text) for turn in self.turns)

    @property
    def learned(self) -> tuple[int, ...] | None:
        """The places of the replies that are learned; None: of all that are mine."""
        mine = [place for place, turn in enumerate(self.turns) if turn.mine]
        learned = tuple(place for place in mine if not self.turns[place].why_not)
        return None if len(learned) == len(mine) else learned


@dataclass
class Chat:
    """One chat as it is read: messages in, conversations out, and why the other messages were left out.

    `may_learn` is asked once for each reply, in order: it says no to one that was given too often already.
    Messages that are no text are left out, unless they are `labelled`: then their text stands for them.
    """

    pacing: Pacing
    may_learn: Callable[[str], bool]
    labelled: bool = False
    dropped: Counter[str] = field(default_factory=Counter)
    _turns: list[Turn] = field(default_factory=list)
    _unseen: bool = False  # the other's last word was left out: what follows answers something that isn't there
    _with: str = ""

    def read(self, messages: Iterable[Said]) -> Iterator[Conversation]:
        """The conversations in `messages`, which are one chat's and sorted by time."""
        for said in messages:
            shown = said.kind == TEXT or (self.labelled and said.kind != FORWARDED)
            if self._ends_before(said, shown):
                yield from self._end()
            self._with = said.who if said.group else ""
            if shown:
                self._take(said)
                if self._full():
                    yield from self._cut()
            else:
                self.dropped[said.kind] += 1
                self._unseen = self._unseen or (not said.mine and not self._others_turn())
        yield from self._end()

    def _ends_before(self, said: Said, shown: bool) -> bool:
        if not self._turns:
            return False
        last = self._turns[-1]
        silence = said.at - last.last
        if silence > self.pacing.gap or (said.group and said.who != self._with):
            return True
        again = last.mine and silence > self.pacing.reply_within  # a new topic of one's own
        return said.mine and shown and (self._unseen or again)

    def _take(self, said: Said) -> None:
        last = self._turns[-1] if self._turns else None
        self._unseen = False
        if last is not None and last.mine == said.mine:
            last.go_on(said)
            if not last.mine and len(last.texts) > PILE:
                last.forget_first()
                self.dropped["unanswered"] += 1
            return
        turn = Turn(said.mine, said.at, said.at, [said.text], said.kind == TEXT)
        if said.mine:
            late = last is not None and said.at - last.last > self.pacing.reply_within
            turn.why_not = "answers nothing" if last is None else "late reply" if late else ""
        self._turns.append(turn)

    def _others_turn(self) -> bool:
        return bool(self._turns) and not self._turns[-1].mine

    def _full(self) -> bool:
        """Whether the next turn of the other begins one too many; what is mine may still go on."""
        return len(self._turns) > self.pacing.longest and self._others_turn()

    def _cut(self) -> Iterator[Conversation]:
        """End the conversation before the turn that has just begun, which goes on with what came before it."""
        begun = self._turns.pop()
        ended, rest = self._split()
        if ended:
            yield Conversation(tuple(ended))
        if len(rest) > self.pacing.longest:
            self._drop(rest)
            rest = []
        shown = [replace(one, repeated=True, why_not="repeated") for one in ended[-self.pacing.context or len(ended) :]]
        while shown and shown[0].mine:
            del shown[0]
        self._turns = [*shown, *rest, begun]

    def _end(self) -> Iterator[Conversation]:
        """What was said until now, up to the last reply that is learned."""
        ended, rest = self._split()
        self._drop(rest)
        self._turns, self._unseen = [], False
        if ended:
            yield Conversation(tuple(ended))

    def _split(self) -> tuple[list[Turn], list[Turn]]:
        """The turns up to the last reply that is learned, and those after it."""
        for turn in self._turns:
            if turn.mine and not turn.why_not and not turn.judged:
                turn.judged = True
                turn.why_not = self._why_not(turn)
        learned = [place for place, turn in enumerate(self._turns) if turn.mine and not turn.why_not]
        end = learned[-1] + 1 if learned else 0
        return self._turns[:end], self._turns[end:]

    def _why_not(self, turn: Turn) -> str:
        if not turn.worded:
            return "no words"
        return "" if self.may_learn(turn.text) else "said too often"

    def _drop(self, turns: Iterable[Turn]) -> None:
        for turn in turns:
            if not turn.repeated:
                self.dropped[turn.why_not or "unanswered"] += turn.rows
