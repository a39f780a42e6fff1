"""Which LoRA speaks on a vLLM server: loads each under a name of its own, and unloads it when nobody uses it.

Knows nothing of requests. A name is never loaded anew with other weights: vLLM would go on with stale keys and values.
The endpoints need VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from learner.engine.base import EngineError, LoraMismatch
from learner.engine.remote_settings import RemoteSettings
from learner.engine.remote_wire import RemoteClient, RemoteRefused

log = logging.getLogger(__name__)
CONFIG = "adapter_config.json"
PREFIX = "nightschool-"


class RemoteLoras:
    """The versions that the server holds for this engine. Without `lora = "vllm"` there are none, and none can be."""

    def __init__(self, settings: RemoteSettings) -> None:
        self._settings = settings
        self.active: str | None = None
        self._held: set[str] = set()
        self._loaded: set[str] = set()
        self._used: Counter[str] = Counter()
        self._loading = asyncio.Lock()

    def resolve(self, name: str) -> str | None:
        """The version that a candidate's `lora` means, None for the base. Raises LoraMismatch."""
        if name == "base":
            return None
        if name == "active":
            return self.active
        if name != self.active and name not in self._held:
            held = sorted({*self._held, *([self.active] if self.active else [])})
            raise LoraMismatch(f"LoRA {name} is not loaded; loaded are {', '.join(held) or 'none'}")
        return name

    def model_of(self, version: str | None) -> str:
        """What a request calls the model in which `version` speaks."""
        return self._settings.model if version is None else PREFIX + version

    @contextmanager
    def using(self, versions: list[str | None]) -> Iterator[None]:
        """Keep `versions` on the server meanwhile."""
        used = [version for version in versions if version is not None]
        self._used.update(used)
        try:
            yield
        finally:
            self._used.subtract(used)

    async def activate(self, client: RemoteClient, folder: Path | None) -> str | None:
        """Let the LoRA in `folder` (None: the base) speak. Raises LoraMismatch, and the old one goes on."""
        version = None if folder is None else await self._load(client, folder)
        self.active = version
        await self.tidy(client)
        return version

    async def hold(self, client: RemoteClient, folder: Path) -> str:
        """Keep the LoRA in `folder` beside the active one. Raises LoraMismatch."""
        version = await self._load(client, folder)
        self._held.add(version)
        return version

    async def release(self, client: RemoteClient, version: str) -> None:
        """Let go of a held LoRA."""
        self._held.discard(version)
        await self.tidy(client)

    async def tidy(self, client: RemoteClient) -> None:
        """Unload what neither speaks, nor is held, nor is needed by a reply under way."""
        async with self._loading:
            for version in sorted(self._loaded - self._held - {self.active}):
                if self._used[version] == 0:
                    self._loaded.discard(version)
                    try:
                        await client.post("unload_lora_adapter", {"lora_name": self.model_of(version)})
                    except EngineError as error:
                        log.warning("remote: LoRA %s stays loaded: %s", version, error)

    async def _load(self, client: RemoteClient, folder: Path) -> str:
        if self._settings.lora != "vllm":
            raise LoraMismatch(
                f"LoRA {folder.name} can't speak on {self._settings.base_url}: it is kept for export"
                ' (with vLLM, set model.remote.lora = "vllm")'
            )
        if not (folder / CONFIG).is_file():
            raise LoraMismatch(f"{folder} holds no LoRA: {CONFIG} is missing")
        async with self._loading:
            if folder.name not in self._loaded:
                await self._ask_to_load(client, folder)
                self._loaded.add(folder.name)
        return folder.name

    async def _ask_to_load(self, client: RemoteClient, folder: Path) -> None:
        seen = str(PurePosixPath(self._settings.lora_dir) / folder.name) if self._settings.lora_dir else str(folder)
        try:
            await client.post("load_lora_adapter", {"lora_name": PREFIX + folder.name, "lora_path": seen})
        except RemoteRefused as refusal:
            if "already" in refusal.sentence and "load" in refusal.sentence:
                return  # by this engine, before it was started anew: a version's weights never change
            hint = "; start vLLM with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora" * (refusal.status == 404)
            raise LoraMismatch(f"the server does not load LoRA {folder.name}: {refusal.sentence}{hint}") from refusal
        except EngineError as error:
            raise LoraMismatch(f"LoRA {folder.name} could not be loaded: {error}") from error
