"""The kinds of messages that are no text, and what stands for them where they are kept.

Knows nothing of how a platform names them.
"""

from __future__ import annotations

from typing import Literal

Language = Literal["zh", "en"]

SYSTEM = "system"  # what the platform says: never kept, whatever is wished for media
FORWARDED = "forwarded"  # somebody else's words: never kept, but what is said next may be about them
LABELS: dict[str, tuple[str, str]] = {
    "image": ("图片", "image"),
    "voice": ("语音", "voice message"),
    "video": ("视频", "video"),
    "sticker": ("表情", "sticker"),
    "file": ("文件", "file"),
    "link": ("链接", "link"),
    "miniprogram": ("小程序", "mini program"),
    "location": ("位置", "location"),
    "card": ("名片", "contact"),
    "call": ("通话", "call"),
    "money": ("转账", "transfer"),
    "records": ("聊天记录", "forwarded messages"),
    "quote": ("引用", "quote"),
    "poll": ("投票", "poll"),
    "music": ("音乐", "music"),
    "other": ("其他消息", "other message"),
}


def label(kind: str, language: Language) -> str:
    """What stands in a text for a message of `kind`, as in "[图片]"."""
    return f"[{LABELS[kind][0 if language == 'zh' else 1]}]"
