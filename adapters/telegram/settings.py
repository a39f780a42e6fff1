"""Telegram's own settings. Knows nothing of its library, so that reading config.toml imports none."""

from __future__ import annotations

import os
import re
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

PROXIES = ("http", "https", "socks5", "socks5h")
_SECRET = re.compile(r"[A-Za-z0-9_-]{1,256}")


class TelegramSettings(BaseModel):
    """[bots.platforms.telegram], over [adapters.telegram]. Secrets stand in the environment, by name."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    token_env: str = Field("TELEGRAM_TOKEN", min_length=1)
    base_url: str = "https://api.telegram.org"
    proxy: str = ""
    proxy_env: str = ""
    webhook_url: str = ""
    listen: str = "127.0.0.1"
    port: int = Field(8443, ge=0, le=65535)
    secret_env: str = ""
    parse_mode: Literal["", "MarkdownV2", "HTML"] = ""
    language: Literal["zh", "en"] = "zh"
    rating_buttons: bool = False
    drafts: bool = True

    @property
    def token(self) -> SecretStr:
        """The bot's token; empty when the variable is not set."""
        return SecretStr(os.environ.get(self.token_env, "").strip())

    @property
    def secret(self) -> SecretStr:
        """What Telegram must send with every update to the webhook."""
        return SecretStr(os.environ.get(self.secret_env, "").strip() if self.secret_env else "")

    @property
    def proxy_url(self) -> SecretStr:
        """The proxy, which may hold a password; empty for none."""
        return SecretStr(os.environ.get(self.proxy_env, "").strip() if self.proxy_env else self.proxy)

    @field_validator("base_url")
    @classmethod
    def an_address(cls, url: str) -> str:
        """The server's address without a slash at its end."""
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ValueError("must be the address of a Bot API server, such as https://api.telegram.org")
        return url.rstrip("/")

    @field_validator("proxy")
    @classmethod
    def a_proxy_without_a_password(cls, url: str) -> str:
        """Refuse what is no proxy, and secrets in the file."""
        if not url:
            return url
        if urlsplit(url).scheme not in PROXIES or not urlsplit(url).hostname:
            raise ValueError("must be an address such as http://127.0.0.1:7890 or socks5://127.0.0.1:1080")
        if "@" in url:
            raise ValueError(
                "must hold no password: put the whole address in an environment variable and name that in proxy_env"
            )
        return url

    @model_validator(mode="after")
    def a_proxy_of_the_environment(self) -> Self:
        """Refuse two proxies, and a variable that holds none."""
        if not self.proxy_env:
            return self
        if self.proxy:
            raise ValueError("set proxy or proxy_env, not both")
        if urlsplit(self.proxy_url.get_secret_value()).scheme not in PROXIES:
            raise ValueError(
                f"proxy_env names {self.proxy_env}, and that environment variable holds no proxy's address "
                "(such as socks5://user:password@127.0.0.1:1080)"
            )
        return self

    @model_validator(mode="after")
    def a_secret_guards_the_webhook(self) -> Self:
        """Refuse a webhook to which anybody could post."""
        if not self.webhook_url:
            return self
        if urlsplit(self.webhook_url).scheme not in ("http", "https") or not urlsplit(self.webhook_url).hostname:
            raise ValueError(
                "webhook_url must be an address that Telegram reaches, such as https://example.org/telegram"
            )
        if not self.secret_env:
            raise ValueError("a webhook needs a secret: set secret_env to an environment variable that holds one")
        if not _SECRET.fullmatch(self.secret.get_secret_value()):
            raise ValueError(
                f"secret_env names {self.secret_env}, and that environment variable must hold "
                "1 to 256 letters, digits, _ or -"
            )
        return self
