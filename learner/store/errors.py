"""What the store raises.

StoreError
├── StoreUnusable           the database cannot be opened, read or written
├── StoreFromNewerVersion   a newer nightschool wrote it; nothing was touched
├── UnknownExchange         no such exchange
└── ExchangeNotReady        the exchange is not in the state that this needs
"""

from __future__ import annotations


class StoreError(Exception):
    """Base of what the store raises."""


class StoreUnusable(StoreError):
    """The database cannot be opened, read or written."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"the database {url} cannot be used: {reason}. Check that its folder exists, is writable "
            "and has free space, and that no other program holds the file."
        )


class StoreFromNewerVersion(StoreError):
    """The database was written by a newer version."""

    def __init__(self, url: str, found: str, newest: str) -> None:
        super().__init__(
            f"the database {url} has schema {found}, written by a newer nightschool; this version "
            f"knows schemas up to {newest}. Nothing was changed. Install the newer version again, or "
            "set data_dir in config.toml to another folder."
        )


class UnknownExchange(StoreError):
    """No such exchange."""

    def __init__(self, exchange: str) -> None:
        super().__init__(f"there is no exchange {exchange!r} in the store")


class ExchangeNotReady(StoreError):
    """The exchange is not in the state that this needs."""

    def __init__(self, exchange: str, state: str, needed: str) -> None:
        super().__init__(f"exchange {exchange!r} is {state}, this needs it to be {needed}")
