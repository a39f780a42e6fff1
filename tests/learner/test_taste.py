"""Taste: what is compared with what, and that a tie is no win."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from learner.training.canaries import Reply
from learner.training.logprobs import Row
from learner.training.taste import compared

PROMPTS = [(1,), (2,), (3,), (4,)]


def said(*tokens: int) -> list[Reply]:
    return [Reply(str(token), (token,), ended=True) for token in tokens]


def score(rows: Sequence[Row]) -> list[float]:
    """A reply is liked as its token is large."""
    return [float(reply[0]) for _, (reply,) in rows]


def test_replies_are_compared_prompt_by_prompt() -> None:
    figures = compared(score, PROMPTS, said(5, 5, 5, 5), said(4, 5, 6, 1), said(5, 6, 6, 6))
    assert (figures.count, figures.wins) == (4, 0.625)
    assert figures.over_anchor == pytest.approx(1.0)
    assert figures.over_champion == pytest.approx(-0.75)
    assert figures.over_champion_error == pytest.approx(0.25)


def test_without_a_champion_its_figures_are_zero() -> None:
    figures = compared(score, PROMPTS, said(5, 5, 5, 5), said(4, 4, 4, 4), None)
    assert (figures.over_champion, figures.over_champion_error) == (0.0, 0.0)
    assert (figures.wins, figures.over_anchor) == (1.0, 1.0)
