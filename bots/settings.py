"""Reads config.toml into frozen, typed settings. Reports every error at once, each with its path.

Knows nothing of what the settings are used for.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from adapters import registry

ROOT = Path(__file__).resolve().parent.parent
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class SettingsError(Exception):
    """config.toml can't be used; `problems` holds one line for each fault."""

    def __init__(self, source: Path, problems: list[str]) -> None:
        self.problems = problems
        listing = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(f"{source} has {len(problems)} error(s):\n{listing}")


class Frozen(BaseModel):
    """Base of all settings: unknown names are refused, nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


Share = Annotated[float, Field(ge=0, le=1)]
Clock = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")]


class ModelSettings(Frozen):
    """Which model speaks, and on what."""

    name: str = "starter"
    engine: Literal["local", "scripted"] = "local"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    quantisation: Literal["none", "nf4"] = "none"
    max_batch: int = Field(8, ge=1, le=256)
    max_queue: int = Field(32, ge=1)
    kv_cache_mb: int = Field(512, ge=0)
    threads: int = Field(0, ge=0)


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


class LearnerSettings(Frozen):
    """The nightly run."""

    enabled: bool = True
    time: Clock = "03:30"
    min_records: int = Field(20, ge=1)
    tell_owner: bool = True  # how a night ended, in the owner's private chat
    canaries: str = ""  # a JSONL file; empty: the ones that came with the model, if any
    threads: int = Field(0, ge=0)
    gate: Literal["off", "normal", "strict"] = "normal"  # see learner/gate.py
    probation: Literal["off", "on"] = "off"  # "on": what passed the gate duels with the champion before it speaks
    duels: DuelSettings = DuelSettings()
    recipe: RecipeSettings = RecipeSettings()


class PersonaSettings(Frozen):
    """Who the bot is."""

    name: str = ""
    profile: str = ""
    greeting: str = ""


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
    sampling: SamplingSettings = SamplingSettings()
    platforms: dict[Name, dict[str, Any]] = {}  # this bot's own settings of a platform, over [adapters.NAME]


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


class ConsoleSettings(Frozen):
    """The terminal."""


class AdapterSettings(Frozen):
    """A table for each platform that is used; those of all but the page and the terminal are the adapter's own."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, dict[str, Any]]

    web: WebSettings = WebSettings()
    console: ConsoleSettings = ConsoleSettings()


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
    bots: tuple[BotSettings, ...] = (BotSettings(),)
    adapters: AdapterSettings = AdapterSettings()

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

    def ask_rate_of(self, bot: BotSettings) -> float:
        """The bot's own ask_rate, or the common one."""
        return self.ask_rate if bot.ask_rate is None else bot.ask_rate


def load(path: Path) -> Settings:
    """Read `path`. Raises SettingsError with every fault."""
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(path, ["no such file; name another one with --config"]) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(path, [f"can't be read: {error}"]) from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(path, [f"not valid TOML: {error}"]) from error
    return parse(raw, path)


def parse(raw: dict[str, Any], source: Path) -> Settings:
    """Validate `raw`; relative paths count from the folder of `source`."""
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        raise SettingsError(source, [_problem(fault) for fault in error.errors()]) from error
    problems = _platform_problems(settings)
    if problems:
        raise SettingsError(source, problems)
    home = source.resolve().parent
    return settings.model_copy(
        update={
            "data_dir": (home / settings.data_dir.expanduser()).resolve(),
            "model": settings.model.model_copy(update={"name": resolve_model(settings.model.name, home)}),
            "recall": settings.recall.model_copy(update={"embedding": _folder(settings.recall.embedding, home)}),
            "learner": settings.learner.model_copy(update={"canaries": _existing(settings.learner.canaries, home)}),
        }
    )


def resolve_model(name: str, home: Path) -> str:
    """The folder of a local model; ids of hubs stay as they are."""
    if name == "starter":
        return str(ROOT / "data" / "starter")
    return _folder(name, home)


def _folder(name: str, home: Path) -> str:
    """A folder as an absolute path; what is none stays as it is."""
    if name and (name.startswith(("./", "../", "/", "~")) or (home / name).is_dir()):
        return str((home / Path(name).expanduser()).resolve())
    return name


def _existing(name: str, home: Path) -> str:
    return str((home / Path(name).expanduser()).resolve()) if name else ""


def _platform_problems(settings: Settings) -> list[str]:
    """What is wrong with the settings of platforms, each adapter being asked about its own."""
    found = [
        f"adapters.{name}: no such adapter; there are {', '.join(registry.known())}"
        for name in settings.adapters.model_extra or {}
        if name not in registry.known()
    ]
    for index, bot in enumerate(settings.bots):
        for name in sorted({*bot.platforms} - {*bot.adapters}):
            found.append(f"bots.{index}.platforms.{name}: the bot's adapters do not name {name!r}")
        for name in (one for one in bot.adapters if one not in ("console", "web")):
            try:
                settings.platform(bot, name)
            except ValidationError as error:
                at = f"bots.{index}.platforms.{name}" if name in bot.platforms else f"adapters.{name}"
                found += [_problem(fault, at) for fault in error.errors()]
            except registry.MissingLibrary as error:
                found.append(f"bots.{index}.adapters: {error}")
    return found


def _problem(fault: Any, under: str = "") -> str:
    path = ".".join(str(part) for part in (under, *fault["loc"]) if part != "") or "config"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        message = "unknown name; check its spelling, or the table that it stands in"
    return f"{path}: {message}"
