"""An anchor stands where the base would: it speaks, it is "base", and LoRAs that began elsewhere are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from learner import lora_folder
from learner.engine.base import LoraMismatch, ModelUnusable
from learner.engine.local import LocalEngine
from learner.engine.local_settings import LocalSettings
from tests.learner.engine_tiny import asking, engine, folder, generated, greedy, lora, oracle, prompt, run

# PEFT 0.21 asks transformers 5.23 for an attribute by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def with_lora(path: Path) -> PeftModel:
    """The tiny model with the LoRA in `path`, as PEFT runs it."""
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder(), dtype=torch.float32), path).eval()


def from_anchor(name: str, anchor: Path, seed: int) -> Path:
    """A LoRA whose card says that it was trained from `anchor`."""
    made = lora(name, seed, spread=0.3)
    card = json.loads((made / lora_folder.CARD_FILE).read_text("utf-8"))
    (made / lora_folder.CARD_FILE).write_text(json.dumps({**card, "anchor": lora_folder.anchor_id(anchor)}), "utf-8")
    return made


def test_the_anchor_speaks_as_the_base(tmp_path: Path) -> None:
    anchor, ids = lora("person", 5, spread=0.3), prompt(20)

    async def main() -> None:
        later = from_anchor("0001", anchor, 6)
        async with engine(anchor=str(anchor)) as running:
            active, base = (await running.generate(asking(ids, greedy(), greedy(lora="base")))).candidates
            assert active.token_ids == base.token_ids == generated(with_lora(anchor), ids)
            assert active.token_ids != generated(oracle(folder()), ids)
            assert active.lora is base.lora is running.status().active_lora is None
            assert await running.swap_lora(later) == "0001"
            active, base = (await running.generate(asking(ids, greedy(), greedy(lora="base")))).candidates
            assert (active.lora, base.lora) == ("0001", None)
            assert active.token_ids == generated(with_lora(later), ids)
            assert base.token_ids == generated(with_lora(anchor), ids)
            assert await running.swap_lora(None) is None
            [again] = (await running.generate(asking(ids, greedy()))).candidates
            assert again.token_ids == base.token_ids

    run(main)


def test_what_it_makes_of_replies_is_the_anchors() -> None:
    anchor, ids = lora("person", 5, spread=0.3), prompt(20)

    async def main() -> None:
        async with engine() as plain, engine(anchor=str(anchor)) as anchored:
            made = [await one.reply_states(ids, [(5, 6, 7)]) for one in (plain, anchored)]
            [without], [with_it] = (one or [] for one in made)
            assert max(abs(a - b) for a, b in zip(without, with_it, strict=True)) > 1e-3

    run(main)


def test_a_lora_that_began_elsewhere_is_refused() -> None:
    anchor = lora("person", 5)

    async def main() -> None:
        async with engine(anchor=str(anchor)) as running:
            with pytest.raises(LoraMismatch, match="trained from the anchor the base model itself"):
                await running.swap_lora(lora("0002"))
            with pytest.raises(LoraMismatch, match=f"and the anchor is now {lora_folder.anchor_id(anchor)[:12]}"):
                await running.hold_lora(from_anchor("0003", lora("other", 9), 3))
            assert running.status().active_lora is None
        async with engine() as running:
            with pytest.raises(LoraMismatch, match="anchor is now the base model itself"):
                await running.swap_lora(from_anchor("0004", anchor, 3))

    run(main)


def test_an_anchor_that_does_not_fit_names_the_setting(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(ModelUnusable, match=r"model\.lora: .*there is no LoRA"):
            await LocalEngine(LocalSettings(str(folder()), device="cpu", anchor=str(tmp_path / "gone"))).start()

    run(main)


def test_what_a_lora_is_hangs_on_its_weights_and_shape() -> None:
    one, same, other = lora("one", 5), lora("same", 5), lora("other", 6)
    assert lora_folder.anchor_id(one) == lora_folder.anchor_id(same) != lora_folder.anchor_id(other)
