"""A bot in a process of its own, for tests that kill it: the real app, a scripted engine that takes its time.

Run as: python kill_target.py CONFIG DELAY. Prints the page's address when it answers.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from bots.app import App
from bots.settings import load
from learner.engine.scripted import ScriptedEngine


async def talk(config: str, delay: float) -> None:
    """Run until killed."""
    app = App(load(Path(config)), engines={"default": ScriptedEngine(delay=delay)})
    await app.start()
    print(app.server.url, flush=True)
    await app.wait()


if __name__ == "__main__":
    asyncio.run(talk(sys.argv[1], float(sys.argv[2])))
