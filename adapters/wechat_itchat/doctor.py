"""Looks at what an alt account needs, for `nightschool doctor`. Logs nobody in."""

from __future__ import annotations

import asyncio

import requests

from adapters.base import Finding, Host
from adapters.wechat_itchat.client import VERSION
from adapters.wechat_itchat.library import itchat
from adapters.wechat_itchat.login_cache import LoginCache
from adapters.wechat_itchat.private import Unsafe

TRIED = "1.4."
PATIENCE = 10.0


async def findings(host: Host) -> list[Finding]:
    """What is right and what is not. Never raises."""
    return [_library(), await asyncio.to_thread(_login, host), await asyncio.to_thread(_server)]


def _library() -> Finding:
    right = VERSION.startswith(TRIED)
    return Finding(f"itchat-uos {VERSION}", right, "" if right else 'pip install "itchat-uos>=1.4.1,<1.5"')


def _login(host: Host) -> Finding:
    what = "the kept WeChat login"
    try:
        kept = LoginCache(host.folder).load()
    except Unsafe as unsafe:
        return Finding(what, False, str(unsafe))
    except (ValueError, OSError) as error:
        return Finding(what, False, f"{error}; start the bot and scan the code")
    # Only the server knows whether it still counts.
    return Finding(
        what, kept is not None, "" if kept else "start the bot and scan the code with the alt account's phone"
    )


def _server() -> Finding:
    what = f"WeChat's login server, {itchat.config.BASE_URL}"
    try:
        requests.get(itchat.config.BASE_URL, timeout=PATIENCE).close()
    except requests.RequestException as error:
        return Finding(what, False, f"it can't be reached ({type(error).__name__}); check network and proxy")
    return Finding(what, True)
