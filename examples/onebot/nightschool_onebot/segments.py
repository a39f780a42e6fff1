"""Message segments and CQ strings: what a message says, and how one is written. Pure.

Knows nothing of chats or events.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from adapters.base import MessageKind, Person

KINDS: dict[str, MessageKind] = {
    "image": "image",
    "record": "voice",
    "video": "video",
    "file": "file",
    "mface": "sticker",
    "marketface": "sticker",
}
STICKER_IMAGE = "1"  # the image's sub_type that QQ gives to pictures sent from the sticker panel
_CODE = re.compile(r"\[CQ:([A-Za-z0-9_.-]+)((?:,[^,\[\]]+)*)\]")


@dataclass(frozen=True)
class Segment:
    """One piece of a message."""

    type: str
    data: dict[str, str]


@dataclass(frozen=True)
class Content:
    """What a message says. `mentioned`: the bot, by name; `quote`: the message_id quoted, or ""."""

    text: str
    kind: MessageKind
    quote: str
    mentioned: bool


def parse(message: object) -> list[Segment]:
    """The segments of `message`, which comes as a list or, from older implementations, as a CQ string."""
    if isinstance(message, str):
        return _parse_codes(message)
    if not isinstance(message, list):
        return []
    return [_segment(one) for one in message if isinstance(one, dict)]


def read(segments: Sequence[Segment], bot: str) -> Content:
    """What `segments` say to the account `bot`: mentions of it are no part of the text, of others they are."""
    text, mentioned, quote = "", False, ""
    kinds: list[MessageKind] = []
    for segment in segments:
        if segment.type == "text":
            text += segment.data.get("text", "")
        elif segment.type == "at" and segment.data.get("qq") == bot:
            mentioned = True
        elif segment.type == "at":
            text += "@" + (segment.data.get("name", "").lstrip("@") or segment.data.get("qq", ""))
        elif segment.type == "reply":
            quote = segment.data.get("id", "")
        elif segment.type != "face":
            kinds.append(_kind(segment))
    text = text.strip() if mentioned or quote else text
    return Content(text, kinds[0] if kinds else _kind_of_words(segments, text), quote, mentioned)


def words(segments: Sequence[Segment]) -> str:
    """The written words alone, to compare what was sent with what came back."""
    return "".join(segment.data.get("text", "") for segment in segments if segment.type == "text").strip()


def write(text: str, quote: str = "", to: Person | None = None) -> list[dict[str, Any]]:
    """`text` as segments, quoting `quote` and naming `to`."""
    segments: list[dict[str, Any]] = []
    if quote:
        segments.append({"type": "reply", "data": {"id": quote}})
    if to is not None:
        segments.append({"type": "at", "data": {"qq": to.id}})
        text = f" {text}"
    return [*segments, {"type": "text", "data": {"text": text}}]


def _kind(segment: Segment) -> MessageKind:
    sub_type = segment.data.get("sub_type") or segment.data.get("subType")
    if segment.type == "image" and sub_type == STICKER_IMAGE:
        return "sticker"
    return KINDS.get(segment.type, "other")


def _kind_of_words(segments: Sequence[Segment], text: str) -> MessageKind:
    """Words with faces between them are text; faces alone are a sticker; nothing at all is something unheard of."""
    if text.strip() or any(segment.type == "at" for segment in segments):
        return "text"
    return "sticker" if any(segment.type == "face" for segment in segments) else "other"


def _segment(raw: dict[str, Any]) -> Segment:
    data = raw.get("data")
    fields = data if isinstance(data, dict) else {}
    return Segment(str(raw.get("type", "")), {str(name): str(value) for name, value in fields.items()})


def _parse_codes(message: str) -> list[Segment]:
    segments, start = [], 0
    for code in _CODE.finditer(message):
        if before := message[start : code.start()]:
            segments.append(_text(before))
        pairs = (pair.partition("=") for pair in code[2].split(",")[1:])
        segments.append(Segment(code[1], {name: _unescape(value) for name, _, value in pairs}))
        start = code.end()
    if after := message[start:]:
        segments.append(_text(after))
    return segments


def _text(escaped: str) -> Segment:
    return Segment("text", {"text": _unescape(escaped)})


def _unescape(text: str) -> str:
    """CQ strings escape only these; & comes last, or an escaped "&#91;" would turn into a bracket."""
    for entity, character in (("&#91;", "["), ("&#93;", "]"), ("&#44;", ","), ("&amp;", "&")):
        text = text.replace(entity, character)
    return text
