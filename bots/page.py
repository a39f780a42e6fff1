"""What the chat page asks: a chat's lines, how the bot stands, a lesson now.

Knows nothing of HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

from adapters.web.backend import Given, LogLine, LoraLine, MemoryLine, NightState, PageStatus, PlatformLine
from bots import personal
from bots.database import Database
from bots.greeting import Greeter
from bots.nights import WAITING, Nights
from bots.platforms import Platforms
from bots.qr import as_svg
from bots.settings import BotSettings, Settings
from bots.status import Summaries
from learner import lora_folder, loras
from learner.lora_folder import LoraVersion
from learner.scopes import BASE
from learner.store.rows import LogEntry, Memory, Place
from learner.store.store import Store


class PageBackend:
    """adapters/web's WebBackend for one bot."""

    def __init__(
        self,
        bot: BotSettings,
        settings: Settings,
        store: Store,
        database: Database,
        nights: Nights,
        summaries: Summaries,
        platforms: Platforms,
        greeter: Greeter,
    ) -> None:
        self._bot = bot
        self._settings = settings
        self._store = store
        self._database = database
        self._nights = nights
        self._summaries = summaries
        self._platforms = platforms
        self._greeter = greeter

    async def log(self, chat: str, limit: int) -> list[LogLine]:
        """The last `limit` lines of `chat`, oldest first."""
        place = Place(self._bot.name, "web", chat)
        entries = await self._database(self._store.chat_log, place, limit, time.time())
        return [_line(entry) for entry in entries]

    async def open(self, chat: str) -> bool:
        """Greet in a chat where nothing was ever said."""
        return await self._greeter.open(Place(self._bot.name, "web", chat))

    async def persona(self, chat: str) -> str:
        """The persona that the chat chose, "" for the bot's own."""
        chosen = (await self._database(self._store.chat_state, Place(self._bot.name, "web", chat))).persona
        return chosen if chosen in {one.name for one in self._bot.personas} else ""

    async def status(self) -> PageStatus:
        """The header and the panel."""
        mind = self._bot.mind
        summary = await self._summaries.summary(mind)
        return PageStatus(
            name=self._bot.persona.name or self._bot.name,
            personas=tuple(one.name for one in self._bot.personas),
            language=self._settings.language,
            model=str(summary["model"]),
            lora=None if self._nights.active(mind) == BASE else self._nights.active(mind),
            records=cast(int, summary["records"]),
            min_records=self._settings.learner.min_records,
            night=night_state(self._running(mind)),
            verdict=await self._summaries.last_verdict(mind),
            loras=self._lora_lines(str(summary["challenger"])),
            platforms=tuple(self._platform_lines()),
        )

    async def learn(self) -> str | None:
        """Start a night; a sentence when it can't be."""
        return await self._summaries.begin(self._bot.mind)

    async def chat_of(self, exchange: str) -> str | None:
        """The web chat of `exchange`."""
        found = await self._database(self._store.exchange, exchange)
        mine = found is not None and (found.place.bot, found.place.platform) == (self._bot.name, "web")
        return found.place.chat if found is not None and mine else None

    async def recalled_by(self, exchange: str) -> tuple[MemoryLine, ...]:
        """What `exchange` was given to go by."""
        found = await self._database(self._store.exchange, exchange)
        return tuple(_memory_line(memory) for memory in found.recalled) if found is not None else ()

    async def feedback_of(self, exchange: str) -> str:
        """What stands for `exchange` now."""
        return await self._database(self._store.feedback_word, exchange)

    def _platform_lines(self) -> Iterator[PlatformLine]:
        """The bot's other platforms; a login's code is drawn here, so that the page needs no library."""
        for one in self._platforms.listing():
            if one["bot"] == self._bot.name and one["adapter"] not in ("console", "web"):
                code = as_svg(str(one["qr"])) if one["qr"] else ""
                yield PlatformLine(
                    str(one["adapter"]), str(one["state"]), str(one["detail"]), code, bool(one["wants_code"])
                )

    def _running(self, mind: str) -> dict[str, Any] | None:
        """Where the running night stands, be it of chats of their own."""
        found = map(self._nights.progress, personal.scopes_of(self._settings, mind))
        return next((progress for progress in found if progress is not None and progress.get("phase") != WAITING), None)

    def _lora_lines(self, duels: str) -> tuple[LoraLine, ...]:
        mind = self._bot.mind
        challenger = self._nights.probation.challenger(mind)
        rival = challenger.version if challenger is not None else None
        every = loras.listing(self._settings.loras_dir, mind)
        lines = (_lora_line(one, self._nights.active(one.scope)) for one in every)
        return tuple(replace(one, state="challenger", detail=duels) if one.version == rival else one for one in lines)


def night_state(progress: dict[str, Any] | None) -> NightState | None:
    """A night's progress as the page shows it."""
    if progress is None:
        return None
    return NightState(
        number=int(progress.get("number") or 0),
        phase=str(progress.get("phase", "")),
        done=float(progress.get("done") or 0.0),
        detail=str(progress.get("detail", "")),
        seconds_left=progress.get("seconds_left"),
    )


def _lora_line(version: LoraVersion, active: str) -> LoraLine:
    state = "active" if version.version == active else "retired" if version.retired else "published"
    made = (version.folder / lora_folder.CARD_FILE).stat().st_mtime
    taught = f"{version.records.get('pairs', 0)} + {version.records.get('ratings', 0)}"
    return LoraLine(version.version, state, made, ": ".join(filter(None, (version.name, version.retired or taught))))


def _line(entry: LogEntry) -> LogLine:
    return LogLine(
        role=entry.role,
        text=entry.candidates[(entry.kept or 1) - 1] if entry.candidates else entry.text,
        at=entry.at,
        exchange=entry.exchange,
        candidates=entry.candidates,
        offer=entry.offer,
        feedback=cast(Given, entry.feedback),
        correction=entry.correction,
        lora=entry.lora,
        id=entry.id,
        recalled=tuple(_memory_line(memory) for memory in entry.recalled),
    )


def _memory_line(memory: Memory) -> MemoryLine:
    return MemoryLine("user" if memory.role == "user" else "assistant", memory.text, memory.at)
