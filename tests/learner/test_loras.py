"""LoRA versions on disk: what fits is published whole, what speaks is always one that may."""

from __future__ import annotations

import dataclasses
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from training_samples import FakeLora

from learner import lora_folder, loras
from learner.lora_folder import LoraError, LoraMissing, LoraRetired, LoraUnfit, Shape

FITS = Shape("base-fingerprint", 4, 8, ("q_proj",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "loras"


def published(folder: Path, version: str, mind: str = "default", parent: str | None = None) -> None:
    built = FakeLora(version, mind, parent=parent).write(folder.parent / f"built-{version}")
    loras.publish(built, folder, version, FITS)


def test_publish_moves_the_folder_and_lists_it(folder: Path) -> None:
    published(folder, "0001")
    published(folder, "0002", mind="other")
    published(folder, "0010", parent="0001")
    assert [one.version for one in loras.listing(folder, "default")] == ["0001", "0010"]
    assert loras.show(folder, "0010").parent == "0001"
    assert not (folder.parent / "built-0001").exists()
    assert loras.next_number(folder) == 11


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"base": "another"}, "base"),
        ({"rank": 8}, "rank"),
        ({"alpha": 16}, "alpha"),
        ({"target_modules": ("k_proj",)}, "target_modules"),
    ],
)
def test_publish_refuses_what_does_not_fit(folder: Path, change: dict[str, object], fault: str) -> None:
    built = FakeLora().write(folder.parent / "built")
    with pytest.raises(LoraUnfit, match=fault):
        loras.publish(built, folder, "0001", dataclasses.replace(FITS, **change))
    assert loras.listing(folder, "default") == []
    assert built.exists()


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_publish_refuses_numbers_that_are_not_finite(folder: Path, poison: float) -> None:
    built = FakeLora().write(folder.parent / "built", poison)
    with pytest.raises(LoraUnfit, match=r"not finite"):
        loras.publish(built, folder, "0001", FITS)


@pytest.mark.parametrize("name", [lora_folder.CONFIG_FILE, lora_folder.WEIGHTS_FILE, lora_folder.CARD_FILE])
def test_publish_refuses_missing_and_broken_files(folder: Path, name: str) -> None:
    built = FakeLora().write(folder.parent / "built")
    (built / name).write_bytes((built / name).read_bytes()[:20])
    with pytest.raises(LoraUnfit, match=name):
        loras.publish(built, folder, "0001", FITS)
    (built / name).unlink()
    with pytest.raises(LoraUnfit, match=f"{name} is missing"):
        loras.publish(built, folder, "0001", FITS)


def test_a_published_version_is_never_replaced(folder: Path) -> None:
    published(folder, "0001")
    built = FakeLora().write(folder.parent / "again")
    with pytest.raises(LoraUnfit, match=r"never replaced"):
        loras.publish(built, folder, "0001", FITS)


def test_missing_versions_are_named_with_what_to_do(folder: Path) -> None:
    with pytest.raises(LoraMissing, match=r"LoRA 0007 is not in .*'nightschool lora list' shows what is"):
        loras.show(folder, "0007")
    with pytest.raises(LoraMissing):
        loras.set_active(folder, "default", "../0007")


def test_base_is_active_until_something_is_set(folder: Path) -> None:
    assert loras.active(folder, "default") == "base"
    assert loras.active_folder(folder, "default") is None
    published(folder, "0001")
    loras.set_active(folder, "default", "0001")
    assert loras.active_folder(folder, "default") == folder / "0001"
    assert loras.active(folder, "other") == "base"


def test_a_version_of_another_mind_never_speaks(folder: Path) -> None:
    published(folder, "0001", mind="other")
    with pytest.raises(LoraUnfit, match=r"belongs to the mind other"):
        loras.set_active(folder, "default", "0001")
    with pytest.raises(LoraError, match=r"no name for a mind"):
        loras.active(folder, "../evil")


def test_rollback_goes_back_through_what_was_active(folder: Path) -> None:
    for number in ("0001", "0002", "0003"):
        published(folder, number)
        loras.set_active(folder, "default", number)
    assert [loras.rollback(folder, "default") for _ in range(3)] == ["0002", "0001", "base"]
    with pytest.raises(LoraError, match=r"nothing to roll back to"):
        loras.rollback(folder, "default")
    loras.set_active(folder, "default", "0003")
    assert loras.rollback(folder, "default") == "base"


def test_rollback_passes_over_retired_versions_and_falls_back_to_the_parent(folder: Path) -> None:
    published(folder, "0001")
    published(folder, "0002")
    published(folder, "0003", parent="0001")
    for number in ("0002", "0003"):
        loras.set_active(folder, "default", number)
    loras.retire(folder, "0002", "a person it learned from was forgotten")
    assert loras.rollback(folder, "default") == "0001"
    with pytest.raises(LoraRetired, match=r"forgotten"):
        loras.set_active(folder, "default", "0002")
    assert loras.show(folder, "0002").retired == "a person it learned from was forgotten"


def test_a_history_line_cut_short_is_passed_over(folder: Path) -> None:
    published(folder, "0001")
    published(folder, "0002")
    loras.set_active(folder, "default", "0001")
    with (folder / "history" / "default").open("a", encoding="utf-8") as file:
        file.write('{"version": "00')
    assert loras.active(folder, "default") == "0001"
    assert loras.rollback(folder, "default") == "base"


def test_broken_folders_are_left_out_of_the_list(folder: Path) -> None:
    published(folder, "0001")
    (folder / "0002").mkdir()
    (folder / ".0003.77").mkdir()
    assert [one.version for one in loras.listing(folder, "default")] == ["0001"]


PUBLISH_FOR_EVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from training_samples import FakeLora
from learner import lora_folder, loras
folder = Path(sys.argv[1])
for number in range(1, 10_000):
    version = f"{number:04d}"
    built = FakeLora(version).write(folder.parent / f"built-{version}")
    loras.publish(built, folder, version, lora_folder.Shape("base-fingerprint", 4, 8, ("q_proj",)))
    loras.set_active(folder, "default", version)
    print(version, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_killed_at_any_moment_nothing_is_half_published(folder: Path) -> None:
    source = random.Random(0)
    for attempt in range(3):
        place = folder / str(attempt)
        command = [sys.executable, "-c", PUBLISH_FOR_EVER, str(place), str(Path(__file__).parent)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout
            child.stdout.readline()
            time.sleep(source.random() * 0.1)
            child.send_signal(signal.SIGKILL)
        for found in place.glob("[0-9]*"):
            lora_folder.check(found, FITS)
        assert (place / loras.active(place, "default")).is_dir()


def of_chats(folder: Path, version: str, name: str, parent: str | None = None) -> None:
    built = FakeLora(version, parent=parent, extra={"name": name}).write(folder.parent / f"built-{version}")
    loras.publish(built, folder, version, FITS)


def test_chats_of_their_own_have_a_pointer_of_their_own(folder: Path) -> None:
    published(folder, "0001")
    of_chats(folder, "0002", "mum", parent="0001")
    of_chats(folder, "0003", "dad")
    assert loras.active(folder, "default@mum") == "common"
    assert loras.active_folder(folder, "default@mum") is None
    for scope, version in (("default", "0001"), ("default@mum", "0002"), ("default@dad", "0003")):
        loras.set_active(folder, scope, version)
    assert [one.scope for one in loras.listing(folder, "default")] == ["default", "default@mum", "default@dad"]
    assert loras.active_folder(folder, "default@mum") == folder / "0002"
    for scope, version in (("default", "0002"), ("default@mum", "0001"), ("default@dad", "0002"), ("x@mum", "0002")):
        with pytest.raises(LoraUnfit, match="belongs to"):
            loras.set_active(folder, scope, version)
    with pytest.raises(LoraMissing):
        loras.set_active(folder, "default@mum", "base")
    assert loras.rollback(folder, "default@mum") == "common"  # not its parent, which is all chats'
    assert [loras.active(folder, scope) for scope in ("default", "default@dad")] == ["0001", "0003"]
    with pytest.raises(LoraError, match="the common LoRA already speaks for default@mum"):
        loras.rollback(folder, "default@mum")
    for wrong in ("default@", "default@a/b", "@mum", "default@mum@dad"):
        with pytest.raises(LoraError, match="no name for a mind or its chats"):
            loras.active(folder, wrong)
