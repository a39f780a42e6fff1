"""Sends replies as Telegram's messages, and marks offers that were answered. Knows nothing of what comes in."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from telegram import ReplyParameters
from telegram.error import ChatMigrated, TelegramError

from adapters.base import DeliveryFailed, Moved, Person, Reply, Sent, Verdict
from adapters.telegram.client import Client
from adapters.telegram.ids import Address, address, chat_id, message_id, message_number
from adapters.telegram.outgoing import Part, escaped, parts_of, settled
from adapters.telegram.settings import TelegramSettings
from adapters.telegram.timing import Pace, remember
from adapters.telegram.translate import moved

log = logging.getLogger(__name__)


class Sender:
    """Sends, at Telegram's pace. `topics` gives the chat of a message that was sent to a topic."""

    def __init__(self, settings: TelegramSettings, pace: Pace, on_moved: Callable[[Moved], None]) -> None:
        self.topics: dict[str, str] = {}
        self._settings = settings
        self._pace = pace
        self._on_moved = on_moved
        self._sent: dict[str, list[str]] = {}  # by reply: what went out of it
        self._moved: dict[int, int] = {}  # groups that became supergroups

    async def send(self, client: Client, reply: Reply) -> Sent:
        """Deliver `reply`; a retry goes on after the parts that went out. Raises DeliveryFailed."""
        where, parts = address(reply.chat), parts_of(reply, self._settings)
        if where is None:
            raise DeliveryFailed(f"{reply.chat} is no chat of Telegram's", permanent=True)
        if not parts:
            raise DeliveryFailed("the reply is empty, and Telegram takes no empty message", permanent=True)
        if reply.id not in self._sent:
            remember(self._sent, reply.id, [])
        sent = self._sent[reply.id]
        for part in parts[len(sent) :]:
            message = await self._deliver(client, where, part, None if sent or where.private else reply.answers)
            sent.append(message)
            if where.thread is not None:
                remember(self.topics, message, reply.chat)
        return Sent(tuple(sent))

    async def settle(self, client: Client, message_ids: tuple[str, ...], offer: Reply, verdict: Verdict) -> None:
        """Show at a reply what was said about it. Best effort."""
        where = address(offer.chat)
        number = message_number(message_ids[-1], where.chat) if where and message_ids else None
        look = settled(offer, verdict, self._settings, whole=len(message_ids) == 1)
        # In a group the rating buttons are everybody's: one person's mark would hide the others'.
        if where is None or number is None or look is None or not (where.private or offer.candidates):
            return
        try:
            await self._pace.turn(where.chat)
            if look.text:
                text = self._formatted(look.text)
                await client.bot.edit_message_text(
                    chat_id=where.chat, message_id=number, reply_markup=look.keyboard, **text
                )
            else:
                await client.bot.edit_message_reply_markup(where.chat, number, reply_markup=look.keyboard)
        except TelegramError as error:
            log.debug("telegram: a choice could not be shown: %s", client.reason(error))

    async def _deliver(self, client: Client, where: Address, part: Part, answers: str | None) -> str:
        """Send one message; its id. A group that became a supergroup is followed."""
        try:
            try:
                return await self._post(client, self._now(where), part, answers)
            except ChatMigrated as error:
                old = self._now(where).chat
                remember(self._moved, where.chat, error.new_chat_id)
                self._on_moved(moved(old, error.new_chat_id, Person(chat_id(old))))
                return await self._post(client, self._now(where), part, answers)
        except TelegramError as error:
            raise client.failure(error) from error

    async def _post(self, client: Client, where: Address, part: Part, answers: str | None) -> str:
        answered = message_number(answers, where.chat) if answers else None
        await self._pace.turn(where.chat)
        message = await client.bot.send_message(
            chat_id=where.chat,
            message_thread_id=where.thread,
            reply_markup=part.keyboard,
            reply_parameters=ReplyParameters(answered, allow_sending_without_reply=True) if answered else None,
            **self._formatted(part.text),
        )
        return message_id(message.chat.id, message.message_id)

    def _now(self, where: Address) -> Address:
        return Address(self._moved.get(where.chat, where.chat), where.thread)

    def _formatted(self, text: str) -> dict[str, Any]:
        mode = self._settings.parse_mode
        return {"text": escaped(text, mode), "parse_mode": mode or None}
