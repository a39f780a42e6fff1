"""`nightschool teachers`: who teaches, what they said, and what the newest night made of their word.

The counts come from the store, the figures from the newest night's verdict. Knows nothing of how they are found.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bots.settings import Settings
from learner.records import Feedback
from learner.store.store import Store
from learner.what_stands import newest_of_each

State = Literal["owner", "trusted", "quarantine", "contradicts", "untrusted"]
NIGHTS = 50  # back to the newest that judged people
FIGURES = ("weight", "agreement", "low", "high", "position", "rightly", "seeded")  # of a night's verdict
SIDE_BIAS = 1.0  # log-odds: from here on somebody takes one side rather than a reply


@dataclass(frozen=True)
class TeacherLine:
    """One person; the figures are None until a night has found them."""

    teacher: str
    name: str
    state: State
    choices: int
    ratings: int
    corrections: int
    weight: float | None = None
    agreement: float | None = None
    low: float | None = None
    high: float | None = None
    position: float | None = None
    rightly: int | None = None
    seeded: int | None = None

    def __str__(self) -> str:
        who = f"{self.name} ({self.teacher})" if self.name else self.teacher
        said = f"{self.choices} choices, {self.ratings} ratings, {self.corrections} corrections"
        return f"{who}: {self.state}; {said}; {', '.join(self._figures())}"

    def _figures(self) -> list[str]:
        if self.weight is None:
            return ["no night has weighed them yet"]
        found = [f"weight {self.weight:.2f}"]
        if self.agreement is not None and self.low is not None and self.high is not None:
            found.append(f"agrees {self.agreement:.0%} ({self.low:.0%} to {self.high:.0%})")
        if self.seeded:
            found.append(f"{self.rightly} of {self.seeded} known answers")
        if self.position is not None:
            found.append(f"position {self.position:+.2f}{_taking(self.position)}")
        return found


def teachers(settings: Settings, arguments: argparse.Namespace) -> None:
    """Print a line for each person who gave feedback."""
    mind = arguments.mind or settings.bots[0].mind
    store = Store(settings.database_url)
    try:
        lines = lines_of(store, mind, [bot.name for bot in settings.bots if bot.mind == mind])
    finally:
        store.close()
    if arguments.json:
        print(json.dumps([dataclasses.asdict(line) for line in lines], ensure_ascii=False))
    else:
        print("\n".join(map(str, lines)) or "nobody has said anything about a reply yet")


def lines_of(store: Store, mind: str, bots: list[str]) -> list[TeacherLine]:
    """Everybody whose word on a reply of `mind` stands, by name; `bots` are those that share it."""
    said: defaultdict[str, list[Feedback]] = defaultdict(list)
    for one in newest_of_each(store.feedback(mind)):
        if one.kind not in ("retract", "retry"):
            said[one.teacher].append(one)
    judged = _judged(store, mind)
    owners = {f"{owner.platform}:{owner.person}" for bot in bots for owner in store.owners(bot)}
    return [
        _line(teacher, said[teacher], judged.get(teacher, {}), teacher in owners, _name(store, bots, teacher))
        for teacher in sorted(said)
    ]


def _line(teacher: str, said: list[Feedback], judged: Mapping[str, Any], owner: bool, name: str) -> TeacherLine:
    kinds = Counter(one.kind for one in said)
    trusted = any(one.trusted for one in said)
    state: State = "owner" if owner else judged.get("state", "trusted") if trusted else "untrusted"
    figures = {key: judged.get(key) for key in FIGURES if trusted}
    return TeacherLine(teacher, name, state, kinds["choice"], kinds["rating"], kinds["correction"], **figures)


def _judged(store: Store, mind: str) -> dict[str, dict[str, Any]]:
    """What the newest night that judged people found, by teacher."""
    found: list[dict[str, Any]] = next(
        (run.verdict["teachers"] for run in store.runs(mind, NIGHTS) if run.verdict.get("teachers")), []
    )
    return {one["teacher"]: one for one in found}


def _name(store: Store, bots: list[str], teacher: str) -> str:
    platform, _, person = teacher.partition(":")
    known = (store.known(bot, platform, person) for bot in bots)
    return next((one.name for one in known if one is not None and one.name), "")


def _taking(position: float) -> str:
    if abs(position) < SIDE_BIAS:
        return ""
    return f" (takes the {'first' if position > 0 else 'second'} whatever it is)"
