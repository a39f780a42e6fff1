"""Installed as a package of its own, the adapter is found by its name."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import adapters
from adapters.registry import GROUP

pytest.importorskip("websockets")

HERE = Path(__file__).resolve().parents[1]
PROGRAM = """
from adapters import registry
from adapters.base import PlatformAdapter
print("onebot" in registry.known())
print(registry.load("onebot").__module__, registry.settings_class("onebot").__name__)
print(registry.settings_class("onebot")(url="ws://127.0.0.1:3001").url)
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder that holds the installed package and nothing else; the source stays as it is."""
    if not _setuptools_can_build():
        pytest.skip("needs setuptools 77 or later to build a package")
    source, target = tmp_path / "source", tmp_path / "installed"
    shutil.copytree(HERE, source, ignore=shutil.ignore_patterns("tests", "*.egg-info", "build", "__pycache__"))
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    return target


def test_the_entry_point_is_found(installed: Path, tmp_path: Path) -> None:
    (distribution,) = importlib.metadata.distributions(path=[str(installed)])
    assert [(point.group, point.name) for point in distribution.entry_points] == [(GROUP, "onebot")]
    ours = Path(adapters.__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), str(ours)])}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == [
        "True",
        "nightschool_onebot.adapter OneBotSettings",
        "ws://127.0.0.1:3001",
    ]


def _setuptools_can_build() -> bool:
    """Looked up, not imported: setuptools replaces distutils as soon as it is imported."""
    try:
        return int(importlib.metadata.version("setuptools").split(".")[0]) >= 77
    except importlib.metadata.PackageNotFoundError:
        return False
