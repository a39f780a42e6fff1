"""The chat page and its HTTP interface. Knows nothing of the conversation but `WebBackend`."""

from adapters.web.adapter import WebAdapter
from adapters.web.backend import LogLine, LoraLine, MemoryLine, NightState, PageStatus, WebBackend

__all__ = ["LogLine", "LoraLine", "MemoryLine", "NightState", "PageStatus", "WebAdapter", "WebBackend"]
