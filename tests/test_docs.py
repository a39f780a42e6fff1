"""What the guides show is run: their snippets, their adapter against the contract, their settings."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from adapters import registry
from adapters.base import AsksForCode, Busy, Settling

ROOT = Path(__file__).resolve().parents[1]
GUIDES = [ROOT / "docs" / "write-an-adapter.md", ROOT / "docs" / "write-an-adapter.zh.md"]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)\)")
FILE_NAME = re.compile(r"# (\S+\.(?:py|toml))\n")


def blocks(guide: Path) -> list[tuple[str, str]]:
    """Language and code of everything that stands between fences."""
    return [(found[1], found[2]) for found in BLOCK.finditer(guide.read_text("utf-8"))]


def files(guide: Path) -> dict[str, str]:
    """The blocks that begin with a file's name."""
    return {name[1]: code for _, code in blocks(guide) if (name := FILE_NAME.match(code))}


def snippets(guide: Path) -> list[str]:
    """The Python blocks that are no files."""
    return [code for language, code in blocks(guide) if language == "python" and not FILE_NAME.match(code)]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The guide's package, written out, with what an installation leaves so that its entry point is found."""
    for name, code in files(GUIDES[0]).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, "utf-8")
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text("utf-8"))["project"]
    info = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = [
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in named.items())
        for group, named in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(points), "utf-8")
    return tmp_path


@pytest.mark.parametrize("guide", GUIDES[1:], ids=lambda guide: guide.name)
def test_all_languages_show_the_same_code(guide: Path) -> None:
    assert blocks(guide) == blocks(GUIDES[0])


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_what_the_guides_link_to_is_there(guide: Path) -> None:
    links = LINK.findall(guide.read_text("utf-8"))
    assert links
    assert [link for link in links if not (guide.parent / link).exists()] == []


def test_the_snippets_run() -> None:
    assert len(snippets(GUIDES[0])) >= 4
    shared: dict[str, Any] = {}
    for code in snippets(GUIDES[0]):
        exec(compile(code, GUIDES[0].name, "exec"), shared)


def test_the_guides_adapter_passes_the_contract(package: Path) -> None:
    """As its author would run it: in the package's folder, with the package's own settings for pytest."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=package,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed
    assert int(passed[1]) >= 10
    assert "failed" not in ran.stdout


def test_the_guides_adapter_is_found_by_its_name(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bots.settings import parse

    monkeypatch.syspath_prepend(str(package))
    importlib.invalidate_caches()
    (config,) = [code for language, code in blocks(GUIDES[0]) if language == "toml" and not FILE_NAME.match(code)]
    try:
        assert "pigeon" in registry.known()
        settings = parse(tomllib.loads(config), package / "config.toml")
        own = settings.platform(settings.bots[0], "pigeon")
        assert (type(own).__name__, own.model_dump()) == ("PigeonSettings", {"host": "127.0.0.1", "port": 7000})
        adapter = registry.load("pigeon")
        assert not any(hasattr(adapter, name) for name in ("settle", "busy", "enter_code"))
    finally:
        for name in [one for one in sys.modules if one.startswith("nightschool_pigeon")]:
            del sys.modules[name]


def test_the_guides_name_every_kind_that_can_come_in_and_every_ability() -> None:
    from adapters import base, testing

    kinds = [kind.__name__ for kind in base.Inbound.__args__]
    (abilities,) = re.findall(r"`can` may hold: ([a-z_, ]+)\.", testing.FarEnd.__doc__ or "")
    optional = [
        name for protocol in (Settling, Busy, AsksForCode) for name in vars(protocol) if not name.startswith("_")
    ]
    for guide in GUIDES:
        text = guide.read_text("utf-8")
        assert [name for name in (*kinds, *optional) if not re.search(rf"\b{name}\b", text)] == []
        assert [name for name in abilities.split(", ") if f"`{name}`" not in text] == []
