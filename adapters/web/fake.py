"""A pretend bot behind the real page: for tests, and for working on the page. Knows no language model.

`python -m adapters.web.fake` serves it on http://127.0.0.1:8799. It says "echo: ..." to everything,
offers two replies to a text with "two" in it, goes by what was said first at "remember", breaks off at
"fail", and takes 0.03 seconds for each word.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, replace

import uvicorn
from starlette.applications import Starlette

from adapters.base import Inbound, Message, Pressed, Reply
from adapters.web.adapter import WebAdapter
from adapters.web.backend import LogLine, LoraLine, MemoryLine, NightState, PageStatus

GREETING = "Hello! Ask me anything; tell me which reply you like better."


@dataclass(frozen=True)
class FakeReceipt:
    """The replies to one inbound thing; a request that goes away takes nothing with it."""

    task: asyncio.Task[tuple[Reply, ...]]

    async def replies(self) -> tuple[Reply, ...]:
        return await asyncio.shield(self.task)


class FakeBot:
    """A `WebBackend`, and the `receive` that goes with it."""

    def __init__(self, seconds_per_word: float = 0.0) -> None:
        self.adapter: WebAdapter
        self.seconds_per_word = seconds_per_word
        self.inbound: list[Inbound] = []
        self.lines: dict[str, list[LogLine]] = {}
        self.night: NightState | None = None
        self.lora: str | None = None
        self.refuse_learning: str | None = None
        self.personas: tuple[str, ...] = ()
        self.chosen: dict[str, str] = {}
        self._receipts: dict[str, FakeReceipt] = {}
        self._numbers = itertools.count(1)
        self._background: set[asyncio.Task[None]] = set()

    async def receive(self, inbound: Inbound) -> FakeReceipt:
        if inbound.id not in self._receipts:
            self.inbound.append(inbound)
            self._receipts[inbound.id] = FakeReceipt(asyncio.create_task(self._answer(inbound)))
        return self._receipts[inbound.id]

    async def _answer(self, inbound: Inbound) -> tuple[Reply, ...]:
        if isinstance(inbound, Pressed):
            reply = self._pressed(inbound)
        elif isinstance(inbound, Message):
            reply = await self._said(inbound)
        else:
            return ()
        await self.adapter.send(reply)
        return (reply,)

    def _pressed(self, pressed: Pressed) -> Reply:
        given = "" if pressed.verdict == "retract" else pressed.verdict
        lines = self.lines[pressed.chat]
        for i, line in enumerate(lines):
            if line.exchange == pressed.exchange and line.offer != "expired":
                lines[i] = _with_feedback(line, given, pressed.correction)
        words = {"retract": "Taken back."}.get(pressed.verdict, "Thanks, noted.")
        return Reply(f"r{next(self._numbers)}", pressed.chat, words, answers=pressed.id)

    async def _said(self, message: Message) -> Reply:
        lines = self.lines.setdefault(message.chat, [])
        lines.append(LogLine("user", message.text, time.time(), id=message.id))
        open_offers = [line for line in lines if line.offer == "open"]
        reply_id = f"r{next(self._numbers)}"
        if message.text.startswith("/persona "):
            name = message.text.removeprefix("/persona ").removeprefix("-")
            self.chosen[message.chat] = name
            return await self._greet(message.chat, f"{name or 'Lamplight'} here.")
        if open_offers and message.text in ("1", "2"):
            i = lines.index(open_offers[-1])
            lines[i] = _with_feedback(lines[i], message.text, "")
            return Reply(reply_id, message.chat, "Thanks, noted.", answers=message.id)
        for line in open_offers:
            lines[lines.index(line)] = replace(line, offer="closed")
        exchange = f"e{next(self._numbers)}"
        texts = self._texts(message.text)
        await self._stream(message.chat, exchange, texts[:1] if "late" in message.text else texts)
        if "fail" in message.text:
            return Reply(reply_id, message.chat, "Something went wrong.", answers=message.id)
        offer = len(texts) > 1
        lines.append(
            LogLine(
                "assistant",
                texts[0],
                time.time(),
                exchange,
                texts if offer else (),
                "open" if offer else "none",
                lora=self.lora,
                id=reply_id,
                recalled=self._recalled(message),
            )
        )
        candidates = (texts[0], texts[1]) if offer else None
        text = "Which one, 1 or 2?" if offer else texts[0]
        return Reply(reply_id, message.chat, text, exchange, candidates, message.id)

    @staticmethod
    def _texts(text: str) -> tuple[str, ...]:
        if "two" in text:
            return (
                "Good evening. It will rain tomorrow, so take an umbrella with you when you leave.",
                "Hey there! Rain tomorrow, I'm afraid 🌧 Grab your umbrella, and stay cosy if you can. "
                "Shall I remind you in the morning?",
            )
        return (f"echo: {text}",)

    async def _stream(self, chat: str, exchange: str, texts: tuple[str, ...]) -> None:
        pieces = [text.split(" ") for text in texts]
        for step in range(max(map(len, pieces))):
            for candidate, words in enumerate(pieces, 1):
                if step < len(words):
                    self.adapter.stream(chat, exchange, candidate, (" " if step else "") + words[step])
            await asyncio.sleep(self.seconds_per_word)

    async def log(self, chat: str, limit: int) -> list[LogLine]:
        return self.lines.get(chat, [])[-limit:]

    async def open(self, chat: str) -> bool:
        if self.lines.get(chat):
            return False
        await self._greet(chat, GREETING)
        return True

    async def _greet(self, chat: str, words: str) -> Reply:
        reply = Reply(f"r{next(self._numbers)}", chat, words, greets=True)
        self.lines.setdefault(chat, []).append(LogLine("assistant", words, time.time(), id=reply.id))
        await self.adapter.send(reply)
        return reply

    async def persona(self, chat: str) -> str:
        return self.chosen.get(chat, "")

    async def status(self) -> PageStatus:
        loras = (LoraLine("0001", "active", time.time(), "24 pairs, +3.1 points"),) if self.lora else ()
        return PageStatus(
            name="Lamplight",
            language="en",
            model="starter (3M)",
            lora=self.lora,
            records=24,
            min_records=20,
            night=self.night,
            verdict="published: held-out pairs 61 % to 78 %" if self.lora else "",
            loras=loras,
            personas=self.personas,
        )

    async def learn(self) -> str | None:
        if self.refuse_learning is None:
            task = asyncio.create_task(self._night())
            self._background.add(task)
            task.add_done_callback(self._background.discard)
        return self.refuse_learning

    async def _night(self) -> None:
        for step in range(21):
            self.night = NightState(1, "train", step / 20, f"step {step} of 20", (20 - step) / 10)
            self.adapter.announce("night", asdict(self.night))
            await asyncio.sleep(self.seconds_per_word * 4)
        self.night, self.lora = None, "0001"
        self.adapter.announce("lora", {"lora": "0001"})
        self.adapter.announce("night", {})

    def _recalled(self, message: Message) -> tuple[MemoryLine, ...]:
        said = [line for line in self.lines[message.chat] if line.role == "user"] if "remember" in message.text else []
        return tuple(MemoryLine("user", line.text, line.at) for line in said[:-1])

    async def recalled_by(self, exchange: str) -> tuple[MemoryLine, ...]:
        lines = itertools.chain(*self.lines.values())
        return next((line.recalled for line in lines if line.exchange == exchange), ())

    async def chat_of(self, exchange: str) -> str | None:
        found = [chat for chat, lines in self.lines.items() if any(x.exchange == exchange for x in lines)]
        return found[0] if found else None

    async def feedback_of(self, exchange: str) -> str:
        lines = itertools.chain(*self.lines.values())
        return next(line.feedback for line in lines if line.exchange == exchange)


def _with_feedback(line: LogLine, given: str, correction: str) -> LogLine:
    line = replace(line, feedback=given, correction=correction)  # type: ignore[arg-type] # the routes let only such through
    if not line.candidates:
        return line
    if given in ("1", "2"):
        return replace(line, offer="chosen", text=line.candidates[int(given) - 1])
    return replace(line, offer="closed" if given else "open")


@asynccontextmanager
async def serve(
    bot: FakeBot, *, token: str = "", allowed_hosts: tuple[str, ...] = (), port: int = 0, running: bool = True
) -> AsyncIterator[str]:
    """The page of `bot` on a real server; gives its address. Not `running`: nobody receives yet."""
    ids = itertools.count(1)
    bot.adapter = WebAdapter(
        bot,
        host="127.0.0.1",
        port=port,
        token=token,
        allowed_hosts=allowed_hosts,
        new_id=lambda: f"n{next(ids)}",
    )
    app = bot.adapter.guard(Starlette(routes=bot.adapter.routes()))
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        config = uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        receiving = asyncio.create_task(bot.adapter.run(bot.receive)) if running else None
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            if receiving is not None:
                receiving.cancel()
                with suppress(asyncio.CancelledError):
                    await receiving
            server.should_exit = True
            await serving


async def main() -> None:
    async with serve(FakeBot(seconds_per_word=0.03), port=8799) as address:
        print(address)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
