"""A prompt holds as much history as fits, cut in blocks, so that its beginning stays the same for a while."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bots.conversations import BLOCK, MessageTooLong, build
from learner.engine.base import ChatMessage
from learner.engine.scripted import encode
from learner.store.rows import Place, Turn
from learner.store.store import Store


def turns(count: int) -> list[Turn]:
    """Questions and the replies of exchanges."""
    return [
        Turn("user", "p", f"turn {n}", None, float(n)) if n % 2 == 0 else Turn("assistant", "", f"turn {n}", f"e{n}", n)
        for n in range(count)
    ]


def render(messages: Sequence[ChatMessage]) -> tuple[int, ...]:
    return encode(messages)


def test_everything_fits() -> None:
    prompt = build("be kind", turns(4), "hello", render, 10_000)
    assert [message.content for message in prompt.messages] == ["be kind", *(f"turn {n}" for n in range(4)), "hello"]
    assert prompt.token_ids == encode(prompt.messages)


def test_history_goes_in_blocks_from_its_start() -> None:
    whole = len(render(build("", turns(40), "hello", render, 10**6).messages))
    firsts = set()
    for budget in range(whole - 40, whole, 5):
        prompt = build("", turns(40), "hello", render, budget)
        assert len(prompt.token_ids) <= budget
        firsts.add(prompt.messages[0].content)
    assert firsts <= {f"turn {n}" for n in range(BLOCK, 40, BLOCK)}


def test_a_prompt_begins_with_a_person() -> None:
    prompt = build("", turns(4)[1:], "hello", render, 10_000)
    assert prompt.messages[0].role == "user"


def test_a_greeting_may_stand_before_a_person() -> None:
    greeting = Turn("assistant", "", "welcome", None, 0.0)
    prompt = build("be kind", [greeting, *turns(2)], "hello", render, 10_000)
    assert [message.role for message in prompt.messages] == ["system", "assistant", "user", "assistant", "user"]
    reply = Turn("assistant", "", "late", "e0", 0.0)
    assert build("", [reply, greeting], "hello", render, 10_000).messages[0].content == "welcome"


def test_a_message_that_can_not_fit_is_refused() -> None:
    with pytest.raises(MessageTooLong):
        build("", turns(4), "x" * 500, render, 100)


def test_a_long_chat_keeps_its_first_turn_for_a_block(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'n.db'}")
    place = Place("b", "p", "c")
    from learner.store import history

    firsts = []
    for turn in turns(40):
        with store._database.write() as c:
            history.add(c, "default", place, replace(turn, exchange=None))
        firsts.append(store.history(place, 10, BLOCK)[0].text)
    store.close()
    assert len(set(firsts)) == 1 + (40 - 10) // BLOCK
