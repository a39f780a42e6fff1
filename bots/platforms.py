"""Keeps every adapter running, knows how each stands, and tells the owner when one needs a login.

Knows nothing of any platform.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from adapters.base import AdapterError, AsksForCode, Health, Person, PlatformAdapter, Receive
from bots.phrases import Phrases
from bots.qr import as_text
from learner.store.rows import Known, Place

log = logging.getLogger(__name__)
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0

Key = tuple[str, str]  # bot, adapter
Tell = Callable[[Place, str], Awaitable[None]]
Owners = Callable[[str], Awaitable[list[Known]]]
Own = Callable[[str, str, Person], Awaitable[None]]
Announce = Callable[[str, str, Mapping[str, object]], None]


@dataclass
class Standing:
    """An adapter and how it stands."""

    adapter: PlatformAdapter
    health: Health
    told: str = ""


class BotHost:
    """What one adapter of one bot is given: adapters.base.Host."""

    def __init__(self, bot: str, platform: str, folder: Path, platforms: Platforms, own: Own) -> None:
        self.bot = bot
        self.folder = folder
        self._platform = platform
        self._platforms = platforms
        self._own = own
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)

    def report(self, health: Health) -> None:
        """Keep how the adapter stands, and tell whom it concerns."""
        self._platforms.changed((self.bot, self._platform), health)

    async def owned_by(self, person: Person) -> None:
        """The person owns the bot."""
        await self._own(self.bot, self._platform, person)


class Platforms:
    """All adapters of all bots."""

    def __init__(self, folder: Path, phrases: Phrases, tell: Tell, owners: Owners, own: Own, announce: Announce):
        self._folder = folder
        self._phrases = phrases
        self._tell = tell
        self._owners = owners
        self._own = own
        self._announce = announce
        self._standing: dict[Key, Standing] = {}
        self._early: dict[Key, Health] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def host(self, bot: str, platform: str) -> BotHost:
        """What the adapter `platform` of `bot` is built with."""
        return BotHost(bot, platform, self._folder / bot / platform, self, self._own)

    def add(self, bot: str, adapter: PlatformAdapter) -> None:
        """Know `adapter` from now on."""
        key = (bot, adapter.name)
        self._standing[key] = Standing(adapter, self._early.pop(key, Health("starting")))

    async def keep(self, bot: str, adapter: PlatformAdapter, receive: Receive) -> None:
        """Let `adapter` take part for ever: what goes wrong in it is logged, shown, and tried again."""
        pause = FIRST_PAUSE
        while True:
            began = time.monotonic()
            trouble = await self._run_once(bot, adapter, receive)
            self.changed((bot, adapter.name), Health("offline", trouble))
            pause = FIRST_PAUSE if time.monotonic() - began > LONGEST_PAUSE else pause
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _run_once(self, bot: str, adapter: PlatformAdapter, receive: Receive) -> str:
        """Let `adapter` take part until it ends; why it did. Only being cancelled ourselves goes further."""
        try:
            await adapter.run(receive)
        except AdapterError as error:
            log.error("adapter %s of %s: %s", adapter.name, bot, error)
            return str(error)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            log.error("adapter %s of %s cancelled itself", adapter.name, bot)
            return "it cancelled itself"
        except Exception as error:
            log.exception("adapter %s of %s ended", adapter.name, bot)
            return f"{type(error).__name__}; see the log"
        return "it ended by itself"

    def changed(self, key: Key, health: Health) -> None:
        """An adapter stands otherwise now."""
        standing = self._standing.get(key)
        if standing is None:
            self._early[key] = health
            return
        if standing.health != health:
            log.info("adapter %s of %s: %s %s", key[1], key[0], health.state, health.detail)
        standing.health = health
        self._announce(key[0], "platform", self._fields(key))
        if health.state != "login":
            standing.told = ""
        elif (health.qr or health.wants_code) and (told := f"{health}") != standing.told:
            standing.told = told
            task = asyncio.create_task(self._tell_owners(key, health))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def enter_code(self, bot: str, code: str) -> bool:
        """Pass on the digits that a phone shows; False where no login waits for them."""
        for (owner, _), standing in self._standing.items():
            if owner == bot and standing.health.wants_code and isinstance(standing.adapter, AsksForCode):
                standing.adapter.enter_code(code)
                return True
        return False

    def listing(self) -> list[dict[str, object]]:
        """How every adapter stands: bot, adapter, state, detail, qr, wants_code."""
        return [self._fields(key) for key in sorted(self._standing)]

    async def close(self) -> None:
        """Stop telling."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _fields(self, key: Key) -> dict[str, object]:
        return {"bot": key[0], "adapter": key[1], **asdict(self._standing[key].health)}

    async def _tell_owners(self, key: Key, health: Health) -> None:
        """Tell the owner on every other channel that is up, the terminal among them."""
        bot, platform = key
        if health.wants_code:
            text = self._phrases.say("login_code", platform=platform, detail=health.detail)
        else:
            text = self._phrases.say("login_needed", platform=platform, detail=health.detail)
            text = f"{text}\n{health.qr}\n\n{as_text(health.qr)}"
        for place in await self.private_chats(bot):
            if place.platform == "console" or (place.platform != platform and self._is_up(place)):
                await self._tell(place, text)

    async def private_chats(self, bot: str) -> list[Place]:
        """Where the bot's owners are written to in private, up or not; the page shows such things by itself."""
        found = [Place(bot, "console", "console")] if (bot, "console") in self._standing else []
        for owner in await self._owners(bot):
            if (bot, owner.platform) in self._standing and owner.platform not in ("console", "web"):
                found.append(Place(bot, owner.platform, owner.person))
        return found

    def _is_up(self, place: Place) -> bool:
        standing = self._standing.get((place.bot, place.platform))
        return standing is not None and standing.health.state == "online"
