"""The web as a platform: what was said goes in by HTTP, replies go out as events. Knows no bot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from adapters.base import AdapterError, Capabilities, Receive, Reply, Sent
from adapters.web.backend import WebBackend
from adapters.web.events import EventHub
from adapters.web.files import file_routes
from adapters.web.guard import Gate, Guard, Hosts, is_loopback
from adapters.web.routes import Api, is_message_id
from adapters.web.wire import reply_fields


class WebAdapter:
    """The chat page. Its server is somebody else's: it hands out routes and a guard.

    Not thread-safe: everything is called in the event loop that serves the routes.
    """

    name = "web"
    capabilities = Capabilities(whole_messages=True, streams=True, streams_offers=True, buttons=True, max_chars=100_000)

    def __init__(
        self,
        backend: WebBackend,
        *,
        host: str,
        port: int,
        token: str = "",
        allowed_hosts: tuple[str, ...] = (),
        new_id: Callable[[], str],
        hub: EventHub | None = None,
    ) -> None:
        if not token and not is_loopback(host.lower().strip("[]")):
            raise AdapterError(
                f"adapters.web.host is {host!r}, which others can reach; configure a token, or use 127.0.0.1"
            )
        self._hosts = Hosts(host, port, allowed_hosts)
        self._gate = Gate(token, port)
        self._hub = hub or EventHub()
        self._receive: Receive | None = None
        self._api = Api(backend, self._hub, self._gate, lambda: self._receive, new_id)

    def routes(self) -> list[BaseRoute]:
        """The page's files and /api, to be mounted at the root."""
        return [*file_routes(), *self._api.routes()]

    def guard(self, app: ASGIApp) -> ASGIApp:
        """`app` behind the checks of Host, Origin, content type and (under /api) token."""
        return Guard(app, self._hosts, self._gate)

    async def run(self, receive: Receive) -> None:
        """Take part until cancelled; then the event streams end, so that the server can stop."""
        self._receive = receive
        self._hub.open()
        try:
            await asyncio.Event().wait()
        finally:
            self._receive = None
            self._hub.close()

    async def send(self, reply: Reply) -> Sent:
        """Tell the open pages of the chat; one that is not open finds the reply in the log."""
        if reply.exchange is not None or is_message_id(reply.answers):
            self._hub.settle(reply.chat)
        self._hub.publish(reply.chat, "reply", reply_fields(reply))
        return Sent((reply.id,))

    def stream(self, chat: str, exchange: str, candidate: int, text: str) -> None:
        self._hub.grow(chat, exchange, candidate, text)

    def announce(self, event: str, data: Mapping[str, object], chat: str | None = None) -> None:
        """Tell all open pages, or those of one chat: "night" (NightState's fields; {} when it is over),
        "lora" ({"lora": version}), "feedback" ({"exchange", "feedback"})."""
        self._hub.publish(chat, event, data)
