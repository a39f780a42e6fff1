"""What config.toml says of Weixin. Knows nothing of the calls; there are no secrets: the login is by QR code."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, field_validator

from adapters.weixin.hosts import base_address

OFFICIAL = "https://ilinkai.weixin.qq.com"


class WeixinSettings(BaseModel):
    """`[adapters.weixin]`, or `[bots.platforms.weixin]` of one bot."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_url: str = OFFICIAL

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        return base_address(value)
