"""Whose word counts: noise counts less, malice nothing, the owner always; and nobody alone decides a night."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

import pytest
import torch

from learner.training import reward, teachers
from learner.training.agreement import wilson
from learner.training.examples import Example
from learner.training.reward import Comparison, Scale
from learner.training.teachers import Rules, Trust

SIZE = 16
SCALE = Scale(torch.zeros(SIZE, dtype=torch.float64), torch.ones(SIZE, dtype=torch.float64))
Said = tuple[list[Example], list[Comparison]]


def said_by(name: str, rightly: float = 1.0, count: int = 40, seed: int = 0, first: float = 0.0) -> Said:
    """Somebody's choices: the reply that is larger in the first feature, `rightly` so often, or just the first."""
    source, odds = torch.Generator().manual_seed(seed), random.Random(f"{name}/{seed}")
    examples, rows = [], []
    for number in range(count):
        better = torch.randn(SIZE, generator=source, dtype=torch.float64) / SIZE**0.5
        better = better if better[0] > 0 else -better
        side = odds.choice((1, 2))  # where the better one is shown
        right = side == 1 if odds.random() < first else odds.random() < rightly
        taken, exchange = side if right else 3 - side, f"{name}{number}"
        examples.append(Example("pair", (1,), ((2,), (3,)), exchange, teacher=name, side=taken))
        rows.append(Comparison(better if right else -better, True, False, exchange, name, 1.0, taken))
    return examples, rows


def asked_what_is_known(said: Said, rightly: int, of: int) -> Said:
    """The first `of` choices had an answer that was known, which `rightly` of them are."""
    examples, rows = list(said[0]), list(said[1])
    for number in range(of):
        taken = rows[number].side
        assert taken is not None
        rows[number] = dataclasses.replace(rows[number], expected=taken if number < rightly else 3 - taken)
    return examples, rows


def trusted(*said: Said, owners: Sequence[str] = (), **rules: int) -> dict[str, Trust]:
    examples, rows = together(said)
    found = teachers.trust(examples, (rows, SCALE), 0, Rules(frozenset(owners), **rules))
    return {one.teacher: one for one in found}


def together(said: Sequence[Said]) -> Said:
    return [one for examples, _ in said for one in examples], [row for _, rows in said for row in rows]


def crowd(honest: int, malicious: int, count: int = 40) -> list[Said]:
    good = [said_by(f"honest{k}", 1.0, count, seed=k) for k in range(honest)]
    return good + [said_by(f"malicious{k}", 0.0, count, seed=50 + k) for k in range(malicious)]


def kept(said: Sequence[Said], found: dict[str, Trust]) -> list[Comparison]:
    """The rows of what still counts, as a night would have them."""
    examples, rows = together(said)
    weights = {one.exchange: one.weight for one in teachers.weighed(examples, list(found.values()), ())}
    return [dataclasses.replace(row, weight=weights[row.exchange]) for row in rows if row.exchange in weights]


def test_who_always_picks_the_worse_counts_nothing() -> None:
    said = crowd(4, 1)
    found = trusted(*said)
    assert (found["malicious0"].state, found["malicious0"].weight) == ("contradicts", 0.0)
    assert all(one.weight > 0.6 and one.noise < 0.2 for name, one in found.items() if name.startswith("honest"))
    assert {row.teacher for row in kept(said, found)} == {f"honest{k}" for k in range(4)}


@pytest.mark.parametrize("camp", [1, 3])
def test_two_camps_of_one_size_teach_nothing(camp: int) -> None:
    said = crowd(camp, camp)
    rows = kept(said, trusted(*said))
    assert not rows or reward.fit(rows, SCALE, 0) is None


def test_two_camps_of_which_one_is_louder_are_told_apart_from_a_few_who_contradict() -> None:
    louder = [*crowd(2, 0, 60), said_by("quiet0", 0.2, 60, seed=8), said_by("quiet1", 0.2, 60, seed=9)]
    assert teachers.dissent(list(trusted(*louder).values())) == pytest.approx(0.5)
    assert teachers.dissent(list(trusted(*louder, owners=["honest0"]).values())) == 0
    assert teachers.dissent(list(trusted(*crowd(4, 1)).values())) == pytest.approx(0.2)
    by_habit = [*crowd(3, 0), *(said_by(f"typist{k}", first=1.0, seed=20 + k) for k in range(3))]
    assert teachers.dissent(list(trusted(*by_habit).values())) == 0


def test_between_two_camps_the_owner_decides() -> None:
    found = trusted(*crowd(2, 3), owners=["honest0"])
    assert (found["honest0"].weight, found["honest0"].noise, found["honest0"].state) == (1.0, 0.0, "owner")
    assert found["honest1"].weight > 0.6
    assert [found[f"malicious{k}"].weight for k in range(3)] == [0.0] * 3


def test_noise_counts_less_and_evenly() -> None:
    clean = trusted(*(said_by(f"t{k}", 1.0, 80, seed=k) for k in range(4)))
    noisy = trusted(*(said_by(f"t{k}", 0.8, 80, seed=k) for k in range(4)))
    weights = [one.weight for one in noisy.values()]
    assert max(weights) < min(one.weight for one in clean.values())
    assert min(weights) > 0
    assert max(weights) - min(weights) < 0.4
    assert min(one.noise for one in noisy.values()) > 0.1


def test_who_always_types_1_shows_in_the_intercept() -> None:
    found = trusted(*crowd(3, 0, 60), said_by("typist", count=60, seed=9, first=1.0))
    assert found["typist"].position > 1.5
    assert found["typist"].weight < 0.5
    assert all(abs(one.position) < 0.8 for name, one in found.items() if name != "typist")


def test_choices_for_the_side_that_somebody_favours_count_less_and_the_others_in_full() -> None:
    said = [said_by("half", first=0.5, count=200), *crowd(3, 0)]
    found = trusted(*said)
    half = found["half"]
    assert 0.3 < half.habit < 0.55  # at least so much of what is half
    assert half.favours == 1
    examples, _ = together(said)
    weights = {one.exchange: one.weight for one in teachers.weighed(examples, list(found.values()), ())}
    own = [(one.side, weights[one.exchange]) for one in examples if one.teacher == "half"]
    by_side = {side: {round(weight, 6) for other, weight in own if other == side} for side in (1, 2)}
    [favoured], [against] = by_side[1], by_side[2]
    assert favoured == pytest.approx(against * (1 - half.habit) / (1 + half.habit), rel=1e-3)
    assert all(one.habit < 0.1 for name, one in found.items() if name != "half")


def test_who_always_types_1_is_found_before_their_agreement_tells() -> None:
    said = [said_by("typist", first=1.0, count=14), *crowd(3, 0, count=14)]
    found = trusted(*said)
    assert found["typist"].habit > 0.5
    assert all(one.habit < 0.2 for name, one in found.items() if name != "typist")


def test_who_is_new_counts_little_unless_they_own() -> None:
    said = [*crowd(3, 0), said_by("new", count=5, seed=8), said_by("owner", count=5, seed=9)]
    found = trusted(*said, owners=["owner"])
    assert (found["new"].state, found["new"].weight) == ("quarantine", 0.25)
    assert found["owner"].weight == 1.0
    assert trusted(*said, quarantine=5)["new"].state == "trusted"


@pytest.mark.parametrize(
    ("rightly", "of", "state"),
    [(4, 4, "trusted"), (3, 3, "quarantine"), (4, 6, "quarantine"), (0, 4, "contradicts"), (1, 3, "quarantine")],
)
def test_who_is_new_is_told_by_what_was_known_before(rightly: int, of: int, state: str) -> None:
    new = asked_what_is_known(said_by("new", rightly / of, count=8, seed=8), rightly, of)
    found = trusted(*crowd(3, 0), new)["new"]
    assert (found.state, found.rightly, found.seeded) == (state, rightly, of)


def test_what_was_known_tells_where_nothing_else_can() -> None:
    few = [said_by(f"few{k}", count=2, seed=k) for k in range(3)]
    told = trusted(*few, asked_what_is_known(said_by("liar", count=5, seed=9), 0, 5), quarantine=10)
    assert (told["liar"].state, told["liar"].weight, told["liar"].compared) == ("contradicts", 0.0, 5)
    assert told["few0"].compared == 0


def test_who_has_said_enough_is_judged_by_all_of_it() -> None:
    found = trusted(*crowd(3, 0), asked_what_is_known(said_by("turned", count=40, seed=8), 0, 4))["turned"]
    assert found.state == "trusted"
    assert found.agreement is not None
    assert found.agreement < 1


def test_an_owner_counts_in_full_against_everybody() -> None:
    found = trusted(*crowd(3, 0), said_by("owner", 0.0, 8, seed=7), owners=["owner"])
    assert (found["owner"].weight, found["owner"].noise) == (1.0, 0.0)


def test_who_teaches_alone_is_believed() -> None:
    examples, _ = said_by("only", 0.5, 6)
    [alone] = teachers.trust(examples, None, 0, Rules())
    assert (alone.weight, alone.noise, alone.said) == (1.0, 0.0, 6)
    assert teachers.weighed(examples, [alone], ()) == examples


def test_without_a_reward_people_count_alike() -> None:
    examples, _ = together(crowd(2, 1))
    assert len({one.weight for one in teachers.trust(examples, None, 0, Rules())}) == 1


def test_the_same_records_give_the_same_weights() -> None:
    assert trusted(*crowd(3, 1)) == trusted(*crowd(3, 1))


@pytest.mark.parametrize("seed", range(20))
def test_nobody_but_an_owner_has_more_than_the_cap(seed: int) -> None:
    source = random.Random(seed)
    totals = {f"t{k}": source.random() * 10 ** source.randint(-2, 3) for k in range(source.randint(1, 30))}
    owners = {"t0"} if seed % 2 else set()
    factors = teachers.cap(totals, owners)
    after = {name: total * factors[name] for name, total in totals.items()}
    most = max(0.1, 2 / len(totals)) * sum(after.values()) * (1 + 1e-9)
    assert all(0 < factor <= 1 for factor in factors.values())
    assert all(total <= most for name, total in after.items() if name not in owners)
    assert all(factors[name] == 1 for name in totals if totals[name] < after[name] + 1e-12 or name in owners)
    uncapped = [name for name in totals if name not in owners and factors[name] < 1]
    assert all(after[name] == pytest.approx(most) for name in uncapped)  # and no more is taken than need be


def test_a_night_that_hangs_on_one_teacher_is_told() -> None:
    many = said_by("many", 1.0, 200)
    other = [dataclasses.replace(row, difference=row.difference.roll(1)) for row in said_by("other", 1.0, 60, 3)[1]]
    rows, drawn = [*many[1], *other], torch.randn(200, SIZE, generator=torch.Generator().manual_seed(5)).double()
    assert "many" in teachers.hanging(rows, SCALE, 0, drawn, (), 0.3)
    assert "many" not in teachers.hanging(rows, SCALE, 0, drawn, ("many",), 0.3)
    assert teachers.hanging(many[1], SCALE, 0, drawn, (), 0.3) == []
    assert teachers.hanging(together(crowd(4, 0))[1], SCALE, 0, drawn, (), 0.3) == []


def test_an_interval_is_wide_for_few_and_holds_the_share() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(9, 10)
    assert 0.5 < low < 0.9 < high < 1
    assert wilson(90, 100)[0] > low
