"""Names of folders and models in config.toml, as absolute paths."""

from __future__ import annotations

from pathlib import Path

from bots.settings.base import ROOT


def resolve_model(name: str, home: Path) -> str:
    """The folder of a local model; ids of hubs stay as they are."""
    if not name:
        return ""
    if name == "starter":
        return str(ROOT / "data" / "starter")
    return folder(name, home)


def folder(name: str, home: Path) -> str:
    """A folder as an absolute path; what is none stays as it is."""
    if name and (name.startswith(("./", "../", "/", "~")) or (home / name).is_dir()):
        return str((home / Path(name).expanduser()).resolve())
    return name


def existing(name: str, home: Path) -> str:
    """A path that counts from `home`; "" stays as it is."""
    return str((home / Path(name).expanduser()).resolve()) if name else ""
