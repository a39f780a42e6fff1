"""Which server is to answer, and how it is spoken to. Knows nothing of HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class RemoteSettings:
    """An OpenAI-compatible server and one model of it.

    `base_url` ends as the server wants it, mostly in /v1; `key` is sent as a bearer token. `base` is the folder or id
    whose tokenizer and chat template (or the named `template`) tell what the server's model sees; "": prompts stay
    text. `context_length` counts tokens of prompt and reply; `max_running` requests are under way at once, `max_queue`
    may wait; `retries` are made of a request that failed before its first word. `pairs`: two candidates by one request
    (n), by two, or as the server turns out to do it. `lora` "vllm": LoRAs are loaded by vLLM's own endpoints, from
    `lora_dir` if the server sees their folders elsewhere. `begins_thinking`: replies begin inside a thought that the
    server's template opened. `extra` is sent with every request.
    """

    base_url: str
    model: str
    key: str = field(default="", repr=False)
    key_env: str = ""
    base: str = ""
    template: str = "auto"
    context_length: int = 8192
    max_running: int = 8
    max_queue: int = 32
    retries: int = 4
    pairs: Literal["auto", "n", "requests"] = "auto"
    lora: Literal["none", "vllm"] = "none"
    lora_dir: str = ""
    begins_thinking: bool = False
    show_thoughts: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
