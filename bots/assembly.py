"""What one bot is made of: built from its settings and from what all bots of the process share.

Knows nothing of when bots start or stop, nor of nights.
"""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from adapters import registry
from adapters.base import PlatformAdapter
from bots.access import Access, AccessRules, ClaimCode
from bots.arena import Arena, OfferRules
from bots.choosing import PROFILE_NOTE, Choosing
from bots.commands import Commands
from bots.curiosity import Curiosity
from bots.database import Database
from bots.embedding import Vectors
from bots.greeting import Greeter
from bots.lesson import recipe
from bots.limits import Limits
from bots.nights import Nights
from bots.outbox import Outbox
from bots.page import PageBackend
from bots.persona import CurrentPersona, Persona
from bots.platforms import Platforms
from bots.recall import Recall
from bots.router import Conduct, Router
from bots.server import Server
from bots.settings import BotSettings, PersonaSettings, Settings
from bots.settle import Settlements
from bots.status import Summaries
from bots.talk import BotProfile, Talk
from bots.verdicts import Verdicts
from bots.versions import Versions
from learner import loras
from learner.engine.base import Engine, Sampling
from learner.store.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shared:
    """What all bots of a process share."""

    settings: Settings
    store: Store
    database: Database
    vectors: Vectors | None
    engines: dict[str, Engine]  # by mind
    nights: Nights
    versions: Versions
    outbox: Outbox
    summaries: Summaries
    settlements: Settlements
    platforms: Platforms
    server: Server
    claim_code: ClaimCode
    rng: random.Random
    clock: Callable[[], float]
    quit: Callable[[], None]

    def access(self, bot: BotSettings) -> Access:
        """Who may talk to a bot, and who may teach it."""
        rules = AccessRules(bot.talkers, frozenset(bot.allow), frozenset(bot.groups.allow), bot.teachers)
        return Access(bot.name, rules, self.store, self.database, self.claim_code)

    def new_seed(self) -> int:
        """A seed for one draw of a reply."""
        return self.rng.getrandbits(32)


@dataclass(frozen=True)
class Made:
    """One bot, ready to be served; its adapters take part from when they are run."""

    profile: BotProfile
    talk: Talk
    router: Router
    adapters: tuple[PlatformAdapter, ...]


def made(bot: BotSettings, shared: Shared) -> Made:
    """Build the bot that `bot` describes."""
    settings, store, database = shared.settings, shared.store, shared.database
    profile, arena, access = _profile(bot, shared), _arena(bot, shared), shared.access(bot)
    talk = Talk(
        profile, shared.engines[bot.mind], arena, shared.nights.voices[bot.mind], store, database,
        new_id=new_id, new_seed=shared.new_seed, clock=shared.clock, recall=_recall(bot, shared),
    )  # fmt: skip
    router = Router(
        bot.mind, settings.language, Conduct(bot.silent_minutes * 60, bot.greet, bot.groups.notice), talk, arena,
        access, Limits(settings.limits.person_per_minute, settings.limits.chat_per_minute),
        _commands(bot, shared, access, profile.persona), Verdicts(arena, shared.settlements, store, database),
        lambda place, text: shared.outbox.post(bot.mind, place, text), shared.rng.choice, store, database,
    )  # fmt: skip
    return Made(profile, talk, router, tuple(_adapter(name, bot, shared, profile.persona) for name in bot.adapters))


def new_id() -> str:
    """An identifier that nothing else has."""
    return uuid.uuid4().hex


def _profile(bot: BotSettings, shared: Shared) -> BotProfile:
    sampling = bot.sampling
    persona = CurrentPersona(_persona(bot.persona), [_persona(one) for one in bot.personas])
    persona.set_profile(shared.store.note(bot.name, PROFILE_NOTE))
    return BotProfile(
        name=bot.name,
        mind=bot.mind,
        persona=persona,
        sampling=Sampling(sampling.temperature, sampling.top_p, sampling.repetition_penalty, sampling.max_tokens),
        max_message_chars=shared.settings.max_message_chars,
        reply_timeout=shared.settings.reply_timeout,
        offers_in_groups=bot.groups.offers,
        blocked_words=bot.blocked_words,
    )


def _persona(told: PersonaSettings) -> Persona:
    return Persona(told.name, told.profile, told.greeting, told.first_words)


def _arena(bot: BotSettings, shared: Shared) -> Arena:
    settings, probation = shared.settings, shared.nights.probation
    rules = OfferRules(
        settings.ask_rate_of(bot), settings.offers.max_per_hour, settings.offers.expire_minutes * 60,
        recipe(settings.learner).quarantine,
    )  # fmt: skip
    curiosity = _curiosity(bot.mind, shared)
    return Arena(rules, shared.store, shared.database, shared.rng, lambda: probation.ready(bot.mind), curiosity)


def _curiosity(mind: str, shared: Shared) -> Curiosity | None:
    """What tells which pairs are worth asking about, unless any are to be."""
    if shared.settings.offers.choose == "random":
        return None
    return Curiosity(shared.engines[mind], lambda: loras.active_folder(shared.settings.loras_dir, mind))


def _recall(bot: BotSettings, shared: Shared) -> Recall | None:
    """What finds what was said before, unless none is wanted or the database can't."""
    if not shared.settings.recalls:
        return None
    why_not = shared.store.why_no_recall()
    if why_not and shared.vectors is None:
        log.warning("recall: off: %s", why_not)
        return None
    return Recall(shared.settings.recall, bot.mind, shared.store, shared.database, shared.vectors)


def _commands(bot: BotSettings, shared: Shared, access: Access, persona: CurrentPersona) -> Commands:
    choosing = Choosing(bot.name, bot.mind, persona, shared.rng.choice, shared.store, shared.database)
    return Commands(
        bot.name, bot.mind, access, shared.summaries, shared.platforms, shared.versions.calls(),
        shared.outbox.say_unstored, choosing, shared.store, shared.database,
    )  # fmt: skip


def _adapter(name: str, bot: BotSettings, shared: Shared, persona: CurrentPersona) -> PlatformAdapter:
    adapter_class = registry.load(name)
    build: dict[str, Callable[[], PlatformAdapter]] = {
        "console": lambda: adapter_class(shared.quit),
        "web": lambda: _page(adapter_class, bot, shared, persona),
        "memory": adapter_class,
    }
    if name in build:
        return build[name]()
    own = shared.settings.platform(bot, name)
    adapter: PlatformAdapter = adapter_class(own, shared.platforms.host(bot.name, name))
    return adapter


def _page(adapter_class: type, bot: BotSettings, shared: Shared, persona: CurrentPersona) -> PlatformAdapter:
    web, store, database = shared.settings.adapters.web, shared.store, shared.database
    greeter = Greeter(bot.mind, persona, shared.rng.choice, store, database, shared.outbox, shared.clock)
    backend = PageBackend(
        bot, shared.settings, store, database, shared.nights, shared.summaries, shared.platforms, greeter
    )
    adapter: PlatformAdapter = adapter_class(
        backend, host=web.host, port=shared.server.port, token=web.token, allowed_hosts=web.allowed_hosts, new_id=new_id
    )
    return adapter
