"""Builds the starter model's tokenizer and its chat template, and marks which tokens are learned.

Knows nothing of the network or of training.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen2Tokenizer

VOCABULARY, CONTEXT = 4096, 2048
PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
LONGEST_TOKEN = 9  # bytes: three Chinese characters, so that no token swallows a whole question
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# ChatML. Earlier turns are never rewritten: a longer chat's tokens begin with the shorter chat's.
TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.role == 'assistant' %}"
    "{% generation %}{{- message.content + '<|im_end|>' }}{% endgeneration %}{{- '\\n' }}"
    "{%- else %}{{- message.content + '<|im_end|>\\n' }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """Return a byte-level BPE with Qwen2's way of splitting text, which other tools know."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=1,
        show_progress=False,
        special_tokens=[AddedToken(token, normalized=False, special=True) for token in (PAD, START, END)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=LONGEST_TOKEN,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> PreTrainedTokenizerBase:
    """Write the tokenizer to `folder` and return it as everyone else will load it."""
    wrapped = Qwen2Tokenizer(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        bos_token=None,
        unk_token=None,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = TEMPLATE
    wrapped.save_pretrained(folder, save_jinja_files=False)
    loaded = load_tokenizer(folder)
    sample = "你好，it's 12 o'clock!\n<|im_start|>user\n 💛再见<|im_end|>"
    if loaded(sample).input_ids != tokenizer.encode(sample).ids:
        raise ValueError(f"the tokenizer in {folder} reads text otherwise than the one that was trained")
    return loaded


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return a saved tokenizer, free of what its loading on this machine would write into its files."""
    loaded = AutoTokenizer.from_pretrained(folder)
    for of_this_machine in ("is_local", "local_files_only"):
        loaded.init_kwargs.pop(of_this_machine, None)
    return loaded


def rendered(messages: list[dict[str, str]]) -> list[tuple[str, bool]]:
    """Return the chat's text in pieces, each with whether the model learns to write it."""
    pieces = (
        [(f"{START}{m['role']}\n", False), (m["content"] + END, m["role"] == "assistant"), ("\n", False)]
        for m in messages
    )
    return list(chain.from_iterable(pieces))


class Encoder:
    """Turns chats into token ids and a mask of what is learned, as the chat template would."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.known: dict[str, list[int]] = {}

    def ids(self, text: str) -> list[int]:
        if text not in self.known:
            self.known[text] = self.tokenizer(text, add_special_tokens=False).input_ids
        return self.known[text]

    def chat(self, messages: list[dict[str, str]]) -> tuple[list[int], list[bool]]:
        pieces = [(self.ids(text), learned) for text, learned in rendered(messages)]
        return (
            [token for ids, _ in pieces for token in ids],
            [learned for ids, learned in pieces for _ in ids],
        )


def check_template(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> None:
    """Raise unless every longer chat begins with the tokens of the shorter one, and as the encoder has it."""
    earlier: list[int] = []
    for count in range(1, len(messages) + 1):
        asked = messages[count - 1]["role"] == "user"
        text = tokenizer.apply_chat_template(messages[:count], tokenize=False, add_generation_prompt=asked)
        ids = tokenizer(text, add_special_tokens=False).input_ids
        if ids[: len(earlier)] != earlier:
            raise ValueError(f"the tokens of {count} messages do not begin with those of {count - 1}: {text!r}")
        earlier = ids
    if Encoder(tokenizer).chat(messages)[0] != earlier:
        raise ValueError(f"the encoder reads a chat otherwise than the template: {text!r}")
