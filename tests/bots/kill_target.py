"""A bot in a process of its own, for tests that kill it: the real app, a scripted engine that takes its time.

Run as: python kill_target.py CONFIG DELAY. Prints the page's address when it answers.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from bots.app import App
from bots.settings import load
from learner.engine.base import CandidateSpec, ChatMessage
from learner.engine.scripted import ScriptedEngine


def reply(messages: Sequence[ChatMessage], spec: CandidateSpec) -> str:
    """Never the same twice: two equal candidates would be no offer."""
    return f"Reply number {spec.seed} to {messages[-1].content}"


async def talk(config: str, delay: float) -> None:
    """Run until killed."""
    engine = ScriptedEngine(reply, delay=delay)
    app = App(load(Path(config)), engines={"default": engine})
    await app.start()
    print(app.server.url, flush=True)
    await app.wait()


if __name__ == "__main__":
    asyncio.run(talk(sys.argv[1], float(sys.argv[2])))
