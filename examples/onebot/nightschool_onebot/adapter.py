"""QQ as a platform, by OneBot v11 over WebSocket. Knows no bot.

OneBot does not wait for an acknowledgement: an event that arrives while we are down is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from typing import Any

from adapters.base import (
    AdapterError,
    Capabilities,
    DeliveryFailed,
    Finding,
    Health,
    Host,
    Inbound,
    Receive,
    Reply,
    Sent,
)
from adapters.text import chunks, offer_text
from nightschool_onebot import translate
from nightschool_onebot.diagnose import findings
from nightschool_onebot.link import Forward, Line, Link, LinkLost, Reverse, TokenRefused
from nightschool_onebot.segments import write
from nightschool_onebot.settings import OneBotSettings

log = logging.getLogger(__name__)
LONGEST_PAUSE = 60.0  # seconds
TRIES = 5  # to store one event
KEPT = 512  # of what was sent last
ASKING = 5.0  # seconds for a question that only decides who is meant
HOPELESS = (1400, 1404)  # a call that OneBot does not understand or have: sending it again changes nothing


class OneBotAdapter:
    """One QQ account. Sends one message at a time, so that what comes back can be told from the owner's words."""

    name = "onebot"
    capabilities = Capabilities(max_chars=2000)
    Settings = OneBotSettings

    def __init__(self, settings: OneBotSettings, host: Host, first_pause: float = 1.0) -> None:
        self._settings = settings
        self._host = host
        self._first_pause = first_pause
        self._line: Line = Forward(settings) if settings.url else Reverse(settings)
        self._link: Link | None = None
        self._was_online = False  # since the last attempt to connect
        self._qq_online = True
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._sending = asyncio.Lock()
        self._parts_sent: OrderedDict[str, list[str]] = OrderedDict()  # Reply.id -> our ids of its parts
        self._own: deque[str] = deque(maxlen=KEPT)
        self._unsure: deque[tuple[str, str]] = deque(maxlen=KEPT)  # chat and words whose sending was not answered

    @staticmethod
    async def diagnose(settings: OneBotSettings, host: Host) -> list[Finding]:
        """What `nightschool doctor` says of this platform."""
        return await findings(settings)

    async def run(self, receive: Receive) -> None:
        """Take part until cancelled."""
        if self._settings.token_is_missing:
            raise AdapterError(f"token_env names {self._settings.token_env}, and that environment variable is not set")
        self._host.report(Health("starting", self._waiting()))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pass_on(receive))
            tasks.create_task(self._stay_connected())

    async def send(self, reply: Reply) -> Sent:
        """Deliver `reply`; what went out of it at an earlier try is not sent again."""
        text = reply.text if reply.candidates is None else offer_text(reply)
        parts = chunks(text, self.capabilities.max_chars)
        sent = self._parts_sent.setdefault(reply.id, [])
        if len(self._parts_sent) > KEPT:
            self._parts_sent.popitem(last=False)
        async with self._sending:
            while len(sent) < len(parts):
                sent.append(await self._send_part(reply, parts[len(sent)], first=not sent))
        return Sent(tuple(sent))

    def stream(self, chat: str, exchange: str, candidate: int, text: str) -> None:
        """QQ shows no message that grows."""

    # Outwards ---------------------------------------------------------------------------------

    async def _send_part(self, reply: Reply, part: str, first: bool) -> str:
        if (link := self._link) is None:
            raise DeliveryFailed("there is no connection to OneBot")
        group = translate.group_of(reply.chat)
        if group is None:
            action, whom, message = "send_private_msg", {"user_id": _number(reply.chat)}, write(part)
        else:
            quote = translate.message_number(reply.answers, reply.chat)
            action, whom = "send_group_msg", {"group_id": _number(group)}
            message = write(part, quote, reply.to) if first else write(part)
        try:
            answer = await link.call(action, **whom, message=message)
        except (LinkLost, asyncio.CancelledError) as error:
            self._unsure.append((reply.chat, part.strip()))
            if isinstance(error, LinkLost):
                raise DeliveryFailed(str(error) or "OneBot refuses the token") from error
            raise
        key = translate.message_key(reply.chat, _message_id(answer))
        self._own.append(key)
        return key

    # Inwards ----------------------------------------------------------------------------------

    async def _pass_on(self, receive: Receive) -> None:
        """One event after the other, so that people's words keep their order."""
        while True:
            event = await self._events.get()
            try:
                inbound = await self._inbound(event)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                log.warning("an event that OneBot does not describe was left out (%s)", type(error).__name__)
                continue
            if inbound is not None:
                await self._store(receive, inbound)

    async def _store(self, receive: Receive, inbound: Inbound) -> None:
        """OneBot never sends an event again, so what could not be stored is tried again here."""
        pause = self._first_pause
        for _ in range(TRIES):
            try:
                await receive(inbound)
                return
            except Exception as error:
                log.warning("%s %s could not be taken (%s)", type(inbound).__name__, inbound.id, type(error).__name__)
                log.debug("why it could not be taken", exc_info=error)
                await asyncio.sleep(pause)
                pause *= 2
        log.error("%s %s is lost after %d tries", type(inbound).__name__, inbound.id, TRIES)

    async def _inbound(self, event: dict[str, Any]) -> Inbound | None:
        if event.get("post_type") == "meta_event":
            self._heed_heartbeat(event)
            return None
        if translate.is_own(event) and await self._is_ours(event):
            return None
        return translate.to_inbound(event, await self._quotes_bot(event))

    async def _is_ours(self, event: dict[str, Any]) -> bool:
        """Whether we sent it; it may come before the answer to our own call."""
        key = translate.message_key(chat := translate.chat_of(event), event.get("message_id"))
        if key not in self._own:
            async with self._sending:
                pass
        if key in self._own:
            return True
        if (said := (chat, translate.written(event))) in self._unsure:
            self._unsure.remove(said)
            return True
        return False

    async def _quotes_bot(self, event: dict[str, Any]) -> bool:
        """Whether a message in a group quotes one of the bot's, which makes it meant for the bot."""
        if event.get("post_type") != "message" or "group_id" not in event or not (quoted := translate.quoted(event)):
            return False
        if translate.message_key(translate.chat_of(event), quoted) in self._own:
            return True
        if (link := self._link) is None:
            return False
        try:
            async with asyncio.timeout(ASKING):
                answer = await link.call("get_msg", message_id=_number(quoted))
        except (LinkLost, DeliveryFailed, TimeoutError):
            return False
        sender = (answer.get("data") or {}).get("sender") or {}
        return str(sender.get("user_id")) == str(event.get("self_id"))

    # The connection ---------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        pause = self._first_pause
        while True:
            self._was_online = False
            try:
                await self._line.hold(self._talk if self._settings.url else self._talk_to_caller)
            except LinkLost as lost:
                pause = self._first_pause if self._was_online else pause
                self._lost(lost, f"; trying again in {pause:g} s")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _talk_to_caller(self, link: Link) -> None:
        """One of those that connected to us; the newest is the one to talk to."""
        if self._link is not None:
            self._link.drop()
        try:
            await self._talk(link)
        except LinkLost as lost:
            if self._link is None:
                self._lost(lost, f". {self._waiting()}")

    async def _talk(self, link: Link) -> None:
        """Take events from `link` until it ends, which is a LinkLost."""
        listening = asyncio.create_task(link.listen(self._events.put_nowait))
        self._link = link  # at once: what arrives before the first answer may be replied to
        try:
            answer = await link.call("get_login_info")
            account = answer.get("data") or {}
            if not account.get("user_id"):
                raise LinkLost("QQ is not logged in; log in there")
            self._was_online = self._qq_online = True
            self._host.report(Health("online", f"QQ account {account['user_id']}"))
            await listening
        finally:
            if self._link is link:
                self._link = None
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    def _heed_heartbeat(self, event: dict[str, Any]) -> None:
        """OneBot can be reached while QQ behind it is not."""
        online = (event.get("status") or {}).get("online")
        if self._link is not None and online is not None and online != self._qq_online:
            self._qq_online = online
            self._host.report(
                Health("online") if online else Health("offline", "OneBot runs, but QQ is logged out; log in there")
            )

    def _lost(self, lost: LinkLost, what_then: str) -> None:
        named = self._settings.token_env or "token_env, which is not set"
        reason = f"OneBot refuses the token; check {named}" if isinstance(lost, TokenRefused) else str(lost)
        log.info("offline: %s", reason)
        self._host.report(Health("offline", f"{reason}{what_then}"))

    def _waiting(self) -> str:
        if self._settings.url:
            return f"connecting to {self._settings.url}"
        return f"waiting for OneBot; give it ws://{self._settings.listen} as the address of its reverse WebSocket"


def _number(digits: str) -> int:
    """Ids are numbers on the wire."""
    try:
        return int(digits)
    except ValueError as error:
        raise DeliveryFailed(f"{digits!r} is no QQ number", permanent=True) from error


def _message_id(answer: dict[str, Any]) -> str:
    """The message_id in the answer to a send. Raises DeliveryFailed."""
    code = answer.get("retcode")
    message_id = (answer.get("data") or {}).get("message_id")
    if answer.get("status") == "failed" or code not in (0, 1):
        raise DeliveryFailed(f"OneBot did not send it (retcode {code}); its log says why", permanent=code in HOPELESS)
    return str(message_id)
