"""The platform's side for wechaty: published Node gateways with the mock puppet, in one process for all tests."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from adapters.base import Health
from adapters.testing import FarEnd, Shown, TestHost, until
from adapters.wechat_wechaty.adapter import WechatyAdapter
from adapters.wechat_wechaty.settings import WechatySettings

FOLDER = Path(__file__).resolve().parents[1] / "node" / "wechaty"
BOT = "wxid_bot"
PEOPLE = {BOT: "夜校", "wxid_alice": "Alice", "wxid_bob": "Bob", "wxid_carol": "Carol 陈", "gh_news": "News"}
ROOMS = {"2001@chatroom": [BOT, "wxid_alice", "wxid_bob"], "2002@chatroom": [BOT, "wxid_alice"]}
TOKEN = "a-token-of-the-tests"
TOKEN_ENV = "WECHATY_TOKEN_OF_THE_TESTS"
MOMENT = 16  # a kind of message that the Python client has not heard of


def missing() -> str:
    """What these tests need and is not here; "" when all is."""
    if shutil.which("node") is None:
        return "needs Node"
    if not (FOLDER / "node_modules").is_dir():
        return f"needs the npm packages: cd {FOLDER} && npm i --ignore-scripts"
    if importlib.util.find_spec("wechaty_puppet_service") is None:
        return 'needs wechaty: pip install "nightschool[wechaty]"'
    return ""


class Gateways:
    """The Node process. A command takes some milliseconds, so that nobody waits for it beside the event loop."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["node", "server.mjs"], cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._answer() == "ready"

    @property
    def pid(self) -> int:
        """The process, to be stopped and continued."""
        return self._process.pid

    def call(self, do: str, far: str, **fields: Any) -> Any:
        """Tell the process to do something to the gateway `far`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, "far": far, **fields}).encode() + b"\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        answer = json.loads(self._process.stdout.readline() or '{"error": "the Node process ended"}')
        assert "error" not in answer, answer["error"]
        return answer["ok"]


class WechatyFarEnd(FarEnd):
    """One gateway with the bot's account."""

    can = frozenset({"group", "recall", "join", "owner_writes", "cut"})

    def __init__(self, gateways: Gateways, folder: Path, name: str = "a") -> None:
        self.gateways = gateways
        self.name = name
        self.host = TestHost("owl", folder)
        self.port = 0

    async def __aenter__(self) -> Self:
        self.port = self.call("open", token=TOKEN, people=PEOPLE, rooms=ROOMS, official=["gh_news"])
        return self

    async def __aexit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.call("close")

    def call(self, do: str, **fields: Any) -> Any:
        """Tell the Node process to do something to this gateway."""
        return self.gateways.call(do, self.name, **fields)

    def settings(self, **changes: Any) -> WechatySettings:
        """Settings that lead to this gateway."""
        plain = {"endpoint": f"127.0.0.1:{self.port}", "token_env": TOKEN_ENV, "accept_ban_risk": True}
        return WechatySettings(**{**plain, **changes})

    def adapter(self, **changes: Any) -> WechatyAdapter:
        return WechatyAdapter(self.settings(**changes), self.host, first_pause=0.05)

    def chat_id(self, chat: str) -> str:
        return {"club": "2001@chatroom", "salon": "2002@chatroom"}.get(chat) or self.person_id(chat)

    def person_id(self, person: str) -> str:
        return f"wxid_{person}"

    async def ready(self) -> None:
        """Wait until an adapter listens and the account is logged in: a gateway keeps nothing for later."""
        await until(lambda: self.call("ready"))

    async def online(self, state: str = "online") -> Health:
        """Wait until the adapter's last report says so."""
        await until(lambda: bool(self.host.reports) and self.host.reports[-1].state == state)
        return self.host.reports[-1]

    async def message(self, person: str = "alice", chat: str = "alice", **payload: Any) -> str:
        """`person` sends whatever `payload` says."""
        await self.ready()
        room = self.chat_id(chat) if chat in ("club", "salon") else ""
        id: str = self.call("message", payload={"person": self.person_id(person), "room": room, **payload})
        return id

    async def say(
        self, text: str, *, chat: str = "alice", person: str = "alice", mention: bool = False, quote: str | None = None
    ) -> str:
        if mention:
            return await self.message(person, chat, text=f"@{PEOPLE[BOT]}\u2005{text}", mentions=[BOT])
        return await self.message(person, chat, text=text)

    async def again(self, message: str) -> None:
        self.call("again", id=message)

    async def own(self, text: str, *, chat: str = "alice") -> None:
        written = self.call("written", chat=self.chat_id(chat))
        self.call("again", id=next(one["id"] for one in written if one["text"] == text))

    async def unknown(self, *, chat: str = "alice", person: str = "alice") -> str:
        return await self.message(person, chat, type=MOMENT, text="<xml>...</xml>")

    def shown(self, chat: str = "alice") -> list[Shown]:
        return [Shown(one["id"], one["text"]) for one in self.call("written", chat=self.chat_id(chat))]

    async def recall(self, message: str, *, chat: str = "alice", person: str = "alice") -> None:
        room = self.chat_id(chat) if chat != person else ""
        self.call("recall", message=message, person=self.person_id(person), room=room)

    async def join(self, *, chat: str, person: str) -> None:
        await self.ready()
        if chat == person:
            self.call("friendship", id=f"f-{person}", type=1, person=self.person_id(person))
        else:
            self.call("join", room=self.chat_id(chat), people=[self.person_id(person)], by="wxid_bob")

    async def owner_writes(self, text: str, *, chat: str = "alice") -> None:
        await self.message("bot", chat, text=text, to=self.chat_id(chat))

    async def cut(self) -> None:
        self.call("cut")

    async def mend(self) -> None:
        self.call("mend")
