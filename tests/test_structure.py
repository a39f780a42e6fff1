"""The arrows between packages, and the names that the settings file must show."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from bots.settings import load

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "adapters": {"adapters"},
    "learner": {"learner"},
    "bots": {"adapters", "bots", "learner"},
}


def imported(path: Path) -> set[str]:
    """The top-level names that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_arrows_point_one_way(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        ours = imported(path) & {*MAY_IMPORT, "tests", "bench"}
        assert ours <= MAY_IMPORT[package], f"{path.relative_to(ROOT)} imports {ours - MAY_IMPORT[package]}"


def test_no_manner_is_named_in_the_code() -> None:
    for package in ("learner", "bots"):
        for path in (ROOT / package).rglob("*.py"):
            words = set(re.findall(r"[a-z_]+", path.read_text("utf-8")))
            assert not words & {"buddy", "formal", "manner", "manners"}, path


def test_the_shipped_settings_are_the_defaults(tmp_path: Path) -> None:
    empty = tmp_path / "config.toml"
    empty.write_text("", "utf-8")
    shipped, defaults = load(ROOT / "config.toml"), load(empty)
    assert shipped.model_dump(exclude={"data_dir"}) == defaults.model_dump(exclude={"data_dir"})


def test_the_settings_that_people_change_stand_on_lines_of_their_own() -> None:
    lines = (ROOT / "config.toml").read_text("utf-8").splitlines()
    for name in ("data_dir", "ask_rate", "host", "port"):
        assert sum(bool(re.match(rf"{name} = ", line)) for line in lines) == 1, name
