"""Duels: right under optional stopping, quick when there is something to see, blind to a person's side."""

from __future__ import annotations

import math
import random
from functools import cache
from itertools import pairwise

import pytest

from learner.duels import Decision, DuelRules, Offer, Score, decide, evidence, score
from learner.records import Feedback

RULES = DuelRules(min_duels=0, max_duels=400)
OPEN = DuelRules(min_duels=0, max_duels=10**9)
known_evidence = cache(evidence)


def said(number: int, value: str, *, teacher: str = "t", trusted: bool = True, kind: str = "choice") -> Feedback:
    return Feedback(number, "x", teacher, trusted, kind, value, "", float(number))  # type: ignore[arg-type]


def offer(*words: Feedback, loras: tuple[str | None, ...] = ("0002", "0001")) -> Offer:
    return Offer(loras, words)


def duel_until(won: list[bool]) -> tuple[str | None, int]:
    """Look after every duel, as the bot does: which threshold is crossed first, and when."""
    wins = 0
    for count, win in enumerate(won, 1):
        wins += win
        if known_evidence(wins, count - wins) >= RULES.threshold:
            return "promote", count
        if known_evidence(count - wins, wins) >= RULES.threshold:
            return "roll_back", count
    return None, len(won)


def many(share: float, runs: int, length: int) -> list[tuple[str | None, int]]:
    rng = random.Random(f"duels {share}")
    return [duel_until([rng.random() < share for _ in range(length)]) for _ in range(runs)]


def test_no_duel_is_no_evidence() -> None:
    assert evidence(0, 0) == pytest.approx(1.0)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (3, 1), (1, 4), (20, 20), (180, 150)])
def test_evidence_is_a_martingale_under_a_fair_coin(wins: int, losses: int) -> None:
    following = (evidence(wins + 1, losses) + evidence(wins, losses + 1)) / 2
    assert following == pytest.approx(evidence(wins, losses), rel=1e-9)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4, 0.49])
def test_evidence_is_expected_to_shrink_where_the_challenger_is_worse(share: float) -> None:
    mean = [
        math.fsum(math.comb(n, w) * share**w * (1 - share) ** (n - w) * evidence(w, n - w) for w in range(n + 1))
        for n in range(0, 41, 10)
    ]
    assert all(later < earlier for earlier, later in pairwise(mean))


def test_it_equals_the_integral_that_it_stands_for() -> None:
    steps = 20_000
    wins, losses = 17, 8
    shares = [0.5 + (step + 0.5) / (2 * steps) for step in range(steps)]
    prior = [2 * 6 * share * (1 - share) for share in shares]  # Beta(2, 2) on its upper half
    fortunes = [(2 * share) ** wins * (2 * (1 - share)) ** losses for share in shares]
    integral = math.fsum(p * f for p, f in zip(prior, fortunes, strict=True)) / (2 * steps)
    assert evidence(wins, losses) == pytest.approx(integral, rel=1e-6)


@pytest.mark.parametrize(("share", "wrong"), [(0.5, "promote"), (0.5, "roll_back"), (0.45, "promote")])
def test_looking_after_every_duel_errs_no_more_often_than_alpha(share: float, wrong: str) -> None:
    ended = many(share, 1000, 300)
    slack = 3 * math.sqrt(RULES.alpha * (1 - RULES.alpha) / len(ended))
    assert sum(outcome == wrong for outcome, _ in ended) / len(ended) <= RULES.alpha + slack


@pytest.mark.parametrize(("share", "median"), [(0.7, 36), (0.6, 149)])
def test_a_better_challenger_is_found_in_good_time(share: float, median: int) -> None:
    ended = many(share, 500, 400)
    counts = sorted(count if outcome == "promote" else 10**6 for outcome, count in ended)
    assert 0.7 * median < counts[len(counts) // 2] < 1.3 * median


def test_somebody_who_always_types_1_adds_only_noise() -> None:
    coin = random.Random(5)
    wrong = 0
    for _ in range(400):
        sides = [("0002", "0001") if coin.random() < 0.5 else ("0001", "0002") for _ in range(100)]
        won = [score([offer(said(1, "1"), loras=side)], "0002", "0001").wins == 1 for side in sides]
        wrong += duel_until(won)[0] is not None
    assert wrong / 400 <= 2 * RULES.alpha + 0.03


def test_sides_do_not_matter_and_a_base_can_be_the_champion() -> None:
    assert score([offer(said(1, "1"))], "0002", "0001") == Score(1, 0)
    assert score([offer(said(1, "1"), loras=("0001", "0002"))], "0002", "0001") == Score(0, 1)
    assert score([offer(said(1, "2"), loras=(None, "0002"))], "0002", None) == Score(1, 0)


@pytest.mark.parametrize(
    "words",
    [
        [said(1, "tie")],
        [said(1, "both_bad")],
        [said(1, "1", trusted=False)],
        [said(1, "1"), said(2, "", kind="retract")],
        [said(1, "1"), said(2, "", kind="correction")],
        [],
    ],
)
def test_what_is_no_duel(words: list[Feedback]) -> None:
    assert score([offer(*words)], "0002", "0001") == Score()


def test_offers_of_others_are_no_duels() -> None:
    others: list[tuple[str | None, ...]] = [("0002", "0002"), ("0002", None), ("0003", "0001"), ("0002",)]
    assert score([offer(said(1, "1"), loras=loras) for loras in others], "0002", "0001") == Score()


def test_the_newest_word_counts_and_a_rating_of_it_leaves_it() -> None:
    assert score([offer(said(1, "1"), said(2, "2"))], "0002", "0001") == Score(0, 1)
    assert score([offer(said(1, "1"), said(2, "good", kind="rating"))], "0002", "0001") == Score(1, 0)
    taken_back = said(3, "", kind="retract")
    assert score([offer(said(1, "1"), taken_back, said(4, "2"))], "0002", "0001") == Score(0, 1)


@pytest.mark.parametrize(
    ("standing", "days", "rules", "decision"),
    [
        (Score(9, 0), 1.0, DuelRules(), None),  # too few, however surely
        (Score(10, 0), 1.0, DuelRules(), "promote"),
        (Score(0, 10), 1.0, DuelRules(), "roll_back"),
        (Score(8, 8), 1.0, DuelRules(), None),
        (Score(8, 8), 15.0, DuelRules(), "promote"),
        (Score(7, 8), 15.0, DuelRules(), "roll_back"),
        (Score(8, 8), 15.0, DuelRules(undecided="roll_back"), "roll_back"),
        (Score(100, 100), 1.0, DuelRules(), "promote"),
        (Score(0, 0), 15.0, DuelRules(), "promote"),
    ],
)
def test_what_is_decided(standing: Score, days: float, rules: DuelRules, decision: Decision | None) -> None:
    assert decide(standing, days, rules) == decision


def test_long_runs_do_not_overflow() -> None:
    assert evidence(3000, 0) > 1e300
    assert decide(Score(0, 3000), 0.0, OPEN) == "roll_back"
