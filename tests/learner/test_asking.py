"""What a pair of replies would teach: exact for few features, kept and read whole, and of use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from learner import asking

RNG = np.random.default_rng(0)
X, WEIGHTS = RNG.normal(size=(12, 20)), RNG.uniform(0.2, 1.0, size=12)
DIRECTION, SCALE, PENALTY = RNG.normal(size=20), RNG.uniform(0.5, 2.0, size=20), 0.3


def known() -> asking.Known:
    return asking.known(X, WEIGHTS, DIRECTION, SCALE, PENALTY)


def test_it_is_the_information_of_a_logistic_regression() -> None:
    first, second = RNG.normal(size=20), RNG.normal(size=20)
    likely = 1 / (1 + np.exp(-X @ DIRECTION))
    bend = X.T @ np.diag(WEIGHTS * likely * (1 - likely)) @ X + PENALTY * np.eye(20)
    x = (first - second) * SCALE
    p = 1 / (1 + np.exp(-x @ DIRECTION))
    assert known().worth(first, second) == pytest.approx(p * (1 - p) * x @ np.linalg.inv(bend) @ x, rel=1e-3)
    assert known().worth(first, second) == pytest.approx(known().worth(second, first), rel=1e-2)


def test_replies_that_are_alike_teach_nothing_and_a_sure_outcome_little() -> None:
    one = RNG.normal(size=20)
    assert known().worth(one, one) == 0
    along = DIRECTION / SCALE / (DIRECTION @ DIRECTION)
    open_, sure = known().worth(one + 0.1 * along, one), known().worth(one + 20 * along, one)
    assert sure < open_


def test_what_was_judged_often_teaches_less_than_what_was_not() -> None:
    judged, fresh = np.eye(20)[0], np.eye(20)[1]
    after = asking.known(np.tile(judged, (50, 1)), np.ones(50), np.zeros(20), np.ones(20), PENALTY)
    assert after.worth(judged, 0 * judged) < 0.1 * after.worth(fresh, 0 * fresh)


def test_it_is_read_as_it_was_kept(tmp_path: Path) -> None:
    known().save(tmp_path)
    again = asking.load(tmp_path)
    assert again is not None
    assert again.worth(X[0], X[1]) == pytest.approx(known().worth(X[0], X[1]))


@pytest.mark.parametrize("fault", ["missing", "half", "lacking", "nan", "shape"])
def test_what_cannot_be_read_is_not_known(tmp_path: Path, fault: str) -> None:
    known().save(tmp_path)
    file = tmp_path / asking.FILE
    held = load_file(file)
    if fault == "missing":
        file.unlink()
    elif fault == "half":
        file.write_bytes(file.read_bytes()[:100])
    elif fault == "lacking":
        save_file({name: one for name, one in held.items() if name != "axes"}, file)
    elif fault == "nan":
        save_file(held | {"direction": held["direction"] * np.float32(np.nan)}, file)
    else:
        save_file(held | {"scale": held["scale"][:-1]}, file)
    assert asking.load(tmp_path) is None


def test_asking_for_worth_learns_a_taste_from_fewer_choices() -> None:
    """Of pairs that mostly differ in what nobody cares for, those that are worth asking about show the taste sooner."""
    taste, spread = np.eye(20)[0], np.r_[0.3, np.full(19, 0.3)]
    fresh = RNG.normal(size=(500, 20)) * spread

    def learned(worth: bool, seed: int) -> float:
        rng, answered = np.random.default_rng(seed), np.empty((0, 20))
        now = asking.known(np.zeros((1, 20)), np.zeros(1), np.zeros(20), np.ones(20), PENALTY)
        for _ in range(30):
            pool = rng.normal(size=(6, 20)) * spread
            x = max(pool, key=lambda one: now.worth(one, 0 * one)) if worth else pool[0]
            answered = np.vstack([answered, x if x @ taste > 0 else -x])
            direction = np.zeros(20)
            for _ in range(8):
                p = 1 / (1 + np.exp(-answered @ direction))
                bend = answered.T @ np.diag(p * (1 - p)) @ answered + PENALTY * np.eye(20)
                direction += np.linalg.solve(bend, answered.T @ (1 - p) - PENALTY * direction)
            now = asking.known(answered, np.ones(len(answered)), direction, np.ones(20), PENALTY)
        return float(np.mean((fresh @ direction > 0) == (fresh @ taste > 0)))

    asked, random_ = (np.mean([learned(worth, seed) for seed in range(8)]) for worth in (True, False))
    assert asked > random_
