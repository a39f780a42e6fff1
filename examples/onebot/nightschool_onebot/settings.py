"""What config.toml says of OneBot. Imports no WebSocket library, and holds no token: only where to find it."""

from __future__ import annotations

import os
from ipaddress import ip_address
from typing import Self
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator


class OneBotSettings(BaseModel):
    """Either `url` (we connect to OneBot) or `listen` (OneBot connects to us, "host:port")."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = ""
    listen: str = ""
    token_env: str = ""
    answer_seconds: float = Field(default=30.0, gt=0)

    @model_validator(mode="after")
    def one_way_and_no_secret(self) -> Self:
        """One direction is chosen, it can be read, and no token stands in the file."""
        if bool(self.url) == bool(self.listen):
            raise ValueError('set either url ("ws://127.0.0.1:3001") or listen ("127.0.0.1:3002"), and only one')
        if self.url:
            _check_url(self.url)
        elif not _is_loopback(self.address[0]) and not self.token_env:
            raise ValueError(f"listen is {self.listen}, which others can reach: set token_env, or use 127.0.0.1")
        return self

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of `listen`."""
        parts = urlsplit(f"//{self.listen}")
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or port is None:
            raise ValueError(f'listen is {self.listen!r}; write a host and a port: "127.0.0.1:3002"')
        return host, port

    @property
    def token(self) -> SecretStr:
        """The access token, or "" without one."""
        return SecretStr(os.environ.get(self.token_env, "") if self.token_env else "")

    @property
    def token_is_missing(self) -> bool:
        """Whether a token is named that the environment does not have."""
        return bool(self.token_env) and not self.token.get_secret_value()


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.username or parts.password or "access_token" in parse_qs(parts.query):
        raise ValueError("url holds a secret: put the token into an environment variable and name that in token_env")
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError('url must begin with ws:// or wss:// and name a host: "ws://127.0.0.1:3001"')


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
