"""Three platforms at once, 500 messages, 20 kills: each handled once, answered at least once, in order per chat."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from learner.store.rows import OutboxRow, Place
from learner.store.store import Store

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "adapters"))

import weixin_far
from telegram_api import TOKEN
from telegram_far import TelegramFar, free_port
from weixin_far import WeixinFar, words

ROOT = Path(__file__).resolve().parents[2]
MESSAGES, KILLS = 500, 20
PEOPLE = {"telegram": 24, "weixin": 12, "web": 4}
CONFIG = """
data_dir = "{data}"
ask_rate = 0.5
language = "en"
[offers]
max_per_hour = 100000
[limits]
person_per_minute = 100000
chat_per_minute = 100000
[learner]
enabled = false
[[bots]]
name = "tester"
adapters = ["telegram", "weixin", "web"]
talkers = "everyone"
teachers = "everyone"
merge_seconds = 0
[bots.platforms.telegram]
base_url = "{telegram}"
[bots.platforms.weixin]
base_url = "{weixin}"
[adapters.web]
port = {port}
"""


@dataclass
class Victim:
    """The bot's process, killed again and again."""

    config: Path
    rng: random.Random
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and wait until it is open."""
        target = Path(__file__).parent / "kill_target.py"
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, str(target), str(self.config), "0.001",
            stdout=asyncio.subprocess.PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert self.process.stdout is not None
        assert await self.process.stdout.readline(), "the bot did not start"

    async def die(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def die_often(self) -> None:
        """Live a moment, die, live again: KILLS times, then live on."""
        for _ in range(KILLS):
            await self.start()
            await asyncio.sleep(self.rng.uniform(0.1, 0.8))
            await self.die()
        await self.start()


@dataclass
class Crowd:
    """All people of all platforms; each says lines in order and answers some offers with a number."""

    telegram: TelegramFar
    weixin: WeixinFar
    port: int
    rng: random.Random
    said: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    async def speak(self) -> None:
        """MESSAGES lines, spread over everybody."""
        everybody = [(platform, f"{platform}-{n}") for platform, count in PEOPLE.items() for n in range(count)]
        lines: dict[tuple[str, str], list[str]] = defaultdict(list)
        for number in range(MESSAGES):
            who = everybody[number % len(everybody)]
            lines[who].append(f"line {number} of {who[1]}")
        await asyncio.gather(*(self._person(who, mine) for who, mine in lines.items()))

    async def _person(self, who: tuple[str, str], lines: Sequence[str]) -> None:
        rng = random.Random(f"{who}")
        for line in lines:
            await asyncio.sleep(rng.uniform(0, 3))
            await self._say(who, line)
            self.said[who].append(line)

    async def _say(self, who: tuple[str, str], line: str) -> None:
        platform, person = who
        if platform == "telegram":
            chat = {"id": self.telegram.number(person), "type": "private", "first_name": person}
            number = self.telegram.api.next_message(chat["id"])
            sender = {"id": chat["id"], "is_bot": False, "first_name": person}
            message = {"message_id": number, "date": 1, "chat": chat, "from": sender, "text": line}
            await self.telegram.api.push(message=message)
        elif platform == "weixin":
            self.weixin.fake.say(self.weixin.bot, person, words(line))
        else:
            await self._post(person, line)

    async def _post(self, chat: str, line: str) -> None:
        """The page says a line again with its id until the bot took it."""
        body = {"text": line, "id": line.replace(" ", "-")}
        async with httpx.AsyncClient(timeout=60) as client:
            while True:
                try:
                    answer = await client.post(f"http://127.0.0.1:{self.port}/api/chat/{chat}/messages", json=body)
                    if answer.status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.05)

    def shown(self, who: tuple[str, str]) -> list[str]:
        """What a person sees of the bot."""
        platform, person = who
        if platform == "weixin":
            return [one.text for one in self.weixin.fake.bot_of("owner").shown(person)]
        number = self.telegram.number(person)
        return [one["text"] for (chat, _), one in self.telegram.api.messages.items() if chat == number]


@pytest.fixture
async def crowd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Crowd]:
    monkeypatch.setenv("TELEGRAM_TOKEN", TOKEN)
    monkeypatch.setattr(weixin_far, "REPLIES", MESSAGES)  # a bot that was down answers many lines at once
    async with TelegramFar(tmp_path, monkeypatch) as telegram, WeixinFar(tmp_path) as weixin:
        yield Crowd(telegram, weixin, free_port(), random.Random(3))


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_nothing_is_lost_doubled_or_out_of_order(crowd: Crowd, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    data = tmp_path / "data"
    urls = {"telegram": crowd.telegram.api.url, "weixin": crowd.weixin.fake.url}
    config.write_text(CONFIG.format(data=data.as_posix(), port=crowd.port, **urls), "utf-8")
    victim = Victim(config, random.Random(5))
    try:
        await asyncio.gather(victim.die_often(), crowd.speak())
        await all_answered(crowd)
        store = Store(f"sqlite:///{data / 'nightschool.db'}")
        await all_written_down(store)
    finally:
        await victim.die()
    check(store, crowd)


async def all_answered(crowd: Crowd) -> None:
    """Everybody sees an answer to each of their lines."""
    left = _unanswered(crowd)
    for _ in range(600):
        left = _unanswered(crowd)
        if not left:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"never answered: {left}")


async def all_written_down(store: Store) -> None:
    """The bot writes down that a message went out a moment after people see it."""
    for _ in range(100):
        if not _left_to_send(store):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"people saw all of it, and the bot would say again: {_left_to_send(store)}")


def _left_to_send(store: Store) -> list[OutboxRow]:
    """The page fetches its own; everything else goes out by the bot."""
    return [row for row in store.unsent() if row.draft.place.platform != "web"]


def _unanswered(crowd: Crowd) -> list[str]:
    """Lines whose answer the person who said them does not see; the page's were answered when they were taken."""
    chats = {who: "\n".join(crowd.shown(who)) for who in crowd.said if who[0] != "web"}
    return [line for who, chat in chats.items() for line in crowd.said[who] if f"to {line}" not in chat]


def check(store: Store, crowd: Crowd) -> None:
    """Hold the store, and what people see, against what was said."""
    for (platform, person), lines in crowd.said.items():
        chat = _chat(crowd, platform, person)
        turns = store.history(Place("tester", platform, chat), 100_000)
        asked = [turn.text for turn in turns if turn.role == "user"]
        assert asked == lines, (platform, person)
        assert [turn.role for turn in turns] == ["user", "assistant"] * len(lines)
        exchanges = Counter(turn.exchange for turn in turns)
        assert set(exchanges.values()) == {2}
    assert store.waiting() == []
    assert _left_to_send(store) == []
    clients = Counter(client for client, _, _ in crowd.weixin.fake.bot_of("owner").sent)
    assert set(clients.values()) == {1}, "a reply went out under two client ids, or the server took one twice"
    store.close()


def _chat(crowd: Crowd, platform: str, person: str) -> str:
    if platform == "telegram":
        return str(crowd.telegram.number(person))
    return crowd.weixin.chat_id(person) if platform == "weixin" else person
