"""The gate: each fault refuses with its reason, a wanted change passes."""

from __future__ import annotations

import dataclasses
import math
import random
import statistics

import pytest

from learner import gate
from learner.engine.base import ChatMessage
from learner.figures import (
    LN2,
    GateFigures,
    LeakFigures,
    LengthFigures,
    TasteFigures,
    VarietyFigures,
    preference_figures,
    softplus,
    student_quantile,
    variety_figures,
)
from learner.gate import GateSettings
from learner.training.canaries import Canary, CanaryFigures, Reply, apart, strayed

SETTINGS = GateSettings()


def canary(right: float = 0.96) -> CanaryFigures:
    return CanaryFigures(500, right, right, 1.0, 1.0, 1.0)


def good(**changes: object) -> GateFigures:
    """Figures of a night that went well."""
    margins = [0.8, 1.2, 0.3, 0.9, 1.5, 0.7, 0.2, 1.1]
    figures = GateFigures(
        canary=canary(0.955),
        canary_anchor=canary(),
        canary_champion=canary(),
        sampled=canary(0.93),
        sampled_anchor=canary(0.93),
        preference=preference_figures(margins, 8),
        kl_per_token=0.2,
        kl_per_reply=2.4,
        length=LengthFigures(12.0, 0.3, 12.5, 12.2, 1.5, 8),
        leak=LeakFigures(280, 0, 12, 0.8),
        variety=VarietyFigures(250, 0.97, 0.02),
        variety_anchor=VarietyFigures(250, 0.99, 0.01),
    )
    return dataclasses.replace(figures, **changes)


def test_a_good_night_passes() -> None:
    assert gate.reasons_to_refuse(good(), SETTINGS) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"canary": canary(0.93), "canary_champion": None}, "against the anchor"),
        ({"canary": canary(0.945), "canary_champion": canary(0.99)}, "against the champion"),
        ({"sampled": CanaryFigures(600, 0.9, 0.92, 0.97, 1.0, 1.0)}, "language fell"),
        ({"sampled": CanaryFigures(600, 0.9, 0.92, 1.0, 0.97, 1.0)}, "ended fell"),
        ({"sampled": CanaryFigures(600, 0.905, 0.905, 1.0, 1.0, 1.0)}, "content fell"),
        ({"leak": LeakFigures(280, 1, 12, 0.5)}, "1 of 280 replies tell what was told in another chat"),
        ({"leak": LeakFigures(280, 0, 12, 9.0)}, "known by heart: 9.0 nats"),
        ({"leak": LeakFigures(280, 0, 12, math.nan)}, "known by heart"),
        ({"variety": VarietyFigures(250, 0.97, 0.2)}, "one and the same"),
        ({"strayed": 0.03, "strayed_count": 256}, "3.0 % of replies are in another language"),
        ({"variety": VarietyFigures(250, 0.6, 0.02)}, "only 60 % of replies to different prompts differ"),
        ({"preference": preference_figures([1.0, 1.0, 1.0], 3)}, "only 3 records"),
        ({"preference": preference_figures([0.9, -1.0, 0.8, -0.7, 0.5, -0.2], 6)}, "does not surely go with"),
        ({"kl_per_token": 2.0}, "budget"),
        ({"kl_per_token": math.nan}, "not finite"),
        ({"length": LengthFigures(4.0, 0.2, 12.5, 12.2, 0.5, 8)}, "the anchor's have"),
        ({"length": LengthFigures(17.0, 0.2, 12.5, 12.2, 0.3, 40)}, "the chosen ones have"),
    ],
)
def test_every_fault_is_a_reason(changes: dict[str, object], reason: str) -> None:
    [found] = gate.reasons_to_refuse(good(**changes), SETTINGS)
    assert reason in found


def test_replies_on_the_way_to_shorter_ones_are_not_at_fault() -> None:
    on_the_way = LengthFigures(10.0, 0.1, 12.5, 6.0, 0.1, 200)
    assert gate.reasons_to_refuse(good(length=on_the_way), SETTINGS) == []


def test_the_anchor_itself_shows_nothing() -> None:
    figures = preference_figures([0.0] * 20, 20)
    assert figures.loss == pytest.approx(LN2)
    assert gate.reasons_to_refuse(good(preference=figures), SETTINGS) != []


def test_hardly_anything_learned_is_nothing_however_sure() -> None:
    figures = preference_figures([0.001, 0.0011] * 50, 100)
    assert figures.gain > 10 * figures.error
    assert gate.reasons_to_refuse(good(preference=figures), SETTINGS) != []


def test_coin_flips_rarely_pass_and_a_real_preference_mostly_does() -> None:
    source = random.Random(0)

    def passes(mean: float) -> float:
        count = 0
        for _ in range(400):
            margins = [source.gauss(mean, 1.0) for _ in range(30)]
            figures = preference_figures(margins, 30)
            count += not gate.reasons_to_refuse(good(preference=figures), SETTINGS)
        return count / 400

    assert passes(0.0) < 0.01
    assert passes(1.0) > 0.85


def test_a_weak_taste_shows_in_what_is_said_before_it_shows_in_the_log_loss() -> None:
    source = random.Random(1)

    def said(known: float) -> float:
        """The log-odds of what is said about a pair, by a reward that knows so much of why."""
        margin = source.gauss(0.0, 0.6)
        return margin if source.random() < 1 / (1 + math.exp(-known * margin)) else -margin

    taste = [preference_figures([said(1.0) for _ in range(400)], 400) for _ in range(100)]
    by_words = statistics.fmean(one.evidence / one.evidence_error for one in taste)
    by_loss = statistics.fmean(one.gain / one.error for one in taste)
    assert 1.6 * by_loss < by_words < 2.4 * by_loss
    coins = [preference_figures([said(0.0) for _ in range(400)], 400) for _ in range(400)]
    assert statistics.fmean(one.evidence / one.evidence_error for one in coins) == pytest.approx(0, abs=0.15)
    assert sum(not gate.reasons_to_refuse(good(preference=one), SETTINGS) for one in coins) <= 1


def test_who_calls_everything_good_is_no_evidence() -> None:
    figures = preference_figures([0.8, 0.9, 0.7, 1.0] * 10, 0, anyway=[1.0] * 40)
    assert (figures.evidence, figures.accuracy) == (0, 1)
    assert preference_figures([0.8, 0.9, 0.7, 1.0] * 10, 40).evidence == pytest.approx(0.425)


@pytest.mark.parametrize(("degrees", "exact"), [(4, 1.533), (7, 1.415), (15, 1.341), (60, 1.296)])
def test_student_quantile(degrees: int, exact: float) -> None:
    assert student_quantile(0.90, degrees) == pytest.approx(exact, rel=0.01)


def test_softplus_neither_overflows_nor_loses() -> None:
    assert softplus(1000.0) == 1000.0
    assert softplus(-1000.0) == 0.0
    assert softplus(0.0) == pytest.approx(math.log(2))


def test_records_that_say_little_do_not_drown_those_that_say_much() -> None:
    pairs, noise = [1.0, 0.6, 0.9, 1.2, 0.7, 0.8], [0.5, -0.6] * 20
    alike = preference_figures(pairs + noise, 6)
    weighed = preference_figures(pairs + noise, 6, [1.0] * 6 + [0.05] * 40)
    alone = preference_figures(pairs, 6)
    assert gate.reasons_to_refuse(good(preference=alike), SETTINGS) != []
    assert gate.reasons_to_refuse(good(preference=weighed), SETTINGS) == []
    assert alone.gain > weighed.gain > alike.gain
    assert alone.effective == 6
    assert 6 < weighed.effective < 46
    assert preference_figures(pairs, 0, [0.0] * 6).gain == 0


def tasted(**changes: float) -> GateFigures:
    return good(
        taste=TasteFigures(**{"count": 256, "wins": 0.7, "over_anchor": 0.8, "over_anchor_error": 0.05} | changes)
    )


def test_replies_that_please_less_than_the_champions_are_refused() -> None:
    assert gate.reasons_to_refuse(tasted(over_champion=0.1, over_champion_error=0.02), SETTINGS) == []
    [reason] = gate.reasons_to_refuse(tasted(over_champion=-0.1, over_champion_error=0.02), SETTINGS)
    assert "less than the champion's" in reason


@pytest.mark.parametrize("over", [-0.1, 0.1, math.nan])
def test_replies_that_do_not_surely_please_more_than_the_anchors_are_refused(over: float) -> None:
    assert gate.reasons_to_refuse(tasted(), SETTINGS) == []
    [reason] = gate.reasons_to_refuse(tasted(over_anchor=over, over_anchor_error=0.05), SETTINGS)
    assert "more than the anchor's" in reason


def test_two_camps_are_refused_and_a_few_who_contradict_are_not() -> None:
    assert gate.split(0.2, SETTINGS).held
    assert "two minds: 50 %" in gate.split(0.5, SETTINGS).fault
    assert not gate.split(0.5, SETTINGS).held
    assert gate.split(0.5, gate.PRESETS["off"]).held


def test_the_stricter_a_preset_the_more_it_asks() -> None:
    off, normal, strict = (gate.PRESETS[name] for name in ("off", "normal", "strict"))
    fallen = dataclasses.replace(good().canary_anchor, right=good().canary_anchor.right - 0.015)
    assert [gate.reasons_to_refuse(good(canary=fallen), one) for one in (off, normal)] == [[], []]
    assert any("canaries" in reason for reason in gate.reasons_to_refuse(good(canary=fallen), strict))
    nothing = preference_figures([0.1, -0.1] * 20, 40)
    assert gate.reasons_to_refuse(good(preference=nothing), off) == []
    assert gate.reasons_to_refuse(good(preference=nothing), normal) != []


@pytest.mark.parametrize(("apart", "draws"), [(0.0, 1200), (0.01, 1200), (0.1, 1353), (0.2, 2706), (0.4, 3200)])
def test_the_less_two_draws_agree_the_more_are_drawn(apart: float, draws: int) -> None:
    assert gate.draws_needed(apart, gate.PRESETS["normal"]) == draws


def test_an_equal_model_seldom_seems_worse_by_what_the_gate_allows() -> None:
    settings, rng = gate.PRESETS["normal"], random.Random(0)
    for right in (0.99, 0.95, 0.9):
        draws, nights = gate.draws_needed(2 * right * (1 - right), settings), 400
        seen = [[sum(rng.random() < right for _ in range(draws)) / draws for _ in range(2)] for _ in range(nights)]
        assert sum(first - second > settings.sampled_drop for first, second in seen) <= 0.025 * nights


def test_even_a_gate_that_is_off_lets_no_broken_numbers_speak() -> None:
    assert gate.reasons_to_refuse(good(kl_per_token=math.nan), gate.PRESETS["off"]) != []
    silent = dataclasses.replace(good().sampled, ended=0.2)
    assert gate.reasons_to_refuse(good(sampled=silent), gate.PRESETS["off"]) != []


def test_even_a_gate_that_is_off_lets_nothing_tell_what_another_chat_told() -> None:
    assert gate.reasons_to_refuse(good(leak=LeakFigures(280, 1, 12, 0.5)), gate.PRESETS["off"]) != []
    known = good(leak=LeakFigures(280, 0, 12, 4.0))
    refused = [bool(gate.reasons_to_refuse(known, gate.PRESETS[name])) for name in ("off", "normal", "strict")]
    assert refused == [False, False, True]


def test_two_alike_of_a_few_replies_are_chance_and_a_night_without_private_words_is_not_probed() -> None:
    few = good(variety=VarietyFigures(8, 0.875, 0.25), variety_anchor=VarietyFigures(8, 1.0, 0.125))
    assert gate.reasons_to_refuse(few, SETTINGS) == []
    assert gate.reasons_to_refuse(good(strayed=0.25, strayed_count=8), SETTINGS) == []
    kinds = {check.kind for check in gate.checks(good(leak=LeakFigures()), SETTINGS)}
    assert not kinds & {"leak", "exposure"}


@pytest.mark.parametrize(
    ("per_token", "pleases", "held"),
    [(0.24, 0.1, True), (0.3, 1.0, False), (0.3, 1.9, True), (0.59, 9.0, True), (0.61, 9.0, False)],
)
def test_what_goes_far_pleases_for_it(per_token: float, pleases: float, held: bool) -> None:
    taste = TasteFigures(256, 0.8, pleases, 0.01, 0.0, 0.0)
    moved = good(kl_per_token=per_token, kl_per_reply=12 * per_token, taste=taste)
    assert [check.held for check in gate.checks(moved, SETTINGS) if check.kind == "kl"] == [held]


def test_variety_counts_what_is_said_to_different_prompts() -> None:
    assert variety_figures(["a", "b", "a", "c"]) == VarietyFigures(4, 0.75, 0.5)
    assert variety_figures([]).commonest == 0


def test_a_reply_strays_where_its_language_is_not_the_anchors() -> None:
    made = [Reply(text, (), True) for text in ("你好", "hello there", "123", "hello")]
    anchor = [Reply(text, (), True) for text in ("hi there", "hey you", "你好", "你好")]
    assert strayed(made, anchor) == 0.5
    assert strayed([], []) == 0


def test_two_draws_of_a_canary_are_apart_where_one_is_right() -> None:
    canary = Canary((ChatMessage("user", "capital of France?"),), ("Paris",), "en")
    said = ["Paris it is.", "It is Rome.", "Paris it is.", "It is Rome.", "Paris it is.", "Paris it is."]
    replies = [Reply(text, (1,), ended=True) for text in said]
    assert apart([canary] * 6, replies, 3) == pytest.approx(2 / 3)
    assert apart([canary] * 5, replies[:5], 3) == 1.0
    assert apart([canary] * 3, replies[:3], 3) is None
