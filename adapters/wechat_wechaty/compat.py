"""Makes wechaty's Python packages importable beside today's libraries, and keeps them quiet.

Knows nothing of chats. Nothing is imported or patched before `load` is called.
"""

from __future__ import annotations

import importlib
import logging
import sys
import warnings
from dataclasses import dataclass
from typing import Any

from adapters.base import AdapterError


@dataclass(frozen=True)
class Library:
    """What we use of wechaty: its gRPC client. `failures` are what a call of it raises."""

    PuppetService: Any
    PuppetOptions: Any
    refused: type[Exception]
    failures: tuple[type[Exception], ...]


def load() -> Library:
    """wechaty's client, patched and silenced. Raises AdapterError when it is not installed.

    This is the layer under wechaty's class Wechaty, which could hold one bot in a process only (it forgets
    message ids that any bot saw), loses a login when port 5000 is taken, and writes a folder into the working one.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses telnetlib and more that Python will drop
        try:
            patch()
            service = importlib.import_module("wechaty_puppet_service")
            errors = importlib.import_module("grpclib.exceptions")
            puppet = importlib.import_module("wechaty_puppet")
        except ImportError as error:
            raise AdapterError(
                f"wechaty's library can't be imported ({error}); install it with: pip install \"nightschool[wechaty]\""
            ) from error
    _silence()
    failures = (
        errors.GRPCError,
        errors.StreamTerminatedError,
        errors.ProtocolError,
        puppet.WechatyPuppetError,
        OSError,
    )
    return Library(service.PuppetService, puppet.PuppetOptions, errors.GRPCError, failures)


def patch() -> None:
    """Give wechaty 0.10 what it expects of older libraries, so that it holds nobody's versions back.

    1. `pyee.AsyncIOEventEmitter`: since pyee 12 it lives in `pyee.asyncio`.
    2. `urllib3.get_host`: gone since urllib3 2; `urllib3.util.parse_url` tells the same.
    3. `PuppetOptions.__hash__`: a dataclass has such an object as a default, which Python 3.11 takes only if hashable.
    4. `telnetlib`: gone since Python 3.13; there the package standard-telnetlib brings it.

    Ours needs 1 and 4; with all of them `import wechaty` works too.
    """
    pyee, emitters = importlib.import_module("pyee"), importlib.import_module("pyee.asyncio")
    _add(pyee, "AsyncIOEventEmitter", emitters.AsyncIOEventEmitter)
    _add(importlib.import_module("urllib3"), "get_host", _get_host)
    try:
        importlib.import_module("telnetlib")
    except ImportError as error:
        raise ImportError(f"{error}; on Python 3.13 and later: pip install standard-telnetlib") from error
    options = importlib.import_module("wechaty_puppet.schemas.puppet").PuppetOptions
    options.__hash__ = object.__hash__


def _add(module: Any, name: str, value: object) -> None:
    if not hasattr(module, name):
        setattr(module, name, value)


def _get_host(url: str) -> tuple[str, str | None, int | None]:
    """What urllib3 1 had: scheme, host and port of `url`."""
    parts = importlib.import_module("urllib3.util").parse_url(url)
    return parts.scheme or "http", parts.hostname, parts.port


def _silence() -> None:
    """Turn wechaty's loggers off: they have handlers of their own, and log messages and the token."""
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in ("wechaty_puppet", "wechaty_puppet_service"):
            for value in vars(module).values():
                if isinstance(value, logging.Logger):
                    value.handlers.clear()
                    value.disabled = True
