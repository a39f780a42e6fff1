"""Where it listens: [adapters] and [api]."""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from bots.settings.base import LOOPBACK, Frozen


class WebSettings(Frozen):
    """The chat page."""

    host: str = "127.0.0.1"
    port: int = Field(8808, ge=0, le=65535)
    token_env: str = ""
    allowed_hosts: tuple[str, ...] = ()

    @property
    def token(self) -> str:
        """The page's token; empty when none is configured."""
        return os.environ.get(self.token_env, "") if self.token_env else ""

    @model_validator(mode="after")
    def a_token_guards_the_network(self) -> WebSettings:
        """Refuse to listen beyond this machine without a token."""
        if self.token_env and not self.token:
            raise ValueError(f"token_env names {self.token_env}, and that environment variable is not set")
        if self.host not in LOOPBACK and not self.token:
            raise ValueError(f"host {self.host} is reachable from outside: set token_env, or use 127.0.0.1")
        return self


class ApiSettings(Frozen):
    """OpenAI's HTTP interface to the bots, on the page's host and port."""

    enabled: Literal["auto", "on", "off"] = "auto"  # auto: where a bot has the page
    key_env: str = ""

    @property
    def key(self) -> str:
        """The key that clients send; empty when none is configured."""
        return os.environ.get(self.key_env, "") if self.key_env else ""

    @model_validator(mode="after")
    def a_key_is_there(self) -> ApiSettings:
        """Refuse to be open where a key was meant."""
        if self.key_env and not self.key:
            raise ValueError(f"key_env names {self.key_env}, and that environment variable is not set")
        return self


class ConsoleSettings(Frozen):
    """The terminal."""


class AdapterSettings(Frozen):
    """A table for each platform that is used; those of all but the page and the terminal are the adapter's own."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, dict[str, Any]]

    web: WebSettings = WebSettings()
    console: ConsoleSettings = ConsoleSettings()
