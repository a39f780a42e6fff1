"""Server-sent events: who listens to which chat, and what they are told. Knows no HTTP.

Everything here runs in the event loop's thread, and nothing waits: a listener whose queue is full
is dropped; its browser connects again and starts from the chat's log.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping

QUEUE_FRAMES = 2000
LIVE_EXCHANGES = 64
PING_SECONDS = 15.0


def frame(event: str, data: Mapping[str, object]) -> bytes:
    """One event on the wire. Lone surrogates, which UTF-8 cannot hold, become "?"."""
    line = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"event: {event}\ndata: {line}\n\n".encode("utf-8", "replace")


class Listener:
    """One open event stream of one chat."""

    def __init__(self, chat: str, ping_seconds: float, queue_frames: int) -> None:
        self.chat = chat
        self._ping_seconds = ping_seconds
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(queue_frames)

    def put(self, frame: bytes) -> bool:
        """False when the listener is too slow to be told more."""
        try:
            self._queue.put_nowait(frame)
        except asyncio.QueueFull:
            return False
        return True

    def end(self) -> None:
        """Forget what is still waiting and finish the stream."""
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    async def frames(self) -> AsyncIterator[bytes]:
        yield b"retry: 2000\n" + frame("ping", {})
        while True:
            try:
                waiting = await asyncio.wait_for(self._queue.get(), self._ping_seconds)
            except TimeoutError:
                yield frame("ping", {})
                continue
            if waiting is None:
                return
            yield waiting


class EventHub:
    """Tells every listener of a chat the same, in the same order."""

    def __init__(self, ping_seconds: float = PING_SECONDS, queue_frames: int = QUEUE_FRAMES) -> None:
        self._ping_seconds = ping_seconds
        self._queue_frames = queue_frames
        self._listeners: set[Listener] = set()
        # (chat, exchange, candidate) -> text so far, so that a page opened mid-reply sees all of it
        self._live: dict[tuple[str, str, int], str] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._listeners)

    def listen(self, chat: str) -> Listener:
        listener = Listener(chat, self._ping_seconds, self._queue_frames)
        if self._closed:
            listener.end()
            return listener
        for (live_chat, exchange, candidate), text in self._live.items():
            if live_chat == chat:
                listener.put(frame("delta", _delta(exchange, candidate, text) | {"whole": True}))
        self._listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        self._listeners.discard(listener)

    def publish(self, chat: str | None, event: str, data: Mapping[str, object]) -> None:
        """Tell the listeners of `chat`, or with None everybody."""
        wire = frame(event, data)
        for listener in [x for x in self._listeners if chat in (None, x.chat)]:
            if not listener.put(wire):
                self._listeners.discard(listener)
                listener.end()

    def grow(self, chat: str, exchange: str, candidate: int, text: str) -> None:
        """A reply in the making grew by `text`."""
        key = (chat, exchange, candidate)
        self._live[key] = self._live.get(key, "") + text
        while len(self._live) > LIVE_EXCHANGES:
            self._live.pop(next(iter(self._live)))
        self.publish(chat, "delta", _delta(exchange, candidate, text))

    def settle(self, chat: str) -> None:
        """What was in the making in `chat` is complete or given up: a chat is answered in order."""
        for key in [key for key in self._live if key[0] == chat]:
            del self._live[key]

    def open(self) -> None:
        self._closed = False

    def close(self) -> None:
        """End every stream; a server that waits for its connections can then stop."""
        self._closed = True
        for listener in self._listeners:
            listener.end()
        self._listeners.clear()
        self._live.clear()


def _delta(exchange: str, candidate: int, text: str) -> dict[str, object]:
    return {"exchange": exchange, "candidate": candidate, "text": text}
