"""The page's own files, read once. Knows nothing of the API."""

from __future__ import annotations

import hashlib
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

_FOLDER = Path(__file__).parent
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
FILES = {
    "/": "index.html",
    "/app.css": "app.css",
    "/app.js": "app.js",
    "/composer.js": "composer.js",
    "/frame.js": "frame.js",
    "/log.js": "log.js",
    "/server.js": "server.js",
    "/view.js": "view.js",
    "/strings.js": "strings.js",
    "/favicon.svg": "favicon.svg",
}


def file_routes() -> list[BaseRoute]:
    return [_file_route(path, _FOLDER / name) for path, name in FILES.items()]


def _file_route(path: str, file: Path) -> Route:
    content = file.read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
    headers = {"cache-control": "no-cache", "etag": etag, "content-type": _TYPES[file.suffix]}

    async def serve(request: Request) -> Response:
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers={"cache-control": "no-cache", "etag": etag})
        return Response(content, headers=headers)

    return Route(path, serve, methods=["GET"])
