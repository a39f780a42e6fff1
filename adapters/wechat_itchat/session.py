"""An HTTP session whose calls end: each has a timeout, and hanging up ends those under way.

Knows nothing of itchat. The calls run in threads, and a thread can only be ended by what it waits for.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any
from weakref import WeakSet

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

TIMEOUT = (10.0, 60.0)  # to connect, and without a byte: the server holds a poll for some 25 s


class EndingSession(requests.Session):
    """A Session with `hang_up`, which may be called from any thread."""

    def __init__(self, timeout: tuple[float, float] = TIMEOUT) -> None:
        super().__init__()
        self._transport = _Transport(timeout)
        self.mount("http://", self._transport)
        self.mount("https://", self._transport)

    def hang_up(self) -> None:
        """End all calls under way; every later one fails at once."""
        self._transport.hang_up()


class _Transport(HTTPAdapter):
    """Knows the connections that it opened."""

    def __init__(self, timeout: tuple[float, float]) -> None:
        self._timeout = timeout
        self._over = False
        self._open: WeakSet[HTTPConnection] = WeakSet()
        self._ours = self._pools()
        super().__init__()

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float | None, float | None] | None = None,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
        proxies: dict[str, str] | None = None,
    ) -> requests.Response:
        """As HTTPAdapter does, but never without a timeout."""
        if self._over:
            raise requests.ConnectionError("hung up")
        return super().send(request, stream, timeout or self._timeout, verify, cert, proxies)

    def init_poolmanager(self, *sizes: Any, **options: Any) -> None:
        """Make the pools ours."""
        super().init_poolmanager(*sizes, **options)
        self.poolmanager.pool_classes_by_scheme = self._ours

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Make the pools ours behind a proxy, too."""
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = self._ours
        return manager

    def hang_up(self) -> None:
        self._over = True
        for connection in list(self._open):
            _shut(connection)

    def _opened(self, connection: HTTPConnection) -> None:
        self._open.add(connection)
        if self._over:
            _shut(connection)

    def _pools(self) -> dict[str, type]:
        opened = self._opened

        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                opened(self)

        class Secure(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                opened(self)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        return {"http": PlainPool, "https": SecurePool}


def _shut(connection: HTTPConnection) -> None:
    with contextlib.suppress(OSError, AttributeError):  # closed meanwhile
        connection.sock.shutdown(socket.SHUT_RDWR)
