"""Between messages and tokens: the chat template, and the decoding of replies.

Knows nothing of generating.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from learner.engine.base import ChatMessage, EngineError, ModelUnusable
from learner.engine.detokenise import Decode
from learner.engine.templates import TEMPLATES
from learner.engine.thinking import CLOSE, OPEN
from learner.engine.token_bytes import TokenBytes

logger = logging.getLogger(__name__)

NOTHING_SAID = {"role": "user", "content": "…"}  # stands before an assistant who speaks first


class ChatText:
    """A model's tokenizer and chat template.

    `named` is the template of TEMPLATES that stands in for the model's own; empty where that is used.
    """

    def __init__(self, tokenizer: Any, thinking: bool = False, template: str = "auto") -> None:
        """`thinking`: let the template ask for thoughts, if it knows how.

        `template` names one of TEMPLATES; "auto" is the tokenizer's own, and where it has none, one that fits it.
        """
        self._tokenizer, self._thinking = tokenizer, thinking
        self.named = ""
        self.end = self._choose(template)
        names = sorted(map(str, tokenizer.all_special_tokens), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, names))) if names else None
        self.decode: Decode = self._decoder()
        self._bytes = TokenBytes(tokenizer)
        # The first call settles the tokenizer's padding and truncation, so that later ones may run in
        # the event loop's thread while the engine's thread decodes.
        tokenizer("a", add_special_tokens=False)

    @classmethod
    def load(cls, folder: Path, thinking: bool = False, template: str = "auto") -> ChatText:
        """The tokenizer in a model's folder. Raises ModelUnusable."""
        from transformers import AutoTokenizer

        try:
            return cls(AutoTokenizer.from_pretrained(folder, local_files_only=True), thinking, template)
        except Exception as exc:
            raise ModelUnusable(f"the tokenizer in {folder} cannot be loaded ({type(exc).__name__}: {exc})") from exc

    @property
    def end_ids(self) -> frozenset[int]:
        """The tokens that end a reply: the template's, and the tokenizer's own."""
        return frozenset(i for i in (self.end, self._tokenizer.eos_token_id) if i is not None)

    def render(self, messages: Sequence[ChatMessage]) -> tuple[int, ...]:
        """Token ids of `messages` under the template, ready for the assistant's reply."""
        turns = [{"role": m.role, "content": self.harmless(m.content)} for m in messages]
        return tuple(self._tokenizer(self._accepted(turns), add_special_tokens=False)["input_ids"])

    def _accepted(self, turns: list[dict[str, str]]) -> str:
        """`turns` as text, in the form closest to theirs that the template takes.

        Some know no system role, want user and assistant to alternate, or the user to speak first.
        """
        try:
            return self._apply(turns)
        except Exception as first:
            for other in (_folded(turns), _folded([NOTHING_SAID, *turns])):
                with contextlib.suppress(Exception):
                    return self._apply(other)
            raise EngineError(f"the model's chat template refuses these messages: {first}") from first

    def reply(self, text: str, ended: bool = True) -> tuple[int, ...]:
        """Token ids of a reply as the model would have written it, with the end token if it `ended` itself."""
        ids = self._tokenizer(self.harmless(text), add_special_tokens=False)["input_ids"]
        return (*ids, *([self.end] if ended and self.end is not None else []))

    def token_bytes(self, token_ids: Sequence[int]) -> tuple[bytes, ...]:
        """What each token writes, which may be part of a character; nothing for special ones."""
        return tuple(map(self._bytes, token_ids))

    def _apply(self, turns: list[dict[str, str]]) -> str:
        # Qwen3's and GLM-4.5's ask for enable_thinking, DeepSeek-V3.1's and Granite's for thinking, others for neither.
        named = {"enable_thinking": self._thinking, "thinking": self._thinking}
        return self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False, **named)

    def harmless(self, content: str) -> str:
        """Text in which no special token can be forged, and that is valid Unicode."""
        valid = content.encode("utf-8", errors="replace").decode("utf-8")
        return self._special.sub(lambda m: f"{m[0][0]} {m[0][1:]}", valid) if self._special else valid

    def _choose(self, name: str) -> int | None:
        """Set the template that `name` says; returns the token that ends a reply in it, if there is one."""
        tokenizer = self._tokenizer
        if name == "auto" and tokenizer.chat_template:
            return end_token(tokenizer)
        if name == "auto":
            name = "chatml" if "<|im_start|>" in tokenizer.get_vocab() else "plain"
            logger.warning("the model has no chat template; using %s (model.template names others)", name)
        self.named, chosen = name, TEMPLATES[name]
        tokenizer.chat_template = chosen.jinja
        if chosen.end in tokenizer.get_vocab():
            return int(tokenizer.convert_tokens_to_ids(chosen.end))
        if chosen.end:
            logger.warning("the model's vocabulary has no %s, which ends replies in the template %s", chosen.end, name)
        own: int | None = tokenizer.eos_token_id
        return own

    def _decoder(self) -> Decode:
        """A decoder that leaves special tokens out, but for the tags of thoughts, which must be seen to be dropped."""
        special = dict(zip(self._tokenizer.all_special_tokens, self._tokenizer.all_special_ids, strict=True))
        if {OPEN, CLOSE} & special.keys():
            unseen = {token for name, token in special.items() if name not in (OPEN, CLOSE)}
            return lambda ids: self._tokenizer.decode(
                [i for i in ids if i not in unseen], skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is not None:
            return lambda ids: backend.decode(list(ids), skip_special_tokens=True)
        return lambda ids: self._tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )


def end_token(tokenizer: Any) -> int | None:
    """The token that ends a reply: ChatML's where the vocabulary has it, else the tokenizer's own, if it has one."""
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    if isinstance(end, int) and end >= 0 and end != tokenizer.unk_token_id:
        return end
    own: int | None = tokenizer.eos_token_id
    return own


def _folded(turns: list[dict[str, str]]) -> list[dict[str, str]]:
    """The same, with the system's text before the first user's and neighbours of one role joined."""
    folded: list[dict[str, str]] = []
    for turn in turns:
        role = "user" if turn["role"] == "system" else turn["role"]
        if folded and folded[-1]["role"] == role:
            folded[-1] = {"role": role, "content": f"{folded[-1]['content']}\n\n{turn['content']}"}
        else:
            folded.append({"role": role, "content": turn["content"]})
    return folded
