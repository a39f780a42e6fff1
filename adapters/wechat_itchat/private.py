"""Reads and writes files that hold keys: ours alone, and whole at any time. Knows nothing of what is in them."""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Unsafe(Exception):
    """Somebody else could have written the file."""


def read(path: Path) -> bytes | None:
    """What `path` holds, None where there is none. Raises Unsafe where others could have put it there."""
    check_folder(path.parent)
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unsafe(f"{path} can't be opened as a file of its own ({error.strerror}); remove it") from error
    with os.fdopen(opened, "rb") as file:
        _check(path, os.fstat(file.fileno()))
        os.fchmod(file.fileno(), 0o600)
        return file.read()


def read_json(path: Path) -> dict[str, Any]:
    """As `read`, of what was written as JSON. A broken file is put aside, and nothing was kept."""
    content = read(path)
    try:
        kept = json.loads(content) if content else {}
        if isinstance(kept, dict):
            return kept
    except ValueError:
        pass
    logger.error("%s is broken; it is put aside as %s.broken, and begun anew", path, path.name)
    path.replace(path.with_name(path.name + ".broken"))
    return {}


def write_json(path: Path, kept: dict[str, Any], flush: bool = True) -> None:
    """As `write`, as JSON."""
    write(path, json.dumps(kept).encode(), flush)


def write(path: Path, content: bytes, flush: bool = True) -> None:
    """Put `content` into `path` with one rename, for our eyes only. Raises Unsafe and OSError.

    With `flush` it survives the machine's end as well as the program's.
    """
    check_folder(path.parent)
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        if flush:
            file.flush()
            os.fsync(file.fileno())
    fresh.replace(path)


def check_folder(folder: Path) -> None:
    """Raises Unsafe where others could put files into `folder`."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check(folder, folder.stat())


def _check(path: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise Unsafe(f"{path} belongs to another user of this machine; remove it, or run the bot as its owner")
    if found.st_mode & OTHERS_WRITE:
        raise Unsafe(f"{path} can be written by other users of this machine; run: chmod go-w '{path}'")
