"""sentence-transformers through our own door: vectors of length 1, loaded from a folder, and honest refusals."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from learner.retrieval.embedding import EmbeddingUnusable, SentenceTransformerEmbedder


def tiny_model(folder: Path) -> Path:
    """A BERT of random weights with a vocabulary of characters, as a sentence-transformers folder."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    characters = "abcdefghijklmnopqrstuvwxyz我的猫叫橘子狗?"
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{one}" for one in characters)]
    (folder / "bert").mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary), "utf-8")
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(vocabulary), **shape)).save_pretrained(folder / "bert")
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    words = Transformer(str(folder / "bert"))
    pooled = Pooling(shape["hidden_size"])
    sentence_transformers.SentenceTransformer(modules=[words, pooled], device="cpu").save(str(folder / "model"))
    return folder / "model"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_model_from_a_folder_gives_comparable_vectors(tmp_path: Path) -> None:
    embedder = SentenceTransformerEmbedder(str(tiny_model(tmp_path)))
    first, again, other = embedder.sentences(["我的猫叫橘子", "我的猫叫橘子", "a dog"])
    assert len(first) == 32
    assert math.hypot(*first) == pytest.approx(1, abs=1e-4)
    assert first == pytest.approx(again, abs=1e-5)
    near = [sum(a * b for a, b in zip(one, embedder.question("我的猫叫橘子"), strict=True)) for one in (first, other)]
    assert near[0] > near[1]


def test_a_model_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    with pytest.raises(EmbeddingUnusable, match=r"can't be loaded.*embedding under \[recall\]"):
        SentenceTransformerEmbedder(str(tmp_path / "nothing")).question("cat")


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(EmbeddingUnusable, match=r'pip install "nightschool\[recall\]"'):
        SentenceTransformerEmbedder("any/model").sentences(["cat"])
