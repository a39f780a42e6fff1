"""Files that outlive a crash: written whole under another name, flushed, then moved.

Knows nothing of what is in them.
"""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a small file whole: under a temporary name, flushed, then moved over the old one."""
    making = path.with_name(f".{path.name}.{os.getpid()}")
    with making.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    making.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable, where the system can (Windows cannot open folders)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Make what was written to a file durable."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())
