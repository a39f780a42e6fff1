"""What config.toml says of wechaty. Imports nothing of it; the token is named, never held."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

_TOKEN = re.compile(r"[A-Za-z0-9._~-]+")


class WechatySettings(BaseModel):
    """`[bots.platforms.wechaty]`, over `[adapters.wechaty]`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    accept_ban_risk: bool = False
    endpoint: str
    token_env: str = Field("WECHATY_TOKEN", min_length=1)
    insecure_remote: bool = False
    accept_friends: bool = False
    human_like: bool = False
    typing_speed: float = Field(6.0, gt=0, le=1000)  # characters in a second

    @property
    def token(self) -> SecretStr:
        """The gateway's token; empty when the variable is not set."""
        return SecretStr(os.environ.get(self.token_env, "").strip())

    @property
    def token_fault(self) -> str:
        """What is wrong with the token, and what to do; "" when nothing is."""
        token = self.token.get_secret_value()
        if not token:
            return f"set the environment variable {self.token_env} to the gateway's token"
        if not _TOKEN.fullmatch(token):
            return f"{self.token_env} must hold letters, digits and - . _ ~ only: the token travels in a header"
        return ""

    @property
    def host(self) -> str:
        """The gateway's name or address."""
        return urlsplit(f"//{self.endpoint}").hostname or ""

    @property
    def port(self) -> int:
        """The gateway's port."""
        return urlsplit(f"//{self.endpoint}").port or 0

    @field_validator("endpoint")
    @classmethod
    def a_host_and_a_port(cls, endpoint: str) -> str:
        """Refuse anything but host:port."""
        try:
            parts = urlsplit(f"//{endpoint}")
            right = bool(parts.hostname and parts.port) and parts.netloc == endpoint and "@" not in endpoint
        except ValueError:
            right = False
        if not right:
            raise ValueError("must be the gateway's host:port, such as 127.0.0.1:8788, with nothing before or after it")
        return endpoint

    @model_validator(mode="after")
    def the_risk_is_known(self) -> Self:
        """Refuse an account whose owner was not told."""
        if not self.accept_ban_risk:
            raise ValueError(
                "WeChat forbids bots on personal accounts: it may log the account out, bar it from logging in "
                "for weeks, or close it for good. Use an account that you can lose, and set accept_ban_risk = true"
            )
        return self

    @model_validator(mode="after")
    def nobody_listens_in(self) -> Self:
        """Refuse a gateway on another machine, unless that was meant."""
        if not self.insecure_remote and not _is_loopback(self.host):
            raise ValueError(
                f"endpoint names {self.host}, which is not this machine, and the connection is not encrypted: whoever "
                "is on the way reads every message and the token. Open a tunnel to it (ssh -L 8788:127.0.0.1:8788 …) "
                "and use 127.0.0.1; in a private network that you trust, set insecure_remote = true"
            )
        return self


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
