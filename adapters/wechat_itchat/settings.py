"""The settings of a WeChat alt account. Imports no library of the platform."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

BAN_RISK = (
    "this adapter logs a WeChat account in by the unofficial web protocol. WeChat may log the account out, bar it "
    "from such logins for weeks, or block it for good, with its chats and its money. Use an alt account that you "
    "can lose, never your own"
)


class ItchatSettings(BaseModel):
    """`[adapters.wechat]` for all bots, `[bots.platforms.wechat]` for one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    accept_ban_risk: bool = False
    accept_friends: bool = False  # friend requests are accepted; otherwise left for the owner's phone
    human_like: bool = False  # a reply goes out clause by clause, with pauses as of typing
    typing_speed: float = Field(default=6.0, gt=0)  # characters a second
    longest_pause: float = Field(default=4.0, ge=0)  # seconds before one piece, however long it is
    qr_pause: float = Field(default=15.0, ge=0)  # seconds between an expired login code and the next

    @model_validator(mode="after")
    def _risk_is_accepted(self) -> ItchatSettings:
        if not self.accept_ban_risk:
            raise ValueError(f"{BAN_RISK}. If you accept that, set accept_ban_risk = true; if not, remove this adapter")
        return self
