"""The composition root: builds everything from the settings, starts it, stops it.

Knows all parts, and nothing of what they do inside.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from starlette.applications import Starlette
from starlette.types import ASGIApp

from adapters import registry
from adapters.base import PlatformAdapter, Receive
from bots import control, schedule
from bots.access import Access, ClaimCode, new_code
from bots.arena import Arena, OfferRules
from bots.commands import Commands
from bots.database import Database
from bots.inbox import Inbox, Outbox
from bots.nights import Nights
from bots.page import PageBackend, night_state
from bots.parts import Announcing, Served, build_engine, lock
from bots.persona import Persona
from bots.phrases import phrases
from bots.router import Router
from bots.server import Server, dispatch
from bots.settings import BotSettings, Settings
from bots.status import Summaries
from bots.talk import BotProfile, Talk
from bots.versions import Versions
from learner.engine.base import Engine, EngineError, Sampling
from learner.store.store import Store

log = logging.getLogger(__name__)
POINTER_EVERY = 2.0  # seconds between looks at the active pointer


class App:
    """A running nightschool: `await app.start()`, `await app.wait()`, `await app.stop()`."""

    def __init__(
        self,
        settings: Settings,
        *,
        engines: dict[str, Engine] | None = None,
        seed: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._lock = lock(settings.data_dir)
        self._rng = random.Random(seed)
        self.store = Store(settings.database_url)
        self.database = Database()
        self.engines = engines or {bot.mind: build_engine(settings) for bot in settings.bots}
        self.nights = Nights(settings, self.store, self.database, self.engines, self.announce)
        self.versions = Versions(settings, self.store, self.database, self.nights)
        self.outbox = Outbox(self.store, self.database)
        self.summaries = Summaries(settings, self.nights, self.engines, self.outbox.post)
        self.inbox = Inbox(self.store, self.database, self.outbox.deliver, clock)
        self.claim_code = ClaimCode(new_code())
        self.adapters: dict[tuple[str, str], PlatformAdapter] = {}
        self.server = self._bind()
        self._control_token = secrets.token_urlsafe(32)  # nobody's, until the key file is written
        self._scheduler: AsyncIOScheduler | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self._quit = asyncio.Event()

    # Life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load the model, take up what an earlier process left, open the platforms."""
        for engine in self.engines.values():
            await engine.start()
        await self.nights.recover()
        for mind in self.engines:
            await self._activate(mind)
        await self.database(self.store.interrupt_unfinished)
        for bot in self.settings.bots:
            self._add_bot(bot)
        await self._open_server()
        resumed = await self.inbox.resume(), await self.outbox.resume()
        if any(resumed):
            log.info("resumed: %s unanswered, %s unsent", *resumed)
        self._tasks.append(asyncio.create_task(self._follow_pointer()))
        await self._plan_nights()

    async def wait(self) -> None:
        """Until `quit` is called, or a part that must run ends with an error."""
        waiting = asyncio.create_task(self._quit.wait())
        await asyncio.wait([waiting, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()

    def quit(self) -> None:
        """Ask `wait` to return."""
        self._quit.set()

    async def stop(self) -> None:
        """Close everything; what is unfinished is stored and goes on at the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)
        await self.nights.close()
        await self.server.stop()
        await self.inbox.close()
        await self.outbox.close()
        for engine in self.engines.values():
            await engine.close()
        self.database.close()
        self.store.close()
        control.control_file(self.settings.data_dir).unlink(missing_ok=True)
        self._lock.release()

    # Parts ------------------------------------------------------------------------------------

    def _add_bot(self, bot: BotSettings) -> None:
        settings = self.settings
        access = Access(bot.name, bot.teachers, self.store, self.database, self.claim_code)
        offers = settings.offers
        rules = OfferRules(settings.ask_rate_of(bot), offers.max_per_hour, offers.expire_minutes * 60)
        arena = Arena(rules, self.store, self.database, self._rng)
        commands = Commands(bot.mind, access, self.summaries, self.store, self.database)
        talk = Talk(
            self._profile(bot),
            self.engines[bot.mind],
            arena,
            self.store,
            self.database,
            new_id=lambda: uuid.uuid4().hex,
            new_seed=lambda: self._rng.getrandbits(32),
            clock=self._clock,
        )
        own_words = phrases(self.settings.language)
        router = Router(own_words, talk, arena, access, commands, self.store, self.database)
        self.inbox.serve(bot.name, router.handle)
        for name in bot.adapters:
            adapter = self._adapter(name, bot)
            self.adapters[bot.name, name] = adapter
            talk.serve(adapter)
            self.outbox.serve(bot.name, adapter)
            self._tasks.append(asyncio.create_task(adapter.run(self._receive(bot, adapter))))

    def _profile(self, bot: BotSettings) -> BotProfile:
        sampling, persona = bot.sampling, bot.persona
        return BotProfile(
            name=bot.name,
            mind=bot.mind,
            persona=Persona(persona.name, persona.profile, persona.greeting),
            sampling=Sampling(sampling.temperature, sampling.top_p, sampling.repetition_penalty, sampling.max_tokens),
            phrases=phrases(self.settings.language),
            max_message_chars=self.settings.max_message_chars,
            reply_timeout=self.settings.reply_timeout,
        )

    def _adapter(self, name: str, bot: BotSettings) -> PlatformAdapter:
        adapter_class = registry.load(name)
        build: dict[str, Callable[[], PlatformAdapter]] = {
            "console": lambda: adapter_class(self.quit),
            "web": lambda: self._web(adapter_class, bot),
        }
        return build.get(name, adapter_class)()

    def _web(self, adapter_class: type, bot: BotSettings) -> PlatformAdapter:
        web = self.settings.adapters.web
        backend = PageBackend(bot, self.settings, self.store, self.database, self.nights, self.summaries)
        adapter: PlatformAdapter = adapter_class(
            backend,
            host=web.host,
            port=self.server.port,
            token=web.token,
            allowed_hosts=web.allowed_hosts,
            new_id=lambda: uuid.uuid4().hex,
        )
        return adapter

    def _receive(self, bot: BotSettings, adapter: PlatformAdapter) -> Receive:
        return lambda inbound: self.inbox.receive(bot.mind, bot.name, adapter.name, inbound)

    def _bind(self) -> Server:
        """The page's port; without a page any port, for the control endpoint alone."""
        web = self.settings.adapters.web
        paged = any("web" in bot.adapters for bot in self.settings.bots)
        return Server(web.host, web.port) if paged else Server("127.0.0.1", 0)

    async def _open_server(self) -> None:
        page: ASGIApp = Starlette()
        for adapter in self.adapters.values():
            if isinstance(adapter, Served):
                page = adapter.guard(Starlette(routes=adapter.routes()))
        calls = control.control_app(lambda: self._control_token, self.versions.calls())
        await self.server.start(dispatch(control.PREFIX, calls, page))
        self._control_token = control.write_key(self.settings.data_dir, self.server.port).token

    # Nights -----------------------------------------------------------------------------------

    def announce(self, event: str, values: dict[str, Any]) -> None:
        """Tell every open page what a night or a swap did; a night's {} says that it is over."""
        shown = values
        if event == "night":
            state = night_state(values) if values["state"] == "running" else None
            shown = asdict(state) if state is not None else {}
        for (bot, _), adapter in self.adapters.items():
            if isinstance(adapter, Announcing) and self.settings.bot(bot).mind == values["mind"]:
                adapter.announce(event, shown)

    async def _activate(self, mind: str) -> None:
        try:
            await self.nights.activate(mind)
        except EngineError as error:
            log.error("lora: %s; the old one goes on speaking", error)

    async def _follow_pointer(self) -> None:
        while True:
            await asyncio.sleep(POINTER_EVERY)
            for mind in self.engines:
                if not self.nights.is_running(mind):
                    await self._activate(mind)

    async def _plan_nights(self) -> None:
        learner = self.settings.learner
        if not learner.enabled:
            return
        due = schedule.last_due(learner.time, datetime.now()).timestamp()
        missed = any([await self.nights.is_owed(mind, due) for mind in self.engines])
        self._scheduler = schedule.nightly(learner.time, self._teach_all, missed)

    async def _teach_all(self) -> None:
        for mind in self.engines:
            await self.nights.start(mind)


def show_claim(app: App) -> None:
    """Print the claim code where only whoever started the bot sees it."""
    print(
        f"claim code: {app.claim_code.value}  (send /claim {app.claim_code.value} from your account)",
        file=sys.stderr,
    )
