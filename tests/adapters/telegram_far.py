"""Telegram's side for the contract suite: people who write, press and react. Knows nothing of what is tested."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest
from telegram_api import ME, TOKEN, BotApi

from adapters.base import Verdict
from adapters.telegram.adapter import TelegramAdapter
from adapters.telegram.settings import TelegramSettings
from adapters.telegram.timing import Limits, Timing
from adapters.testing import FarEnd, Shown, TestHost
from adapters.text import utf16_length

FAST = Timing(first_pause=0.02, longest_pause=0.1, poll=20, watch=0.05, typing=0.05, draft=0.05)
UNLIMITED = Limits((1, 0.0), (1, 0.0), (1, 0.0))
SECRET = "a-secret_for-loopback"
_EMOJIS: dict[str, list[str]] = {"good": ["👍"], "bad": ["👎"], "retract": []}
_BUTTONS = {"1": 0, "2": 1, "both_bad": 2, "good": 0, "bad": 1}


class TelegramFar(FarEnd):
    """The Bot API on loopback and the people behind it. `webhook`: it brings updates instead of being asked."""

    can = frozenset({"press", "react", "quote", "group", "edit", "join", "move", "cut", "acknowledge"})
    limit_in: Callable[[str], int] = staticmethod(utf16_length)

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, webhook: bool = False) -> None:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("TELEGRAM_TOKEN", TOKEN)
        monkeypatch.setenv("TELEGRAM_SECRET", SECRET)
        self.api = BotApi()
        self.host = TestHost("tester", folder)
        self._webhook = free_port() if webhook else None
        self._ids: dict[str, int] = {}
        self._updates: dict[str, dict[str, Any]] = {}  # by message
        self._reactions: dict[tuple[int, str, str], list[str]] = {}
        self._queries = 0

    async def __aenter__(self) -> Self:
        await self.api.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.api.stop()

    def settings(self, **changes: Any) -> TelegramSettings:
        """Settings that lead here."""
        made: dict[str, Any] = {"base_url": self.api.url}
        if self._webhook is not None:
            url = f"http://127.0.0.1:{self._webhook}/telegram"
            made |= {"webhook_url": url, "port": self._webhook, "secret_env": "TELEGRAM_SECRET"}
        return TelegramSettings(**made | changes)

    def adapter(self, timing: Timing = FAST, limits: Limits = UNLIMITED, **changes: Any) -> TelegramAdapter:
        return TelegramAdapter(self.settings(**changes), self.host, timing=timing, limits=limits)

    def number(self, name: str, group: bool = False) -> int:
        """The id of a person or, below zero, of a group."""
        if name not in self._ids:
            number = 1001 + len(self._ids)
            self._ids[name] = -number if group else number
        return self._ids[name]

    def chat_id(self, chat: str) -> str:
        return str(self.chat(chat)["id"])

    def person_id(self, person: str) -> str:
        return str(self.number(person))

    def chat(self, chat: str) -> dict[str, Any]:
        """Telegram's object for a chat; "alice", "bob" and "carol" are persons."""
        if chat in ("alice", "bob", "carol"):
            return {"id": self.number(chat), "type": "private", "first_name": chat.title()}
        return {"id": self.number(chat, group=True), "type": "supergroup", "title": chat}

    def user(self, person: str) -> dict[str, Any]:
        """Telegram's object for a person, or for this bot."""
        if person == "bot":
            return {key: ME[key] for key in ("id", "is_bot", "first_name", "username")}
        return {"id": self.number(person), "is_bot": False, "first_name": person.title()}

    def message(self, chat: str = "alice", person: str = "alice", **fields: Any) -> dict[str, Any]:
        """Telegram's object for a new message."""
        made = self.chat(chat)
        number = self.api.next_message(made["id"])
        return {"message_id": number, "date": int(time.time()), "chat": made, "from": self.user(person), **fields}

    async def write(self, chat: str = "alice", person: str = "alice", **fields: Any) -> str:
        """`person` sends something with these fields."""
        message = self.message(chat, person, **fields)
        self._updates[str(message["message_id"])] = await self.api.push(message=message)
        return str(message["message_id"])

    async def say(
        self, text: str, *, chat: str = "alice", person: str = "alice", mention: bool = False, quote: str | None = None
    ) -> str:
        fields: dict[str, Any] = {"text": text}
        if mention:
            fields = {"text": f"@NightBot {text}", "entities": [{"type": "mention", "offset": 0, "length": 9}]}
        if quote is not None:
            fields["reply_to_message"] = self.api.messages[self.chat(chat)["id"], int(quote)]
        return await self.write(chat, person, **fields)

    async def again(self, message: str) -> None:
        await self.api.again(self._updates[message])

    async def own(self, text: str, *, chat: str = "alice") -> None:
        await self.write(chat, "bot", text=text)

    async def unknown(self, *, chat: str = "alice", person: str = "alice") -> str:
        return await self.write(chat, person, hologram={"width": 3})

    def shown(self, chat: str = "alice") -> list[Shown]:
        number = self.chat(chat)["id"]
        made = [message for (where, _), message in self.api.messages.items() if where == number]
        return [
            Shown(str(one["message_id"]), one["text"], tuple(button["text"] for button in buttons(one))) for one in made
        ]

    async def press(self, message: str, verdict: Verdict, *, chat: str = "alice", person: str = "alice") -> None:
        await self.press_button(message, _BUTTONS[verdict], chat=chat, person=person)

    async def press_button(self, message: str, at: int, *, chat: str = "alice", person: str = "alice") -> str:
        """`person` presses the button at that place; the id of the query."""
        made = self.api.messages[self.chat(chat)["id"], int(message)]
        self._queries += 1
        query = {"id": f"q{self._queries}", "from": self.user(person), "chat_instance": "1", "message": made}
        await self.api.push(callback_query=query | {"data": buttons(made)[at]["callback_data"]})
        return f"q{self._queries}"

    async def react(self, message: str, verdict: Verdict, *, chat: str = "alice", person: str = "alice") -> None:
        await self.react_with(message, _EMOJIS[verdict], chat=chat, person=person)

    async def react_with(self, message: str, emojis: list[str], *, chat: str = "alice", person: str = "alice") -> None:
        """`person` has these reactions under the bot's message from now on."""
        made = self.chat(chat)
        key = made["id"], message, person
        before, self._reactions[key] = self._reactions.get(key, []), emojis
        reaction = {
            "chat": made,
            "message_id": int(message),
            "date": int(time.time()),
            "user": self.user(person),
            "old_reaction": [{"type": "emoji", "emoji": emoji} for emoji in before],
            "new_reaction": [{"type": "emoji", "emoji": emoji} for emoji in emojis],
        }
        await self.api.push(message_reaction=reaction)

    async def edit(self, message: str, text: str, *, chat: str = "alice", person: str = "alice") -> None:
        edited = self._updates[message]["message"] | {"text": text, "edit_date": int(time.time())}
        await self.api.push(edited_message=edited)

    async def join(self, *, chat: str, person: str) -> None:
        await self.write(chat, person, new_chat_members=[self.user(person)])

    async def move(self, chat: str, to: str) -> None:
        await self.write(chat, "alice", migrate_to_chat_id=self.chat(to)["id"])

    def acknowledged(self) -> set[str]:
        return {id for id, update in self._updates.items() if update["update_id"] < self.api.confirmed}

    async def cut(self) -> None:
        await self.api.stop()

    async def mend(self) -> None:
        await self.api.start()


def buttons(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The buttons under a message, all rows in one."""
    return [one for row in message.get("reply_markup", {}).get("inline_keyboard", []) for one in row]


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def parameter(parameters: dict[str, Any], name: str) -> Any:
    """A parameter that came as JSON."""
    return json.loads(parameters[name])
