"""How a bot talks: [[bots]], [offers], [limits] and [recall]."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from bots import persona_files
from bots.settings.base import Frozen, Name, Share


class OfferSettings(Frozen):
    """When two candidates are shown."""

    expire_minutes: float = Field(60, gt=0)
    max_per_hour: int = Field(20, ge=0)
    choose: Literal["worth", "random"] = "worth"  # ask about the pairs that would teach most, or about any


class LimitSettings(Frozen):
    """How many messages a minute are answered."""

    person_per_minute: int = Field(20, ge=1)
    chat_per_minute: int = Field(60, ge=1)


class RecallSettings(Frozen):
    """What was said before, found and put into the prompt; see bots/recall.py."""

    enabled: Literal["auto", "on", "off"] = "auto"  # auto: on, but for the starter
    across: Literal["chat", "person", "bot"] = "chat"  # see learner/store/rows.py's Search
    most: int = Field(5, ge=1, le=20)  # memories in one prompt
    max_tokens: int = Field(256, ge=16)  # that they take
    coverage: Share = 0.35  # how much of a message's telling words a memory must share
    embedding: str = ""  # a sentence-transformers model, by id or folder; empty: words alone
    similarity: Share = 0.6  # cosine that a memory found by its vector must have


class PersonaSettings(Frozen):
    """Who the bot is, and what it says first: its greeting, or one of `first_words`."""

    name: str = ""
    profile: str = ""
    greeting: str = ""
    first_words: tuple[str, ...] = ()


class OtherPersonaSettings(PersonaSettings):
    """A persona that a chat can choose instead, by its name."""

    name: Annotated[str, AfterValidator(persona_files.checked)]


class SamplingSettings(Frozen):
    """How replies are drawn."""

    temperature: float = Field(0.9, ge=0, le=5)
    top_p: float = Field(0.95, gt=0, le=1)
    repetition_penalty: float = Field(1.0, ge=0.5, le=3)
    max_tokens: int = Field(128, ge=1, le=32768)


class GroupSettings(Frozen):
    """Groups: which ones, and when the bot speaks there."""

    allow: tuple[str, ...] = ()  # "platform:chat id"; the owner's /allow, said in the group, adds to these
    called_by_name: bool = True  # also speak when a message begins with the bot's name
    offers: bool = True  # offer two candidates there too
    notice: bool = True  # say once that what is said to the bot may train it


class BotSettings(Frozen):
    """One bot: its mind, its platforms, its person."""

    name: Name = "nightschool"
    mind: Name = "default"
    adapters: tuple[Name, ...] = ("console", "web")
    talkers: Literal["everyone", "allowlist", "paired"] = "paired"  # who may talk to it in private
    allow: tuple[str, ...] = ()  # "platform:person id", whatever talkers says
    teachers: Literal["owner", "everyone"] = "owner"
    groups: GroupSettings = GroupSettings()
    merge_seconds: float = Field(1.0, ge=0, le=60)  # messages that follow each other so fast are one turn
    silent_minutes: float = Field(30, ge=0)  # after the owner wrote in the bot's place
    greet: bool = False  # new friends and members
    blocked_words: tuple[str, ...] = ()  # a reply that holds one is not sent
    ask_rate: Share | None = None
    persona: PersonaSettings = PersonaSettings()
    personas: tuple[OtherPersonaSettings, ...] = ()  # a chat chooses by /persona NAME
    personas_file: str = ""  # more of them: a JSON file of {name: profile}, as RoleBench has
    sampling: SamplingSettings = SamplingSettings()
    platforms: dict[Name, dict[str, Any]] = Field(
        default_factory=dict
    )  # this bot's own settings of a platform, over [adapters.NAME]
