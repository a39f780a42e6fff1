"""Reads config.toml into frozen, typed settings. Reports every error at once, each with its path.

Knows nothing of what the settings are used for.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from adapters import registry
from bots import persona_files

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


class RemoteModelSettings(Frozen):
    """The OpenAI-compatible server that speaks where engine = "remote"; see learner/engine/remote_settings.py."""

    base_url: str = ""
    model: str = ""
    key_env: str = ""
    context_tokens: int = Field(8192, ge=64)
    retries: int = Field(4, ge=0, le=20)
    pairs: Literal["auto", "n", "requests"] = "auto"
    lora: Literal["none", "vllm"] = "none"
    lora_dir: str = ""
    begins_thinking: bool = False
    extra: dict[str, Any] = {}

    @property
    def key(self) -> str:
        """The server's key; empty when none is configured."""
        return os.environ.get(self.key_env, "") if self.key_env else ""

    def faults(self) -> Iterator[str]:
        """What keeps it from being used, each with its path."""
        if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", self.base_url):
            yield "remote.base_url: expected where the server answers, such as http://127.0.0.1:11434/v1"
        if not self.model:
            yield "remote.model: expected the model's name on the server, such as qwen3:8b"
        if self.key_env and not self.key:
            yield f"remote.key_env: names {self.key_env}, and that environment variable is not set"
        for name in sorted({"model", "messages", "stream", "n"} & self.extra.keys()):
            yield f"remote.extra.{name}: is set with every request by the engine itself"


class ModelSettings(Frozen):
    """Which model speaks, and on what. With engine = "remote" `name` is the base that nights train, "" for none."""

    name: str = "starter"
    lora: str = ""  # the folder of a LoRA that `nightschool train` wrote: it speaks, and nights begin at it
    engine: Literal["local", "remote", "scripted"] = "local"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    quantisation: Literal["none", "nf4"] = "none"
    max_batch: int = Field(8, ge=1, le=256)
    max_queue: int = Field(32, ge=1)
    kv_cache_mb: int = Field(512, ge=0)
    threads: int = Field(0, ge=0)
    lora_slots: int = Field(8, ge=1)  # LoRAs of chats that are loaded at a time
    template: Literal["auto", "chatml", "llama3", "mistral", "gemma", "glm4", "internlm", "baichuan", "plain"] = "auto"
    thinking: bool = False  # let a reasoning model think before it replies, where its template can say so
    show_thoughts: bool = False  # thoughts are part of replies: shown, and trained on
    remote: RemoteModelSettings = RemoteModelSettings()

    @model_validator(mode="before")
    @classmethod
    def no_base_unless_named(cls, raw: Any) -> Any:
        """The starter is no server's model: what nights train beside a server must be named."""
        if isinstance(raw, dict) and raw.get("engine") == "remote":
            return {"name": "", **raw}
        return raw

    @model_validator(mode="after")
    def the_server_is_known(self) -> ModelSettings:
        """Tell all that is missing of the server at once."""
        faults = list(self.remote.faults()) if self.engine == "remote" else []
        if self.engine == "remote" and self.name == "starter":
            faults.append('name: with engine = "remote" it is the base that nights train; name the server\'s, or ""')
        if self.engine != "remote" and not self.name:
            faults.append("name: expected a folder, a Hugging Face id or modelscope:ID")
        if faults:
            raise PydanticCustomError("server", "{faults}", {"faults": "\n".join(faults)})
        return self

    @property
    def trains(self) -> bool:
        """Whether there is a base that nights can train."""
        return bool(self.name)

    @property
    def speaks_loras(self) -> bool:
        """Whether what nights make can speak."""
        return self.engine != "remote" or self.remote.lora != "none"


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
    canaries: str = ""  # a JSONL file; empty: the ones that came with the model, if any
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
    platforms: dict[Name, dict[str, Any]] = {}  # this bot's own settings of a platform, over [adapters.NAME]


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
    extra: dict[str, Any] = {}  # further fields of a request's body


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
        raise SettingsError(source, [line for fault in error.errors() for line in _problems(fault)]) from error
    home = source.resolve().parent
    bots, problems = _with_personas(settings, home)
    problems += _platform_problems(settings)
    if problems:
        raise SettingsError(source, problems)
    return settings.model_copy(
        update={
            "bots": bots,
            "data_dir": (home / settings.data_dir.expanduser()).resolve(),
            "model": settings.model.model_copy(
                update={"name": resolve_model(settings.model.name, home), "lora": _existing(settings.model.lora, home)}
            ),
            "recall": settings.recall.model_copy(update={"embedding": _folder(settings.recall.embedding, home)}),
            "learner": settings.learner.model_copy(update={"canaries": _existing(settings.learner.canaries, home)}),
        }
    )


def resolve_model(name: str, home: Path) -> str:
    """The folder of a local model; ids of hubs stay as they are."""
    if not name:
        return ""
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


def _with_personas(settings: Settings, home: Path) -> tuple[tuple[BotSettings, ...], list[str]]:
    """The bots with the personas of their files, and what is wrong with those."""
    bots, problems = [], []
    for index, bot in enumerate(settings.bots):
        read: dict[str, str] = {}
        if bot.personas_file:
            try:
                read = persona_files.profiles(Path(_existing(bot.personas_file, home)))
            except ValueError as error:
                problems.append(f"bots.{index}.personas_file: {error}")
        everybody = (*bot.personas, *(OtherPersonaSettings(name=name, profile=told) for name, told in read.items()))
        named = Counter(one.name.casefold() for one in everybody)
        twice = [one.name for one in everybody if named[one.name.casefold()] > 1]
        if twice:
            problems.append(f"bots.{index}.personas: two are called {twice[0]!r}; give each a name of its own")
        bots.append(bot.model_copy(update={"personas": everybody}))
    return tuple(bots), problems


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


def _problems(fault: Any) -> list[str]:
    """A line for each thing that one validator found."""
    if fault["type"] != "server":
        return [_problem(fault)]
    return [".".join((*fault["loc"], line)) for line in fault["msg"].split("\n")]


def _problem(fault: Any, under: str = "") -> str:
    path = ".".join(str(part) for part in (under, *fault["loc"]) if part != "") or "config"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        message = "unknown name; check its spelling, or the table that it stands in"
    return f"{path}: {message}"
