"""Keeps a login across restarts, so that no code has to be scanned. Knows nothing of how one logs in.

The file is a pickle, as itchat makes it, and a credential: it is read only where nobody else could have written
it, and nothing but itchat's own kinds of contacts is made from it.
"""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

from adapters.wechat_itchat import private
from adapters.wechat_itchat.private import Unsafe

__all__ = ["LoginCache", "Unsafe"]

CONTACTS = "itchat.storage.templates"


class LoginCache:
    """The login in one file, and beside it up to where messages were received."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "login.pickle"
        self._cursor = folder / "cursor.json"

    def load(self) -> dict[str, Any] | None:
        """The login that was kept; None without one. Raises Unsafe, and ValueError where it is broken."""
        content, cursor = private.read(self.path), private.read(self._cursor)
        if content is None:
            return None
        try:
            kept: dict[str, Any] = _ContactsOnly(io.BytesIO(content)).load()
            if cursor is not None:
                kept["loginInfo"].update(json.loads(cursor))
        except Exception as error:
            raise ValueError(f"it can't be read ({type(error).__name__})") from error
        return kept

    def keep(self, kept: dict[str, Any]) -> None:
        """Keep a new login. Raises Unsafe and OSError."""
        self._cursor.unlink(missing_ok=True)
        private.write(self.path, pickle.dumps(kept))

    def received(self, cursor: dict[str, Any]) -> None:
        """All before `cursor` was received: after a restart it won't be fetched again."""
        private.write_json(self._cursor, cursor)

    def forget(self) -> None:
        """The login is over."""
        for path in (self.path, self._cursor):
            path.unlink(missing_ok=True)


class _ContactsOnly(pickle.Unpickler):
    """A pickle can name any function to be called; this one makes contacts only."""

    def find_class(self, module: str, name: str) -> Any:
        if module != CONTACTS:
            raise pickle.UnpicklingError(f"{module}.{name} is no contact")
        return super().find_class(module, name)
