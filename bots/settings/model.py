"""Which model speaks: the tables [model] and [model.remote]."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from bots.settings.base import Frozen


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
    extra: dict[str, Any] = Field(default_factory=dict)

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
