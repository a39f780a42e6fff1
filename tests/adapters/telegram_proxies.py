"""Two proxies on loopback, HTTP and SOCKS5, that know one far end by a made-up name and count who comes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

FAR_NAME = "telegram.invalid"  # no resolver knows it: only a proxy leads there

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Proxy:
    """Counts the connections to the far end that went through it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.passed = 0
        self.address = ""

    async def _far(self, host: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert host == FAR_NAME
        self.passed += 1
        return await asyncio.open_connection("127.0.0.1", self._port)

    async def http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one request; the far end closes after it, so that the next one is counted again."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, url, version = head.split("\r\n", 1)[0].split(" ")
        host, _, path = url.removeprefix("http://").partition("/")
        far_reader, far_writer = await self._far(host.partition(":")[0])
        head = head.replace(f"{method} {url} {version}", f"{method} /{path} {version}", 1)
        far_writer.write(head.replace("onnection: keep-alive", "onnection: close").encode())
        await _both_ways(reader, writer, far_reader, far_writer)

    async def socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """SOCKS5 without a password, to a name."""
        _, methods = await reader.readexactly(2)
        assert 0 in await reader.readexactly(methods)
        writer.write(b"\x05\x00")
        assert await reader.readexactly(4) == b"\x05\x01\x00\x03"  # connect, to a name: it is resolved beyond
        (length,) = await reader.readexactly(1)
        host = (await reader.readexactly(length)).decode()
        await reader.readexactly(2)
        far_reader, far_writer = await self._far(host)
        writer.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
        await _both_ways(reader, writer, far_reader, far_writer)


@contextlib.asynccontextmanager
async def proxy(scheme: str, port: int) -> AsyncIterator[Proxy]:
    """A proxy ("http" or "socks5") that leads to `port` of this machine."""
    made = Proxy(port)
    serve: Serve = made.http if scheme == "http" else made.socks
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    made.address = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _both_ways(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    far_reader: asyncio.StreamReader,
    far_writer: asyncio.StreamWriter,
) -> None:
    try:
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
    finally:
        far_writer.close()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while block := await source.read(65536):
        target.write(block)
        await target.drain()
    target.close()
