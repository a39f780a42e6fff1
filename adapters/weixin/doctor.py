"""Looks whether Weixin can be reached and whether the login that is kept is still valid.

Knows nothing of messages: it takes none, so that it can look while the bot runs.
"""

from __future__ import annotations

import httpx

from adapters.base import AdapterError, Finding, Host
from adapters.weixin.hosts import trusted
from adapters.weixin.settings import WeixinSettings
from adapters.weixin.state import Contact, Login, State
from adapters.weixin.wire import QUICK, Ilink, IlinkError, StaleLogin, Unreachable, http_client

REACHED = "Weixin's server can be reached"
LOGIN = "the login to Weixin is valid"


async def findings(settings: WeixinSettings, host: Host) -> list[Finding]:
    """What was looked at. Never raises."""
    try:
        state = State(host.folder)
    except (AdapterError, OSError) as error:
        return [Finding("Weixin's login can be read", False, str(error))]
    async with http_client(settings.base_url) as client:
        if state.login is not None:
            return await _with_login(client, settings.base_url, state, state.login)
        reached = await _reached(client, settings.base_url)
        to_do = "start the bot and scan the login code with Weixin on your phone"
        return [reached, Finding(LOGIN, False, to_do)]


async def _with_login(client: httpx.AsyncClient, base_url: str, state: State, login: Login) -> list[Finding]:
    """Ask for the owner's typing ticket: the cheapest call that needs a login."""
    ilink = Ilink(client, trusted(base_url, login.base_url) or base_url, login.token)
    contact = state.contacts.get(login.owner, Contact("", 0.0))
    reached = Finding(REACHED, True)
    try:
        await ilink.typing_ticket(login.owner, contact.context_token)
    except Unreachable as error:
        return [_unreached(str(error))]
    except StaleLogin:
        to_do = "Weixin ended the login; start the bot and scan the new code with Weixin on your phone"
        return [reached, Finding(LOGIN, False, to_do)]
    except IlinkError as error:
        return [reached, Finding(LOGIN, False, f"{error}; if the bot does not answer, restart it")]
    return [reached, Finding(LOGIN, True)]


async def _reached(client: httpx.AsyncClient, base_url: str) -> Finding:
    try:
        await client.get(base_url, timeout=QUICK)
    except httpx.HTTPError as error:
        return _unreached(type(error).__name__)
    return Finding(REACHED, True)


def _unreached(why: str) -> Finding:
    return Finding(REACHED, False, f"{why}; check this machine's network, its proxy settings, and base_url")
