"""The starter as a subject: what people say to it, who answers how, and what is right. For the benches of learning.

The written phrasings of the starter fall into three parts by a hash of their text: those the person says, those the
nightly gate sees as canaries, and those that a bench measures on and that nobody trains on.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from bots.app import App  # noqa: E402
from bots.nights import NightResult  # noqa: E402
from bots.settings import parse  # noqa: E402
from learner.engine.base import (  # noqa: E402
    Candidate,
    CandidateSpec,
    ChatMessage,
    EngineBusy,
    GenerateRequest,
    Sampling,
)

SAMPLING: dict[str, Any] = {"temperature": 0.9, "top_p": 0.95, "max_tokens": 64}
STARTER = ROOT / "data" / "starter"
CHINESE = re.compile("[\u4e00-\u9fff]")


@dataclass(frozen=True)
class Phrasing:
    """Something a person says, and what a right answer holds."""

    text: str
    language: str
    any_of: tuple[str, ...]


def starter_manners() -> Callable[[str, str], str]:
    """The starter's own `manner_of(reply, language)`."""
    spec = importlib.util.spec_from_file_location("starter_intents", STARTER / "intents.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    manner_of: Callable[[str, str], str] = module.manner_of
    return manner_of


def phrasings() -> dict[str, list[Phrasing]]:
    """The starter's phrasings in three parts: said, gate, measured."""
    parts: dict[str, list[Phrasing]] = {"said": [], "gate": [], "measured": []}
    for line in (STARTER / "canaries.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        text = row["prompt"][-1]["content"]
        digest = hashlib.sha256(text.encode()).digest()[0] % 20
        part = "said" if digest < 7 else "gate" if digest < 12 else "measured"
        parts[part].append(Phrasing(text, row["language"], tuple(row["any_of"])))
    return parts


def write_canaries(path: Path, rows: Sequence[Phrasing]) -> None:
    """The gate's canaries as a file."""
    lines = (
        {"prompt": [{"role": "user", "content": row.text}], "any_of": row.any_of, "language": row.language}
        for row in rows
    )
    path.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines), "utf-8")


def a_bot(
    folder: Path,
    options: argparse.Namespace,
    *,
    seed: int,
    ask_rate: float,
    teachers: str,
    choose: str = "worth",
    recipe: dict[str, Any] | None = None,
) -> App:
    """A bot on the memory platform, without limits; its canaries are `folder`'s. `choose`: what it asks about.

    `recipe`: what its nights do otherwise.
    """
    raw: dict[str, Any] = {
        "data_dir": str(folder / "data"),
        "ask_rate": ask_rate,
        "model": {"name": options.model, "max_batch": 64, "max_queue": 256, "threads": options.threads},
        "offers": {"max_per_hour": 1_000_000, "choose": choose},
        "learner": {
            "enabled": False,
            "canaries": str(folder / "canaries.jsonl"),
            "threads": options.threads,
            "recipe": recipe or {},
        },
        "limits": {"person_per_minute": 1_000_000, "chat_per_minute": 1_000_000},
        "bots": [
            {
                "name": "bench",
                "adapters": ["memory"],
                "talkers": "everyone",
                "teachers": teachers,
                "sampling": SAMPLING,
            }
        ],
    }
    return App(parse(raw, folder / "config.toml"), seed=seed)


async def ask(
    app: App, text: str, sampling: Sampling, seed: int, lora: str = "active", before: Sequence[ChatMessage] = ()
) -> Candidate:
    """One reply of whatever version speaks, or of `lora`, outside every chat; `before` stands before the text."""
    engine = app.engines["default"]
    prompt = engine.render([*before, ChatMessage("user", text)])
    while True:
        try:
            generated = await engine.generate(GenerateRequest(prompt, (CandidateSpec(sampling, seed, lora),)))
        except EngineBusy:
            await asyncio.sleep(0.05)
        else:
            return generated.candidates[0]


def fault(candidate: Candidate, row: Phrasing) -> str:
    """What is wrong with a greedy reply; "" when nothing is."""
    text = candidate.text.lower()
    if candidate.finish != "stop":
        return "ending"
    held = any(key.lower() in text for key in row.any_of)
    other_script = not CHINESE.search(text) if row.language == "zh" else len(CHINESE.findall(text)) > len(text) / 4
    if other_script and not held:
        return "language"
    return "" if held else "content"


def moved(ended: NightResult) -> str:
    """How far a night went from the anchor, and what that pleases by what people said, in nats a reply."""
    figures = ended.verdict.get("gate")
    if not figures:
        return ""
    taste = figures["taste"]
    pleases = f"{taste['over_anchor']:.2f}" if taste else "nobody knows how much"
    far = f"{figures['kl_per_token']:.3f} nats a token, {figures['kl_per_reply']:.2f} a reply"
    return f"(KL {far}; pleases by {pleases})"
