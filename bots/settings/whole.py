"""All of config.toml together, and what follows from it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, model_validator

from adapters import registry
from bots.settings.base import ROOT, Frozen, Share
from bots.settings.doors import AdapterSettings, ApiSettings
from bots.settings.learning import LearnerSettings, SynthesisSettings
from bots.settings.model import ModelSettings
from bots.settings.paths import resolve_model
from bots.settings.talking import BotSettings, LimitSettings, OfferSettings, RecallSettings


class Settings(Frozen):
    """All of config.toml. Paths are absolute once read."""

    data_dir: Path = Path("data")
    ask_rate: Share = 0.3
    language: Literal["zh", "en"] = "zh"
    max_message_chars: int = Field(8000, ge=1)
    reply_timeout: float = Field(120, gt=0)
    model: ModelSettings = ModelSettings()
    offers: OfferSettings = OfferSettings()
    limits: LimitSettings = LimitSettings()
    recall: RecallSettings = RecallSettings()
    learner: LearnerSettings = LearnerSettings()
    synthesis: SynthesisSettings = SynthesisSettings()
    bots: tuple[BotSettings, ...] = (BotSettings(),)
    adapters: AdapterSettings = AdapterSettings()
    api: ApiSettings = ApiSettings()

    @model_validator(mode="after")
    def names_are_known_and_unique(self) -> Settings:
        """Every bot has a name of its own, and names only platforms that there are."""
        names = [bot.name for bot in self.bots]
        if not names:
            raise ValueError("bots: at least one [[bots]] is needed")
        if len(set(names)) != len(names):
            raise ValueError(f"bots: two bots share a name among {names}")
        for index, bot in enumerate(self.bots):
            for name in bot.adapters:
                if name not in registry.known():
                    raise ValueError(f"bots.{index}.adapters: {name!r} is unknown; there are {registry.known()}")
        if self.learner.probation == "on" and not self.model.speaks_loras:
            raise ValueError('learner.probation: LoRAs can\'t duel on this server; see model.remote.lora, or set "off"')
        for name in ("console", "web"):
            if sum(name in bot.adapters for bot in self.bots) > 1:
                raise ValueError(f"bots: only one bot can have the {name}")
        return self

    @property
    def loras_dir(self) -> Path:
        """Where LoRA versions live."""
        return self.data_dir / "loras"

    @property
    def runs_dir(self) -> Path:
        """Where nightly runs are frozen."""
        return self.data_dir / "runs"

    @property
    def database_url(self) -> str:
        """SQLAlchemy's URL of the store."""
        return f"sqlite:///{self.data_dir / 'nightschool.db'}"

    @property
    def recalls(self) -> bool:
        """Whether what was said before goes into prompts: the starter was never taught to read it."""
        if self.recall.enabled == "auto":
            return self.model.name not in ("starter", resolve_model("starter", ROOT))
        return self.recall.enabled == "on"

    def bot(self, name: str) -> BotSettings:
        """The bot called `name`."""
        return next(bot for bot in self.bots if bot.name == name)

    def platform(self, bot: BotSettings, name: str) -> BaseModel:
        """The settings of platform `name` for `bot`. Raises ValidationError, and what `registry.load` raises."""
        kind = registry.settings_class(name)
        common = (self.adapters.model_extra or {}).get(name, {})
        spoken = {"language": self.language} if "language" in kind.model_fields else {}
        return kind.model_validate({**spoken, **common, **bot.platforms.get(name, {})})

    @property
    def has_page(self) -> bool:
        """Whether a bot has the chat page."""
        return any("web" in bot.adapters for bot in self.bots)

    @property
    def serves_api(self) -> bool:
        """Whether OpenAI's interface is served."""
        return self.api.enabled == "on" or (self.api.enabled == "auto" and self.has_page)

    def ask_rate_of(self, bot: BotSettings) -> float:
        """The bot's own ask_rate, or the common one."""
        return self.ask_rate if bot.ask_rate is None else bot.ask_rate
