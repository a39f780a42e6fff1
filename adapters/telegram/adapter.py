"""Telegram as a platform: updates in, messages with buttons out. Knows nothing of the conversation."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Coroutine
from typing import Any

import telegram
from telegram.constants import ChatAction
from telegram.error import TelegramError

from adapters.base import (
    Capabilities,
    DeliveryFailed,
    Finding,
    Health,
    Host,
    Inbound,
    Moved,
    Pressed,
    Receive,
    Reply,
    Sent,
    Verdict,
)
from adapters.telegram.client import Client, connection
from adapters.telegram.doctor import findings
from adapters.telegram.ids import address
from adapters.telegram.labels import BUTTONS, COMMANDS, TAKEN_BACK
from adapters.telegram.mentions import Me
from adapters.telegram.outgoing import MAX_UNITS, draft_text
from adapters.telegram.polling import Polling
from adapters.telegram.presence import Drafts, Typing
from adapters.telegram.sending import Sender
from adapters.telegram.settings import TelegramSettings
from adapters.telegram.timing import Limits, Pace, Timing
from adapters.telegram.translate import inbound_of
from adapters.telegram.webhook import Webhook

log = logging.getLogger(__name__)


class TelegramAdapter:
    """One bot on Telegram."""

    name = "telegram"
    capabilities = Capabilities(streams=True, buttons=True, shows_presses=True, max_chars=MAX_UNITS)

    def __init__(
        self, settings: TelegramSettings, host: Host, *, timing: Timing | None = None, limits: Limits | None = None
    ) -> None:
        self.port = 0  # on which the webhook listens
        self._settings = settings
        self._host = host
        self._timing = timing or Timing()
        self._sender = Sender(settings, Pace(limits or Limits()), self._on_moved)
        self._typing = Typing(self._show_typing, self._timing.typing)
        self._drafts = Drafts(self._show_draft, self._timing.draft)
        self._client: Client | None = None  # while it runs
        self._receive: Receive | None = None
        self._health: Health | None = None
        self._commands_offered = False
        self._asides: set[asyncio.Task[None]] = set()

    @staticmethod
    async def diagnose(settings: TelegramSettings, host: Host) -> list[Finding]:
        """What is right and wrong with these settings; connects, but takes no update."""
        return await findings(settings)

    async def run(self, receive: Receive) -> None:
        """Take part until cancelled. Raises AdapterError for settings that can't work."""
        self._report(Health("starting"))
        async with connection(self._settings) as client:
            self._client, self._receive = client, receive
            line: Polling | Webhook = Polling(client, self._timing, self._report)
            if self._settings.webhook_url:
                line = Webhook(self._settings, client, self._timing, self._report)
            try:
                await line.run(self._connect, self._take)
            finally:
                self._client = self._receive = self._health = None
                await self._quiet()

    async def send(self, reply: Reply) -> Sent:
        """Deliver `reply`; a retry goes on after the parts that went out. Raises DeliveryFailed."""
        if self._client is None:
            raise DeliveryFailed("telegram is not running")
        await self._drafts.end(reply.chat, reply.exchange)
        return await self._sender.send(self._client, reply)

    def stream(self, chat: str, exchange: str, candidate: int, text: str) -> None:
        """Let a draft grow, in a private chat; Telegram has none elsewhere."""
        where = address(chat)
        if self._settings.drafts and self._client and where and where.private and candidate == 1:
            self._drafts.grow(chat, exchange, text)

    def busy(self, chat: str, on: bool) -> None:
        """Show "typing" in `chat`, or no longer."""
        if not on:
            self._typing.end(chat)
            self._drafts.stop(chat)
        elif self._client and address(chat):
            self._typing.begin(chat)

    async def settle(self, chat: str, message_ids: tuple[str, ...], offer: Reply, verdict: Verdict) -> None:
        """Show at `offer` what was chosen, or at a single reply how it was rated."""
        if self._client is not None:
            await self._sender.settle(self._client, message_ids, offer, verdict)

    # What comes in ------------------------------------------------------------------------------

    async def _connect(self) -> str:
        """Learn who the bot is; its name."""
        assert self._client is not None
        bot = self._client.bot
        await bot.initialize()
        if not self._commands_offered:
            self._aside(self._offer_commands(bot))
        return f"@{bot.username}"

    async def _take(self, raw: dict[str, Any]) -> None:
        """Pass on what an update says; when this returns it is stored."""
        assert self._client is not None
        assert self._receive is not None
        update = self._client.read(raw)
        if update is None:
            return
        inbounds = self._translated(update, self._client.bot)
        for inbound in inbounds:
            await self._receive(inbound)
        if update.callback_query is not None:
            pressed = next((one for one in inbounds if isinstance(one, Pressed)), None)
            self._aside(self._acknowledge(update.callback_query, pressed))

    def _translated(self, update: telegram.Update, bot: telegram.Bot) -> tuple[Inbound, ...]:
        try:
            return inbound_of(update, Me(bot.id, bot.username), self._sender.topics.get)
        except Exception as error:  # one update that is like no other must not stop all that come after it
            log.error("telegram: update %s is not understood (%s)", update.update_id, type(error).__name__)
            log.debug("telegram: the update that is not understood", exc_info=True)
            return ()

    async def _acknowledge(self, query: telegram.CallbackQuery, pressed: Pressed | None) -> None:
        """Take the waiting mark off the button, and say to whoever pressed it which rating it was."""
        label = None
        if pressed is not None and pressed.verdict in ("good", "bad", "retract"):
            label = BUTTONS[self._settings.language].get(pressed.verdict, TAKEN_BACK)
        await query.answer(label)

    async def _offer_commands(self, bot: telegram.Bot) -> None:
        await bot.set_my_commands(list(COMMANDS[self._settings.language].items()))
        self._commands_offered = True

    def _on_moved(self, moved: Moved) -> None:
        """An answer to a message told that the group is another chat now."""

        async def tell() -> None:
            if self._receive is not None:
                await self._receive(moved)

        self._aside(tell())

    # What people see ----------------------------------------------------------------------------

    async def _show_typing(self, chat: str) -> None:
        if self._client is not None and (where := address(chat)) is not None:
            await self._client.bot.send_chat_action(where.chat, ChatAction.TYPING, where.thread)

    async def _show_draft(self, chat: str, exchange: str, text: str) -> None:
        if self._client is not None and (where := address(chat)) is not None:
            number = zlib.crc32(exchange.encode()) or 1
            await self._client.bot.send_message_draft(where.chat, number, draft_text(text), where.thread)

    # Itself -------------------------------------------------------------------------------------

    def _report(self, health: Health) -> None:
        if health != self._health:
            self._health = health
            self._host.report(health)

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` without keeping anyone waiting; whether it succeeds matters little."""
        task = asyncio.create_task(_forgiven(work))
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)

    async def _quiet(self) -> None:
        """End all that was begun."""
        await self._typing.close()
        await self._drafts.close()
        asides = list(self._asides)
        for task in asides:
            task.cancel()
        await asyncio.gather(*asides, return_exceptions=True)


async def _forgiven(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except TelegramError as error:
        log.debug("telegram: not done: %s", type(error).__name__)
    except Exception as error:
        log.error("telegram: not done: %s", type(error).__name__)
        log.debug("telegram: not done", exc_info=True)
