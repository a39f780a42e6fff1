"""The chat page and its HTTP interface. Knows nothing of the conversation but `WebBackend`."""

from adapters.web.adapter import WebAdapter
from adapters.web.backend import LogLine, LoraLine, NightState, PageStatus, WebBackend

__all__ = ["LogLine", "LoraLine", "NightState", "PageStatus", "WebAdapter", "WebBackend"]
