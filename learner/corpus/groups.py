"""Makes of a group's talk what one person says to another, or labels who speaks.

Knows nothing of turns. The bot answers in a group only when it is spoken to, so by default only that is learned
which surely answers one person: a reply that quotes a message or names a member, an answer to who named me, or
to the only one who spoke since I last did.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from learner.corpus.rows import TEXT, Said

Groups = Literal["directed", "labelled", "drop"]
REMEMBERED = 50  # messages of others that a reply may answer
NAMED = re.compile(r"[@＠]([^\s@＠\u2005]+)")  # WeChat ends a name with U+2005


def of_group(
    messages: Iterable[Said], how: Groups, within: int, me: Sequence[str], dropped: Counter[str]
) -> Iterator[Said]:
    """A group's `messages`, sorted by time, as `how` wants them; `me` are the names that others call me by."""
    if how == "directed":
        yield from _directed(messages, within, frozenset(me), dropped)
    elif how == "labelled":
        yield from (one._replace(text=one.text if one.mine else _label(one), group=False) for one in messages)
    else:
        dropped["group chat"] += sum(1 for _ in messages)


def _label(said: Said) -> str:
    """The words with their speaker as a prompt of the bot shows them: further lines are indented."""
    return f"{said.who}: {said.text.replace(chr(10), chr(10) + '  ')}" if said.who else said.text


def _directed(messages: Iterable[Said], within: int, me: frozenset[str], dropped: Counter[str]) -> Iterator[Said]:
    heard: deque[Said] = deque()
    answered, last = "", None  # whom I spoke to last, and when
    for said in messages:
        if not said.mine:
            heard.append(said)
            if len(heard) > REMEMBERED:
                heard.popleft()
                dropped["not said to me"] += 1
            continue
        going_on = last is not None and not heard and said.at - last <= within
        whom = answered if going_on else _answered(said, heard, within, me)
        if whom is None:
            dropped["answers nobody surely"] += 1
            continue
        chosen = [one for one in heard if one.who == whom and (said.at - one.at <= within or _quoted(one, said))]
        dropped["not said to me"] += len(heard) - len(chosen)
        heard.clear()
        yield from chosen
        yield said._replace(who=whom)
        answered, last = whom, said.at
    dropped["not said to me"] += len(heard)


def _answered(said: Said, heard: Iterable[Said], within: int, me: frozenset[str]) -> str | None:
    """Whom `said` answers; None where that is not sure."""
    recent = [one for one in heard if said.at - one.at <= within]
    if said.answers:
        return next((one.who for one in heard if _quoted(one, said)), None)
    named = NAMED.findall(said.text) if said.kind == TEXT else []
    if named:
        return next((one.who for one in reversed(recent) if one.who in named), None)
    called = [one.who for one in recent if me & set(NAMED.findall(one.text))]
    if called:
        return called[-1]
    speakers = {one.who for one in recent}
    return speakers.pop() if len(speakers) == 1 else None


def _quoted(one: Said, said: Said) -> bool:
    return bool(said.answers) and one.key == said.answers
