"""What is learned, when and how: [learner] and [synthesis]."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from bots.settings.base import Clock, Frozen, Name


class RecipeSettings(Frozen):
    """What a night may change of learner/training/recipe.py's defaults; None leaves them."""

    learning_rates: tuple[float, ...] | None = None
    epochs: float | None = Field(None, gt=0)
    beta: float | None = Field(None, gt=0)
    rank: int | None = Field(None, ge=1)
    alpha: int | None = Field(None, ge=1)
    batch_size: int | None = Field(None, ge=1)
    half_life: float | None = Field(None, ge=0)  # days
    pair_weight: float | None = Field(None, ge=0)
    sft_weight: float | None = Field(None, ge=0)
    rating_weight: float | None = Field(None, ge=0)
    tie_weight: float | None = Field(None, ge=0)
    drawn: int | None = Field(None, ge=0)  # prompts that replies are drawn to in a round; 0: people's records alone
    whole_until: int | None = Field(None, ge=1)  # records
    portion: int | None = Field(None, ge=1)  # records
    quarantine: int | None = Field(None, ge=0)  # choices and ratings
    quarantine_weight: float | None = Field(None, ge=0, le=1)


class DuelSettings(Frozen):
    """When the duels of champion and challenger decide; see learner/duels.py."""

    alpha: float = Field(0.05, gt=0, lt=1)
    min_duels: int = Field(10, ge=1)
    max_duels: int = Field(200, ge=1)
    max_days: float = Field(14, gt=0)
    undecided: Literal["promote", "roll_back"] = "promote"


class PersonalSettings(Frozen):
    """Chats that learn a LoRA of their own, under a name that the owner gives them."""

    name: Name
    chats: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+:.+$")], ...] = Field(min_length=1)  # "platform:chat id"
    shared: bool = False  # whether what is said there teaches the common LoRA too


class LearnerSettings(Frozen):
    """The nightly run."""

    enabled: bool = True
    time: Clock = "03:30"
    min_records: int = Field(20, ge=1)
    tell_owner: bool = True  # how a night ended, in the owner's private chat
    canaries: str = ""  # a JSONL file; empty: those in the model's folder, or the ones that ship
    threads: int = Field(0, ge=0)
    gate: Literal["off", "normal", "strict"] = "normal"  # see learner/gate.py
    probation: Literal["off", "on"] = "off"  # "on": what passed the gate duels with the champion before it speaks
    duels: DuelSettings = DuelSettings()
    recipe: RecipeSettings = RecipeSettings()
    personal: tuple[PersonalSettings, ...] = ()

    @model_validator(mode="after")
    def chats_have_one_lora(self) -> LearnerSettings:
        """No two LoRAs of chats share a name, which is a file's, nor a chat."""
        names = [one.name.casefold() for one in self.personal]
        chats = [chat for one in self.personal for chat in one.chats]
        twice = sorted({one for every in (names, chats) for one in every if every.count(one) > 1})
        if twice:
            raise ValueError(f"personal: {', '.join(twice)}: each name, and each chat, can stand there once")
        return self


class SynthesisSettings(Frozen):
    """Whom `corpus character` and `corpus restyle` ask; a command's own options come first."""

    base_url: str = ""
    model: str = ""  # empty: the only one that the endpoint has
    key_env: str = ""
    concurrency: int = Field(8, ge=1, le=256)
    timeout: float = Field(180, gt=0)
    tries: int = Field(7, ge=1, le=100)
    temperature: float = Field(1.0, ge=0, le=2)
    max_tokens: int = Field(2048, ge=0)  # 0: the endpoint's own limit
    price_in: float = Field(0, ge=0)  # of a million tokens
    price_out: float = Field(0, ge=0)
    extra: dict[str, Any] = Field(default_factory=dict)  # further fields of a request's body
