"""Who speaks in a chat: told, chosen by anybody, given another profile by the owner.

Knows nothing of platforms or models.
"""

from __future__ import annotations

from adapters.base import Reply
from bots.call import Call
from bots.database import Database
from bots.greeting import Greeting, greeting
from bots.payloads import draft_of
from bots.persona import DEFAULT, CurrentPersona, Draw
from learner.store.store import Store

PROFILE_NOTE = "persona.profile"


class Choosing:
    """What `/persona` does for one bot."""

    def __init__(
        self, bot: str, mind: str, persona: CurrentPersona, draw: Draw, store: Store, database: Database
    ) -> None:
        self._bot = bot
        self._mind = mind
        self._persona = persona
        self._draw = draw
        self._store = store
        self._database = database

    def greeting(self, call: Call, chosen: str, number: str) -> Greeting | None:
        """What `chosen` says first, as the reply with this number; None when it waits to be spoken to."""
        answers = call.row.inbound.external_id
        reply_id = f"{call.row.id}-{number}"
        return greeting(self._persona, chosen, self._draw, call.place, reply_id, call.arrived, answers)

    async def persona(self, call: Call, argument: str) -> Reply | None:
        """Tell who speaks here, let another persona speak, or take the owner's words as the bot's own profile.

        "-" is the bot's own persona again; where that speaks already, the owner's "-" is its profile as configured.
        """
        if not argument:
            return self._who_speaks(call)
        chosen = self._persona.meant_by(argument) if self._persona.others else None
        resets = argument == DEFAULT and not call.chat.persona and call.known.owner
        if chosen is not None and not resets:
            return await self._choose(call, chosen)
        own = argument.removeprefix("=").strip()
        if self._persona.others and own == argument != DEFAULT:
            return call.notice("persona_unknown", name=argument, personas=self._listing(call.chat.persona))
        return await self._set_profile(call, own)

    def _who_speaks(self, call: Call) -> Reply:
        now = self._persona.of(call.chat.persona)
        told = call.phrases.say("persona", name=now.name or self._bot, profile=now.profile or "—")
        if self._persona.others:
            told += "\n" + call.phrases.say("personas", personas=self._listing(call.chat.persona))
        return call.words(told)

    def _listing(self, chosen: str) -> str:
        """All names, the one that speaks in brackets."""
        speaks = self._persona.of(chosen)
        everybody = [self._persona.now, *map(self._persona.of, self._persona.others)]
        names = [(one.name or DEFAULT, one is speaks) for one in everybody]
        return ", ".join(f"[{name}]" if now else name for name, now in names)

    async def _choose(self, call: Call, chosen: str) -> Reply | None:
        """Let the persona speak in this chat. History starts anew: another's words are not its own."""
        if call.group and not call.known.owner:
            return call.notice("owner_only")
        name = self._persona.of(chosen).name or self._bot
        if chosen == call.chat.persona:
            return call.notice("persona_speaks", name=name)
        first = self.greeting(call, chosen, "1")
        notice = call.notice("persona_chosen", name=name)
        replies = [notice] if first is None else [notice, first.reply]
        await self._database(
            self._store.choose_persona,
            call.row.id,
            self._mind,
            call.place,
            chosen,
            [] if first is None else [first.turn],
            [draft_of(reply, call.place) for reply in replies],
            call.arrived,
        )
        return None

    async def _set_profile(self, call: Call, words: str) -> Reply:
        if not call.known.owner:
            return call.notice("owner_only")
        profile = "" if words == DEFAULT else words
        await self._database(self._store.set_note, self._bot, PROFILE_NOTE, profile, call.teacher)
        self._persona.set_profile(profile)
        return self._who_speaks(call)
