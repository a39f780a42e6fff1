"""One ASGI app on one port: the chat page's routes, and the control endpoint for other terminals.

Knows nothing of what the routes do.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

TICK = 0.1  # seconds, as uvicorn's own


class PortInUse(Exception):
    """Another program listens there."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"{host}:{port} is in use: another nightschool may be running; "
            f"stop it, or set another port under [adapters.web] in config.toml"
        )


class _Uvicorn(uvicorn.Server):
    """Uvicorn without its own signal handlers: bots/app.py decides when to stop, and it stops at once."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._leaving = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        tick = 0
        while not await self.on_tick(tick):
            tick += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), TICK)

    def leave(self) -> None:
        """End the main loop now."""
        self.should_exit = True
        self._leaving.set()


class Server:
    """Holds the port from its making, answers from `start` to `stop`; `port` is the real one (0: any)."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._socket = bind(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._uvicorn: _Uvicorn | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}/"

    async def start(self, app: ASGIApp) -> None:
        """Answer with `app` from when this returns."""
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
            server_header=False,
        )
        self._uvicorn = _Uvicorn(config)
        self._task = asyncio.create_task(self._uvicorn.serve(sockets=[self._socket]))
        while not self._uvicorn.started:
            if self._task.done():
                self._task.result()
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Close connections and the socket."""
        if self._uvicorn is not None and self._task is not None:
            self._uvicorn.leave()
            await self._task
        self._socket.close()


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises PortInUse."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise PortInUse(host, port) from error
    listener.setblocking(False)
    return listener


def dispatch(prefix: str, inner: ASGIApp, outer: ASGIApp) -> ASGIApp:
    """An app that gives paths under `prefix` to `inner` and all others to `outer`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        inside = scope["type"] == "http" and scope["path"].startswith(prefix)
        await (inner if inside else outer)(scope, receive, send)

    return app
