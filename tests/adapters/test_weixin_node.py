"""The proof that our fake of Weixin's server is right: Tencent's own published client works against it.

It needs `npm install --ignore-scripts` in tests/node/weixin. The client's own code makes every request and reads every
answer; only the address that it logs in at is sent on to the fake.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from adapters.testing import until
from tests.adapters.weixin_far import REPLIES, FakeIlink, person_id, words

FOLDER = Path(__file__).parents[1] / "node" / "weixin"
CLIENT = FOLDER / "node_modules" / "@tencent-weixin" / "openclaw-weixin"
NODE = shutil.which("node")
PATIENCE = 30.0

pytestmark = [
    pytest.mark.node,
    pytest.mark.skipif(not (NODE and CLIENT.exists()), reason="needs Node and npm install in tests/node/weixin"),
]


class Published:
    """Tencent's client in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def __call__(self, step: str, argument: object = None) -> Any:
        """What the client's `step` returned. Raises RuntimeError with what it threw."""
        self.begin(step, argument)
        return await self.end()

    def begin(self, step: str, argument: object = None) -> None:
        """Start `step`."""
        self.type(json.dumps({"do": step, "with": argument}))

    def type(self, line: str) -> None:
        """A line on its stdin, where it asks for digits."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    async def asked(self) -> None:
        """Until it has asked for digits, which it does on stdout."""
        assert self._process.stdout is not None
        printed = b""
        async with asyncio.timeout(PATIENCE):
            while "数字".encode() not in printed:
                more = await self._process.stdout.read(4096)
                assert more, "the client ended"
                printed += more

    async def end(self) -> Any:
        """Wait for the step that was begun."""
        assert self._process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            while line := await self._process.stderr.readline():
                if line.startswith(b"{"):
                    answer = json.loads(line)
                    if "error" in answer:
                        raise RuntimeError(answer["error"])
                    return answer["result"]
        raise AssertionError("the client ended")


@pytest.fixture
async def fake() -> AsyncIterator[FakeIlink]:
    fake = FakeIlink()
    fake.hold = 1.0
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def client(fake: FakeIlink, tmp_path: Path) -> AsyncIterator[Published]:
    assert NODE is not None
    process = await asyncio.create_subprocess_exec(
        NODE,
        "client.mjs",
        fake.url,
        cwd=FOLDER,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OPENCLAW_STATE_DIR": str(tmp_path)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    yield Published(process)
    process.kill()
    await process.communicate()


async def log_in(client: Published, fake: FakeIlink) -> Any:
    """The short way in."""
    assert (await client("start"))["qrcodeUrl"].endswith(fake.codes[-1].value)
    fake.scan("olga")
    return await client("wait")


async def test_it_logs_in_through_every_status(client: Published, fake: FakeIlink) -> None:
    await client("start")
    client.begin("wait")
    await until(lambda: bool(fake.named("get_qrcode_status")))
    fake.set_status("expired")
    await until(lambda: len(fake.codes) == 2)
    fake.scan("olga", digits="123456")
    for digits in ("1", "2", "3"):
        await client.asked()
        client.type(digits)
    await until(lambda: len(fake.codes) == 3)  # the second was blocked
    fake.scan("olga", digits="123456")
    await client.asked()
    client.type("123456")
    await until(lambda: fake.codes[-1].status == "scaned")
    fake.set_status("scaned_but_redirect")
    found = await client.end()
    bot = fake.bot_of("olga")
    assert fake.named("get_qrcode_status")[-1].headers["host"] == f"localhost:{fake.port}"
    assert (found["connected"], found["botToken"], found["accountId"]) == (True, bot.token, bot.id)
    assert (found["userId"], found["baseUrl"]) == (person_id("olga"), f"http://localhost:{fake.port}")


async def test_it_is_told_that_it_is_bound(client: Published, fake: FakeIlink) -> None:
    await log_in(client, fake)
    found = await log_in(client, fake)
    assert fake.codes[1].held == [fake.bot_of("olga").token]
    assert (found["connected"], found["alreadyConnected"]) == (False, True)


async def test_it_receives_sends_and_types(client: Published, fake: FakeIlink) -> None:
    await log_in(client, fake)
    bot = fake.bot_of("olga")
    assert await client("comes") == {"ret": 0}
    message = fake.say(bot, "alice", words("你好"))
    fake.say(bot, "alice", {"type": 3, "voice_item": {"text": "spoken", "playtime": 900}})
    got = await client("updates", 5000)
    first, second = got["contexts"]
    assert (first["Body"], first["From"], first["MessageSidFull"]) == ("你好", person_id("alice"), message)
    assert second["Body"] == "spoken"

    alice = {"to": person_id("alice"), "contextToken": second["context_token"]}
    sent = await client("say", {**alice, "text": "hello"})
    (shown,) = bot.shown("alice")
    assert (shown.text, sent["serverMessageId"]) == ("hello", shown.id)
    fake.say(bot, "alice", {**words("不错"), "ref_msg": {"svr_id": fake.id(int(shown.id))}})
    (quoting,) = (await client("updates", 5000))["contexts"]
    assert (quoting["Body"], quoting["ReplyToId"]) == ("不错", shown.id)

    context = {"person": person_id("alice"), "contextToken": quoting["context_token"]}
    ticket = (await client("config", context))["typing_ticket"]
    for status in (1, 2):
        await client("typing", {"ilink_user_id": person_id("alice"), "typing_ticket": ticket, "status": status})
    assert bot.typing == [(person_id("alice"), 1), (person_id("alice"), 2)]
    assert await client("goes") == {"ret": 0}
    assert bot.notified == ["start", "stop"]


async def test_it_is_refused_as_users_report(client: Published, fake: FakeIlink) -> None:
    await log_in(client, fake)
    bot = fake.bot_of("olga")
    fake.say(bot, "alice", words("hi"))
    (got,) = (await client("updates", 5000))["contexts"]
    alice = {"to": person_id("alice"), "contextToken": got["context_token"]}
    for number in range(REPLIES):
        await client("say", {**alice, "text": str(number)})
    with pytest.raises(RuntimeError, match="ret=-2"):
        await client("say", {**alice, "text": "one too many"})
    with pytest.raises(RuntimeError, match="ret=-2"):
        await client("say", {"to": person_id("bob"), "contextToken": "", "text": "to whom?"})
    empty = await client("updates", 300)
    assert (empty["ret"], empty["msgs"]) == (0, [])
    bot.token = "ended"
    stale = await client("updates", 5000)
    assert stale["errcode"] == -14
