"""Finds a platform adapter by name: ours, and those that other packages bring.

Knows nothing of what an adapter needs to be built; bots/app.py passes it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points

from pydantic import BaseModel, ConfigDict

GROUP = "nightschool.adapters"
ADAPTERS = {
    "console": "adapters.console:ConsoleAdapter",
    "web": "adapters.web.adapter:WebAdapter",
    "memory": "adapters.memory:MemoryAdapter",
    "telegram": "adapters.telegram.adapter:TelegramAdapter",
    "weixin": "adapters.weixin.adapter:WeixinAdapter",
    "wechat": "adapters.wechat_itchat.adapter:ItchatAdapter",
    "wechaty": "adapters.wechat_wechaty.adapter:WechatyAdapter",
}
# A platform's settings stand apart from its adapter, so that reading config.toml imports no platform's library.
SETTINGS = {
    "telegram": "adapters.telegram.settings:TelegramSettings",
    "weixin": "adapters.weixin.settings:WeixinSettings",
    "wechat": "adapters.wechat_itchat.settings:ItchatSettings",
    "wechaty": "adapters.wechat_wechaty.settings:WechatySettings",
}
EXTRAS = {"telegram": "telegram", "wechat": "wechat", "wechaty": "wechaty"}


class NoSettings(BaseModel):
    """A platform without settings of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class UnknownAdapter(Exception):
    """No adapter has that name."""


class MissingLibrary(Exception):
    """The platform's library is not installed."""

    def __init__(self, name: str, cause: ImportError) -> None:
        self.name = name
        extra = EXTRAS.get(name)
        cure = f'install it with: pip install "nightschool[{extra}]"' if extra else "install what it needs"
        super().__init__(f"the adapter {name} needs a library that can't be imported ({cause}); {cure}")


def known() -> list[str]:
    """The names that can stand in a bot's `adapters`."""
    return sorted({*ADAPTERS, *(point.name for point in entry_points(group=GROUP))})


def load(name: str) -> type:
    """Import and return the adapter's class. Raises UnknownAdapter and MissingLibrary."""
    try:
        if name in ADAPTERS:
            return _attribute(ADAPTERS[name])
        for point in entry_points(group=GROUP, name=name):
            return point.load()
    except ImportError as error:
        raise MissingLibrary(name, error) from error
    raise UnknownAdapter(f"no adapter is called {name!r}; there are {', '.join(known())}")


def settings_class(name: str) -> type[BaseModel]:
    """The class of the adapter's own settings."""
    if name in SETTINGS:
        return _attribute(SETTINGS[name])
    return NoSettings if name in ADAPTERS else getattr(load(name), "Settings", NoSettings)


def _attribute(path: str) -> type:
    module, _, attribute = path.partition(":")
    found: type = getattr(import_module(module), attribute)
    return found
