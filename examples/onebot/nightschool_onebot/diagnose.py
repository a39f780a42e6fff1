"""What `nightschool doctor` looks at. Knows nothing of a running adapter, and never raises."""

from __future__ import annotations

import asyncio
from typing import Any

from adapters.base import Finding
from nightschool_onebot.link import Forward, Link, LinkLost, TokenRefused
from nightschool_onebot.settings import OneBotSettings

ENOUGH = 10.0  # seconds


async def findings(settings: OneBotSettings) -> list[Finding]:
    """The token, then the way to OneBot and QQ behind it."""
    found = [_token(settings)]
    if found[0].right:
        found += await _forward(settings) if settings.url else [await _reverse(settings)]
    return found


def _token(settings: OneBotSettings) -> Finding:
    if settings.token_is_missing:
        return Finding("OneBot's access token", False, f"set the environment variable {settings.token_env}")
    what = "OneBot's access token" if settings.token_env else "OneBot without an access token"
    return Finding(what, True)


async def _forward(settings: OneBotSettings) -> list[Finding]:
    answers: list[dict[str, Any]] = []

    async def ask(link: Link) -> None:
        listening = asyncio.create_task(link.listen(lambda event: None))
        try:
            answers.append(await link.call("get_login_info"))
            answers.append(await link.call("get_status"))
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    what = f"OneBot at {settings.url}"
    try:
        async with asyncio.timeout(ENOUGH):
            await Forward(settings).hold(ask)
    except TokenRefused:
        named = settings.token_env or "token_env"
        return [Finding(what, False, f"it refuses the token: {named} must hold the one in OneBot's settings")]
    except (LinkLost, TimeoutError) as error:
        reason = str(error) or f"no answer in {ENOUGH:g} s"
        return [Finding(what, False, f"{reason}; start OneBot and switch its WebSocket server on")]
    account, status = ((answer.get("data") or {}) for answer in answers)
    online = bool(account.get("user_id")) and status.get("online") is not False
    return [Finding(what, True), Finding("QQ's login", online, "" if online else "log in to QQ in OneBot")]


async def _reverse(settings: OneBotSettings) -> Finding:
    """Whether the port is free; it is not while the bot itself runs."""
    host, port = settings.address
    what = f"the port for OneBot, {settings.listen}"
    try:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), host, port)
    except OSError as error:
        return Finding(what, False, f"{error.strerror}; free it unless this bot is what runs there")
    server.close()
    await server.wait_closed()
    return Finding(what, True)
