"""What a night records: curves by step, seconds by phase, samples; kept whenever a phase ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from test_practice import GATE, QUICK
from training_samples import some_canaries, some_records, tiny_model

from learner.frozen import Frozen, NightRequest
from learner.training.night import Night
from learner.training.outcome import finite
from learner.training.samples import PROMPT_CHARS, shortened
from learner.training.trace import Phase, Trace

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*deprecated:FutureWarning")


class Clock:
    """A clock that is told the time."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def fails(trace: Trace, clock: Clock) -> None:
    with trace.phase("judging"):
        clock.now += 1.0
        _ = 1 / 0


def test_a_step_is_the_mean_of_its_passes() -> None:
    trace = Trace()
    trace.round(0.1, 5)
    trace.seen(2.0, [1.0, 3.0])
    trace.seen(4.0, [2.0])
    trace.step()
    trace.seen(1.0, [])
    trace.step()
    trace.round(0.1, 6)
    trace.round(0.05, 7)
    first, second, gentler = trace.as_json()["rounds"]
    assert first == {"learning_rate": 0.1, "number": 1, "drawn": 5, "losses": [3.0, 1.0], "margins": [2.0, None]}
    assert (second["number"], gentler["number"]) == (2, 1)


def test_phases_add_up_and_are_kept_when_they_end_even_badly() -> None:
    clock, kept = Clock(), list[dict[str, Any]]()
    trace = Trace(kept.append, clock)
    for seconds in (2.0, 3.0):
        with trace.phase("training"):
            clock.now += seconds
    with pytest.raises(ZeroDivisionError):
        fails(trace, clock)
    assert [one["seconds"] for one in kept] == [{"training": 2.0}, {"training": 5.0}, {"training": 5.0, "judging": 1.0}]


def test_long_prompts_are_shortened() -> None:
    assert shortened(" two\n words ", PROMPT_CHARS) == "two words"
    assert len(shortened("x" * 500, PROMPT_CHARS)) == PROMPT_CHARS


def test_words_that_are_no_valid_unicode_can_be_written() -> None:
    assert shortened("a\ud800b", PROMPT_CHARS).encode() == b"a?b"


def test_a_night_records_itself(tmp_path: Path) -> None:
    folder, kept = tiny_model(tmp_path), list[dict[str, Any]]()
    request = NightRequest(7, "default", str(folder), "x", recipe=QUICK, gate=GATE, device="cpu", threads=1, nice=0)
    frozen = Frozen(request, some_records(), some_canaries())
    outcome = Night(frozen, str(folder / "scratch"), lambda *_: None, Trace(kept.append)).judged()
    told = json.loads(json.dumps(finite(kept[-1])))
    assert set(told["seconds"]) == set(get_args(Phase))
    assert told["learned"]["sources"] == {"choice": 30, "rating": 10}
    assert (told["learned"]["ties"], told["learned"]["left_out"]) == (3, {"untrusted": 1})
    rounds = told["rounds"]
    assert [one["number"] for one in rounds] == list(range(1, len(rounds) + 1))
    assert sum(len(one["losses"]) for one in rounds) == outcome.tried[0].trained.steps
    assert rounds[0]["margins"][0] == pytest.approx(0.0, abs=1e-4)  # the first step begins at the anchor
    assert rounds[-1]["margins"][-1] > 0
    assert len(told["samples"]["rows"]) == 10
    assert told["samples"]["rows"][0]["prompt"] == "remark 9"  # the newest
    assert told["peak_bytes"] > 2**20
    held = {check["kind"]: check["held"] for check in outcome.verdict()["checks"]}
    assert sum(not one for one in held.values()) == len(outcome.reasons)
    assert {"canary_anchor", "records", "gain", "kl", "length"} <= set(held)
