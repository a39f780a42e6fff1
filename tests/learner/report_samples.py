"""A night's verdict and what it recorded, as they lie in its folder."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from learner.gate import Check
from learner.report.model import Ended

HOSTILE = "<script>alert('x')</script> & \"me\""


def verdict(**changes: Any) -> dict[str, Any]:
    """A night that was refused for one figure of three."""
    canary = {"count": 6, "right": 0.955, "content": 1.0, "language": 1.0, "ended": 1.0, "unrepeated": 1.0}
    checks = [
        Check("canary_anchor", 0.955, True, "canaries", low=0.94, reference=0.96),
        Check("gain", 0.013, False, "preferences: log-loss 0.680 is not surely below", low=0.021),
        Check("length", 11.5, True, "length", low=4.8, high=30.0, reference=12.0),
    ]
    return {
        "outcome": "refused",
        "reasons": [check.fault for check in checks if not check.held],
        "records": {"pairs": 46, "ratings": 12, "cut_prompts": 2, "cut_replies": 0, "rested": 900},
        "tried": [
            {"learning_rate": 0.002, "share": 1.0, "steps": 50, "loss": 1.2, "canary": canary, "holds": False},
            {
                "learning_rate": 0.002,
                "share": 0.65,
                "steps": 50,
                "loss": 1.2,
                "canary": canary,
                "sampled": canary,
                "holds": True,
            },
        ],
        "checks": [asdict(check) for check in checks],
        "gate": {"kl_per_token": 0.123, "canary": canary, "canary_champion": None},
        "seconds": 321.4,
        **changes,
    }


def recorded(**changes: Any) -> dict[str, Any]:
    """What a night recorded of itself."""
    sources = {"choice": 40, "correction": 4, "retry": 2, "rating": 10, "both_bad": 2}
    return {
        "learned": {
            "pairs": 46, "ratings": 12, "sources": sources, "good": 6, "ties": 3, "people": 2,
            "left_out": {"untrusted": 5, "duplicate": 1},
        },
        "reward": {"penalty": 0.3, "gain": 0.214, "error": 0.041},
        "rounds": [
            {"learning_rate": 0.002, "number": 1, "drawn": 96, "losses": [9.5, 8.25, 7.125],
             "margins": [0.0, None, 0.875]},
            {"learning_rate": 0.002, "number": 2, "drawn": 90, "losses": [7.0, 6.5], "margins": [0.9, 1.5]},
        ],
        "samples": {"before": "champion", "rows": [{"prompt": HOSTILE, "before": "Hm. <b>", "after": "Gladly!"}]},
        "seconds": {"load": 4.25, "training": 200.5},
        "peak_bytes": 3 * 2**30,
        **changes,
    }  # fmt: skip


def ended(state: str = "refused", **changes: Any) -> Ended:
    """The night as the store knows it."""
    return Ended(12, "default", state, 1_772_600_000.0, verdict(**changes))
