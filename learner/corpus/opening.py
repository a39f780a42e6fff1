"""Opens a text file in whatever encoding it has: UTF-8 with or without a mark, UTF-16, GB 18030.

Knows nothing of what the text means.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

BLOCK = 2**20
MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
BROKEN = re.compile("[\udc80-\udcff]")  # what "surrogateescape" makes of a byte that it can't decode
FOREIGN = re.compile("[^\x00-\x7f\udc80-\udcff]")


@dataclass(frozen=True)
class Encoding:
    """How a file is to be decoded; `clean`: all of it can be."""

    name: str
    clean: bool


def open_text(path: Path, newline: str | None = None, encoding: Encoding | None = None) -> TextIO:
    """`path` for reading. A byte that no encoding explains is kept as a lone surrogate: see `undecoded`."""
    return path.open(encoding=(encoding or encoding_of(path)).name, errors="surrogateescape", newline=newline)


def encoding_of(path: Path) -> Encoding:
    """The encoding. The whole file is looked at, as its first letter that is not ASCII may come late."""
    with path.open("rb") as file:
        head = file.read(4)
        name = next((name for mark, name in MARKS if head.startswith(mark)), "utf-8")
        file.seek(0)
        decoder = codecs.getincrementaldecoder(name)()
        try:
            while block := file.read(BLOCK):
                decoder.decode(block)
            decoder.decode(b"", True)
        except UnicodeDecodeError as error:
            return Encoding(_guess(error.object) if name == "utf-8" else name, False)
    return Encoding(name, True)


def _guess(block: bytes) -> str:
    """UTF-8 that is broken here and there, or GB 18030, of which next to nothing is UTF-8."""
    text = block.decode("utf-8", "surrogateescape")
    return "gb18030" if len(FOREIGN.findall(text)) < len(BROKEN.findall(text)) else "utf-8"


def undecoded(text: str) -> bool:
    """Whether `text` holds bytes that could not be decoded."""
    return not text.isascii() and BROKEN.search(text) is not None


def writable(text: str) -> str:
    """`text` without half a character (a lone surrogate, as broken exports hold), which no file can store."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
