"""Sentences as vectors, by a model of sentence-transformers.

Knows nothing of where vectors are kept. The library and the model are loaded when the first sentence comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

Vector = tuple[float, ...]


class EmbeddingUnusable(Exception):
    """The library or the model is missing, or the model gives no vectors that can be compared."""


class Embedder(Protocol):
    """Turns sentences into vectors whose cosine says how near they are. Called from one thread."""

    name: str  # vectors of different names are never compared

    def sentences(self, texts: Sequence[str]) -> list[Vector]:
        """A vector of each text, all of one length. Raises EmbeddingUnusable."""
        ...

    def question(self, text: str) -> Vector:
        """The vector of what is looked for; some models want it made otherwise. Raises EmbeddingUnusable."""
        ...


class SentenceTransformerEmbedder:
    """A model by its Hugging Face id or its folder, on the CPU: the GPU is the talking model's."""

    def __init__(self, model: str) -> None:
        self.name = model
        self._model: Any = None

    def sentences(self, texts: Sequence[str]) -> list[Vector]:
        """A vector of each text, of length 1."""
        return self._vectors(self._loaded().encode_document(list(texts), **_PLAIN))

    def question(self, text: str) -> Vector:
        """The vector of a question, with the model's own query prompt where it has one."""
        return self._vectors(self._loaded().encode_query([text], **_PLAIN))[0]

    def _loaded(self) -> Any:
        if self._model is not None:
            return self._model
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise EmbeddingUnusable(
                'embedding under [recall] needs the extra "recall": pip install "nightschool[recall]"'
            ) from error
        try:
            self._model = SentenceTransformer(self.name, device="cpu")
        except (OSError, ValueError) as error:
            raise EmbeddingUnusable(
                f"the embedding model {self.name} can't be loaded ({error}); name a folder or an id that can be"
                " downloaded as embedding under [recall]"
            ) from error
        return self._model

    def _vectors(self, made: Any) -> list[Vector]:
        return [tuple(float(one) for one in row) for row in made]


_PLAIN = {"normalize_embeddings": True, "show_progress_bar": False, "batch_size": 32}
