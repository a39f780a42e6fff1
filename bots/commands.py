"""What a slash command does. Knows nothing of platforms or models."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from adapters.base import Reply
from bots.access import Access
from bots.call import Call
from bots.choosing import Choosing
from bots.control import ControlError
from bots.database import Database
from bots.intent import Command
from bots.payloads import draft_of
from bots.phrases import LANGUAGES, phrases
from learner.scopes import COMMON
from learner.store.rows import Known, NewFeedback, Place
from learner.store.store import Store

ME = ("me", "我")
YES = ("yes", "确认", "是")


class Nights(Protocol):
    """What commands need of the nightly runs: start one, and tell how things stand."""

    async def begin(self, mind: str, asked_in: Place) -> str | None:
        """Start a run and tell the chat how it ended; a sentence when it can't start."""
        ...

    async def summary(self, mind: str, place: Place) -> dict[str, object]:
        """model, lora and records of that chat, for the status line."""
        ...

    def own_name(self, mind: str, place: Place) -> str:
        """What the chat's own LoRA is called; empty where it has none."""
        ...

    def versions(self, mind: str) -> str:
        """The LoRA versions, a line each."""
        ...


class Logins(Protocol):
    """What commands need of the platforms."""

    def enter_code(self, bot: str, code: str) -> bool:
        """Pass on the digits that a phone shows; False where no login waits for them."""
        ...

    def listing(self) -> list[dict[str, object]]:
        """How every adapter stands."""
        ...


Control = Mapping[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]]


class Commands:
    """The commands of one bot: each returns the replies to it."""

    def __init__(
        self,
        bot: str,
        mind: str,
        access: Access,
        nights: Nights,
        logins: Logins,
        control: Control,
        farewell: Callable[[Place, str], Awaitable[None]],
        choosing: Choosing,
        store: Store,
        database: Database,
    ) -> None:
        self._bot = bot
        self._mind = mind
        self._access = access
        self._nights = nights
        self._logins = logins
        self._control = control
        self._farewell = farewell
        self._choosing = choosing
        self._store = store
        self._database = database
        self._runs: dict[str, Callable[[Call, str], Awaitable[Reply | None]]] = {
            "help": self._help,
            "start": self._start,
            "undo": self._undo,
            "reset": self._reset,
            "status": self._status,
            "forget": self._forget,
            "persona": self._choosing.persona,
            "pause": self._pause,
            "lang": self._lang,
            "claim": self._claim,
        }
        self._owners: dict[str, Callable[[Call, str], Awaitable[Reply | None]]] = {
            "learn": self._learn,
            "lora": self._lora,
            "approve": self._approve,
            "teach": lambda call, who: self._teach(call, who, True),
            "unteach": lambda call, who: self._teach(call, who, False),
            "allow": self._allow,
            "code": self._code,
        }

    async def run(self, call: Call, command: Command) -> list[Reply]:
        """Do what `command` says."""
        if command.name in self._owners and not call.known.owner:
            return [call.notice("owner_only")]
        runs = self._owners if command.name in self._owners else self._runs
        reply = await runs[command.name](call, command.argument)
        return [] if reply is None else [reply]

    # Anybody's --------------------------------------------------------------------------------

    async def _help(self, call: Call, _argument: str) -> Reply:
        return call.words(
            call.phrases.say("help") + ("\n" + call.phrases.say("help_owner") if call.known.owner else "")
        )

    async def _start(self, call: Call, argument: str) -> Reply | None:
        """What platforms say for somebody who opens the chat: the bot greets, or tells what it can do."""
        history = await self._database(self._store.history, call.place, 1)
        first = None if call.group or history else self._choosing.greeting(call, call.chat.persona, "0")
        if first is None:
            return await self._help(call, argument)
        drafts = [draft_of(first.reply, call.place)]
        await self._database(self._store.add_turn, call.row.id, self._mind, call.place, first.turn, drafts)
        return None

    async def _undo(self, call: Call, _argument: str) -> Reply:
        last = await self._database(self._store.latest_feedback, call.place, call.teacher)
        if last is None:
            return call.notice("nothing_to_take_back")
        retract = NewFeedback(last.exchange, call.teacher, call.trusted, "retract", "", "", call.arrived)
        notice = call.notice("taken_back")
        # One transaction with the inbox row: repeated after a crash, /undo would take back one more.
        await self._database(self._store.add_feedback, call.row.id, retract, [draft_of(notice, call.place)])
        return notice

    async def _reset(self, call: Call, _argument: str) -> Reply:
        if call.group and not call.known.owner:
            return call.notice("owner_only")
        await self._database(self._store.reset, call.place, call.arrived)
        return call.notice("reset")

    async def _status(self, call: Call, _argument: str) -> Reply:
        text = call.phrases.say("status", **await self._nights.summary(self._mind, call.place))
        if call.known.owner:
            name = self._nights.own_name(self._mind, call.place)
            chat = f"{call.place.platform}:{call.place.chat}"
            text += "\n" + call.phrases.say("status_own" if name else "status_chat", chat=chat, name=name)
            mine = [one for one in self._logins.listing() if one["bot"] == self._bot]
            text += "".join(f"\n{one['adapter']}: {one['state']} {one['detail']}".rstrip() for one in mine)
        return call.words(text)

    async def _forget(self, call: Call, argument: str) -> Reply | None:
        """Delete the person who asks, once they said so twice."""
        who, _, sure = argument.lower().partition(" ")
        if who not in ME or sure.strip() not in YES:
            return call.notice("forget_sure")
        await self._control["forget"]({"person": call.teacher})
        await self._farewell(call.place, call.phrases.say("forgotten"))
        return None

    async def _pause(self, call: Call, _argument: str) -> Reply:
        """Be quiet in this chat, or speak again."""
        if call.group and not call.known.owner:
            return call.notice("owner_only")
        paused = not call.chat.paused
        return await self._changed(call, call.notice("paused" if paused else "speaking"), paused=paused)

    async def _changed(self, call: Call, notice: Reply, **changes: Any) -> Reply:
        """Set something for the chat, in one transaction with the inbox row: a crash must not set it back."""
        drafts = [draft_of(notice, call.place)]
        await self._database(self._store.change_chat, call.place, call.row.id, drafts, **changes)
        return notice

    async def _lang(self, call: Call, argument: str) -> Reply:
        language = {"中文": "zh", "english": "en"}.get(argument.lower(), argument.lower())
        if call.group and not call.known.owner:
            return call.notice("owner_only")
        if language not in LANGUAGES:
            return call.notice("languages", languages=", ".join(LANGUAGES))
        return await self._changed(call, call.words(phrases(language).say("language_set")), language=language)

    async def _claim(self, call: Call, argument: str) -> Reply:
        if call.known.owner:
            return call.notice("claim_already")
        claimed = await self._access.claim(call.known, argument, call.arrived)
        return call.notice("claimed" if claimed else "claim_wrong")

    # The owner's ------------------------------------------------------------------------------

    async def _learn(self, call: Call, _argument: str) -> Reply:
        refusal = await self._nights.begin(self._mind, call.place)
        return call.words(refusal) if refusal else call.notice("night_started")

    async def _lora(self, call: Call, argument: str) -> Reply | None:
        """List the versions; "promote 0007", "rollback"."""
        verb, _, version = argument.partition(" ")
        try:
            if verb == "promote" and version.strip():
                done = await self._control["promote"](self._about(call, version.strip()))
            elif verb == "rollback":
                await self._roll_back(call)
                return None
            else:
                return call.notice("loras", versions=self._nights.versions(self._mind) or "—")
        except ControlError as error:
            return call.words(str(error))
        return call.notice("lora_speaks", version=done["active"])

    def _about(self, call: Call, version: str = "") -> dict[str, Any]:
        """What a call is about: a version's own chats, or else those that this one belongs to."""
        chat = self._nights.own_name(self._mind, call.place) if version in ("", COMMON) else ""
        return {"mind": self._mind, "chat": chat, "version": version}

    async def _roll_back(self, call: Call) -> None:
        """Dealt with before it is done: begun again after a crash, it would go back twice."""
        await self._database(self._store.answer, call.row.id, [])
        try:
            done = await self._control["rollback"](self._about(call))
            told = call.phrases.say("lora_speaks", version=done["active"])
        except ControlError as error:
            told = str(error)
        await self._farewell(call.place, told)

    async def _approve(self, call: Call, argument: str) -> Reply:
        admitted = await self._access.admit(argument)
        if admitted is None:
            return call.notice("approve_wrong")
        return call.notice("approved", name=admitted.name or admitted.person)

    async def _teach(self, call: Call, argument: str, teacher: bool) -> Reply:
        """Let the feedback of one person train, or no longer. A name is anybody's: it only helps to find the id."""
        name = argument.lstrip("@").strip()
        found = await self._database(self._store.people_called, self._bot, call.place.platform, name) if name else []
        if [one.person for one in found] != [name]:
            ids = ", ".join(one.person for one in found) or "—"
            return call.notice("who", name=name or "?", ids=ids)
        await self._set_teacher(found[0], teacher)
        return call.notice("teaches" if teacher else "teaches_no_more", name=found[0].name or found[0].person)

    async def _set_teacher(self, who: Known, teacher: bool) -> None:
        await self._database(self._store.set_teacher, self._bot, who.platform, who.person, teacher)

    async def _allow(self, call: Call, _argument: str) -> Reply:
        """Let the group in where this is said, or no longer."""
        if not call.group:
            return call.notice("allow_in_a_group")
        allowed = not call.chat.allowed
        return await self._changed(call, call.notice("allowed" if allowed else "allowed_no_more"), allowed=allowed)

    async def _code(self, call: Call, argument: str) -> Reply:
        passed = self._logins.enter_code(self._bot, argument.strip())
        return call.notice("code_passed" if passed else "code_unasked")
