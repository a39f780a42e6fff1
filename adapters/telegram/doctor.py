"""Looks whether the settings of Telegram can work. Takes no update and changes nothing."""

from __future__ import annotations

import telegram
from telegram.error import TelegramError

from adapters.base import AdapterError, Finding
from adapters.telegram.client import Client, connection
from adapters.telegram.settings import TelegramSettings
from adapters.telegram.webhook import bind

OLDEST = (22, 8)  # of python-telegram-bot: the first that knows drafts for every bot and Bot API 10


async def findings(settings: TelegramSettings) -> list[Finding]:
    """All that can be said without taking part. Never raises."""
    found = [_library()]
    if settings.webhook_url:
        found.append(_port(settings))
    try:
        async with connection(settings) as client:
            found += await _reached(settings, client)
    except AdapterError as error:
        found.append(Finding("the bot's token and proxy", False, str(error)))
    except Exception as error:
        found.append(Finding("Telegram", False, f"the check itself failed ({type(error).__name__})"))
    return found


def _library() -> Finding:
    version = telegram.__version__
    right = telegram.__version_info__[:2] >= OLDEST
    return Finding(
        f"python-telegram-bot {version}", right, "" if right else 'pip install --upgrade "nightschool[telegram]"'
    )


def _port(settings: TelegramSettings) -> Finding:
    where = f"{settings.listen}:{settings.port}"
    try:
        bind(settings.listen, settings.port).close()
    except OSError as error:
        to_do = f"it is taken ({error.strerror}): stop what has it (this bot, if it runs), or set another port"
        return Finding(f"the webhook's port {where}", False, to_do)
    return Finding(f"the webhook's port {where}", True)


async def _reached(settings: TelegramSettings, client: Client) -> list[Finding]:
    through = " through the proxy" if settings.proxy_url.get_secret_value() else ""
    try:
        await client.bot.initialize()
        info = await client.bot.get_webhook_info()
    except TelegramError as error:
        return [Finding(f"{settings.base_url}{through}", False, client.health(error).detail)]
    me = client.bot.bot
    found = [Finding(f"{settings.base_url}{through}, token of @{me.username}", True)]
    if not me.can_join_groups:
        found.append(Finding("groups: nobody can add the bot to one (@BotFather, /setjoingroups changes it)", True))
    elif not me.can_read_all_group_messages:
        what = "groups: the bot sees only what is for it, unless it is an administrator (@BotFather, /setprivacy)"
        found.append(Finding(what, True))
    if info.url and info.url != settings.webhook_url:
        to_do = "another program set it; a start of this bot removes it. Stop that program, or it sets it again"
        found.append(Finding("a webhook that is not ours", False, to_do))
    return found
