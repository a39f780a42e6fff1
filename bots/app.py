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
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from starlette.applications import Starlette
from starlette.types import ASGIApp

from adapters.base import Person, PlatformAdapter, Receive
from bots import assembly, control, openai_api, personal, schedule
from bots.access import ClaimCode, new_code
from bots.assembly import Shared, new_id
from bots.choosing import PROFILE_NOTE
from bots.database import Database
from bots.inbox import Inbox
from bots.morning import Morning
from bots.nights import Nights
from bots.outbox import Outbox
from bots.page import night_state
from bots.parts import Announcing, Served, build_engine, embedding_of, lock
from bots.persona import CurrentPersona
from bots.phrases import phrases
from bots.platforms import Platforms
from bots.reception import reception
from bots.router import Router
from bots.server import Server, dispatch
from bots.settings import BotSettings, Settings
from bots.settle import Settlements
from bots.status import Summaries
from bots.versions import Versions
from learner.engine.base import Engine, EngineError
from learner.scopes import Scope
from learner.store.rows import InboxRow, Known, Place
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
        rng = random.Random(seed)
        self.store = Store(settings.database_url, vectors=bool(settings.recall.embedding))
        self.database = Database()
        self.vectors = embedding_of(settings, self.store, self.database)
        self.engines = engines or {bot.mind: build_engine(settings) for bot in settings.bots}
        self.nights = Nights(settings, self.store, self.database, self.engines, self.announce, self._tell_of_night)
        self.versions = Versions(settings, self.store, self.database, self.nights, self._remember_profiles)
        self.outbox = Outbox(self.store, self.database)
        self.summaries = Summaries(settings, self.nights, self.engines, self.outbox.post, self._are_told)
        self.inbox = Inbox(self.store, self.database, self.outbox.deliver, clock)
        self.claim_code = ClaimCode(new_code())
        self.adapters: dict[tuple[str, str], PlatformAdapter] = {}
        self._personas: dict[str, CurrentPersona] = {}
        self.settlements = Settlements(self.adapters, self.store, self.database)
        self.platforms = Platforms(
            settings.data_dir / "platforms", phrases(settings.language),
            self._tell_owner, self._owners, self._own, self._announce_platform,
        )  # fmt: skip
        self.morning = Morning(
            settings, self.store, self.database, self.outbox, self.platforms.private_chats, self.nights.active, clock
        )
        self.nights.probation.report_to(self.morning.tell_of_duels)
        self.server = self._bind()
        self._control_token = secrets.token_urlsafe(32)  # nobody's, until the key file is written
        self._shared = Shared(
            settings, self.store, self.database, self.vectors, self.engines, self.nights, self.versions, self.outbox,
            self.summaries, self.settlements, self.platforms, self.server, self.claim_code, rng, clock, self.quit,
        )  # fmt: skip
        new_seed = self._shared.new_seed
        self._api = openai_api.OpenAiApi(settings.language, settings.model.max_batch, new_id, new_seed, clock)
        self._scheduler: AsyncIOScheduler | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self._followers: list[asyncio.Task[Any]] = []  # whose end is nobody's end
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
        receivers = [receiver for bot in self.settings.bots for receiver in self._add_bot(bot)]
        await self._open_server()
        for mind in self.engines:
            await self.morning.catch_up(mind)
        resumed = await self.inbox.resume(), await self.outbox.resume()
        for bot, adapter in receivers:  # only now: what comes live stands behind what was stored
            kept = self.platforms.keep(bot.name, adapter, self.receive(bot, adapter))
            self._tasks.append(asyncio.create_task(kept))
        if any(resumed):
            log.info("resumed: %s unanswered, %s unsent", *resumed)
        self._tasks.append(asyncio.create_task(self._follow_pointer()))
        if self.vectors is not None:
            self._followers.append(asyncio.create_task(self.vectors.follow([bot.name for bot in self.settings.bots])))
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
        for task in [*self._tasks, *self._followers]:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._followers, return_exceptions=True)
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)
        await self.nights.close()
        await self.server.stop()
        await self.platforms.close()
        await self.settlements.close()
        await self.inbox.close()
        await self.outbox.close()
        for engine in self.engines.values():
            await engine.close()
        if self.vectors is not None:
            self.vectors.close()
        self.database.close()
        self.store.close()
        control.control_file(self.settings.data_dir).unlink(missing_ok=True)
        self._lock.release()

    # Parts ------------------------------------------------------------------------------------

    def _add_bot(self, bot: BotSettings) -> list[tuple[BotSettings, PlatformAdapter]]:
        """Build the bot, and let whatever reaches it come to it; its adapters take part from when they are run."""
        made = assembly.made(bot, self._shared)
        self._personas[bot.name] = made.profile.persona
        self._api.serve(made.profile, self.engines[bot.mind])
        waits = {one.name: bot.merge_seconds for one in made.adapters if not one.capabilities.whole_messages}
        self.inbox.serve(bot.name, self._reviewed(bot.mind, made.router), waits)
        for adapter in made.adapters:
            self.adapters[bot.name, adapter.name] = adapter
            made.talk.serve(adapter)
            self.outbox.serve(bot.name, adapter)
            self.platforms.add(bot.name, adapter)
        return [(bot, adapter) for adapter in made.adapters]

    def receive(self, bot: BotSettings, adapter: PlatformAdapter) -> Receive:
        """What the adapter is to call with all that is said to the bot there."""
        return reception(bot, adapter, self.inbox, self.store, self.database)

    def _reviewed(self, mind: str, router: Router) -> Callable[[InboxRow], Awaitable[None]]:
        """What arrives is answered, and then, if it was feedback, may decide about a challenger."""

        async def handle(row: InboxRow) -> None:
            await router.handle(row)
            self.nights.probation.review(mind)

        return handle

    async def _own(self, bot: str, platform: str, person: Person) -> None:
        """Whoever logged in by their own account owns the bot."""
        await self._shared.access(self.settings.bot(bot)).own(platform, person.id, self._clock())

    async def _owners(self, bot: str) -> list[Known]:
        return await self.database(self.store.owners, bot)

    async def _tell_owner(self, place: Place, text: str) -> None:
        await self.outbox.post(self.settings.bot(place.bot).mind, place, text)

    async def _remember_profiles(self) -> None:
        """Read anew what owners made of their bots: one of them may be forgotten."""
        for bot, persona in self._personas.items():
            persona.set_profile(await self.database(self.store.note, bot, PROFILE_NOTE))

    def _bind(self) -> Server:
        """The page's port; with neither page nor API any port, for the control endpoint alone."""
        web = self.settings.adapters.web
        served = self.settings.has_page or self.settings.serves_api
        return Server(web.host, web.port) if served else Server("127.0.0.1", 0)

    async def _open_server(self) -> None:
        page: ASGIApp = Starlette()
        for adapter in self.adapters.values():
            if isinstance(adapter, Served):
                page = adapter.guard(Starlette(routes=adapter.routes()))
        if self.settings.serves_api:
            web, api = self.settings.adapters.web, self.settings.api
            guarded = openai_api.guarded(self._api.app(), web, api, self.server.port)
            page = dispatch(openai_api.PREFIX, guarded, page)
        known = {**self.versions.calls(), "status": self._status}
        calls = control.control_app(lambda: self._control_token, known)
        await self.server.start(dispatch(control.PREFIX, calls, page))
        self._control_token = control.write_key(self.settings.data_dir, self.server.port).token

    async def _status(self, _values: dict[str, Any]) -> dict[str, Any]:
        """How minds and platforms stand, and what could not be sent."""
        failed = await self.database(self.store.unsendable)
        return {
            "minds": [
                {"mind": mind, **await self.summaries.summary(mind), "personal": await self.summaries.personal(mind)}
                for mind in self.engines
            ],
            "platforms": self.platforms.listing(),
            "unsendable": [
                {"id": one.draft.id, **asdict(one.draft.place), "reason": one.reason, "attempts": one.attempts}
                for one in failed
            ],
        }

    # Nights -----------------------------------------------------------------------------------

    def announce(self, event: str, values: dict[str, Any]) -> None:
        """Tell every open page what a night or a swap did; a night's {} says that it is over."""
        shown = values
        if event == "night":
            state = night_state(values) if values["state"] == "running" else None
            shown = asdict(state) if state is not None else {}
        for (bot, _), adapter in self.adapters.items():
            if isinstance(adapter, Announcing) and self.settings.bot(bot).mind == Scope.read(values["mind"]).mind:
                adapter.announce(event, shown)

    def _announce_platform(self, bot: str, event: str, values: Mapping[str, object]) -> None:
        """Tell the pages of the bot how one of its platforms stands."""
        adapter = self.adapters.get((bot, "web"))
        if isinstance(adapter, Announcing):
            adapter.announce(event, values)

    async def _tell_of_night(self, scope: str, number: int) -> None:
        await self.morning.tell(scope, number)

    async def _are_told(self, mind: str) -> Collection[Place]:
        return await self.morning.places(mind)

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
        missed = any([await self.nights.is_owed(scope, due) for scope in self._scopes()])
        self._scheduler = schedule.nightly(learner.time, self._teach_all, missed)

    async def _teach_all(self) -> None:
        for scope in self._scopes():
            if await self.nights.is_worth(scope):
                await self.nights.start(scope)

    def _scopes(self) -> list[str]:
        """Whose nights there are, in their order: of each mind the common one, then those of chats of their own."""
        return [scope for mind in self.engines for scope in personal.scopes_of(self.settings, mind)]


def show_claim(app: App) -> None:
    """Print the claim code where only whoever started the bot sees it."""
    print(
        f"claim code: {app.claim_code.value}  (send /claim {app.claim_code.value} from your account)",
        file=sys.stderr,
    )
