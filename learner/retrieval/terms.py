"""Cuts text into the terms that it is found by: words, and pairs of characters where a script has no spaces.

Pure; knows nothing of what is searched. What the index holds was cut by `index_terms`: a change here needs a
migration that cuts everything anew.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator

# Han with its iteration mark, kana, Hangul, Thai, Lao, Myanmar, Khmer: words are not set apart, or carry endings.
_DENSE = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30fa\u30fc-\u30ff\u3130-\u318f"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
_INDIC = "\u0900-\u0963\u0966-\u0dff"  # its vowel signs are marks, which \w leaves out
_RUN = re.compile(rf"(?P<dense>[{_DENSE}]+)|(?:[{_INDIC}]|[^\W_{_DENSE}])+")
_OPTIONAL_MARKS = re.compile("[\u0300-\u036f\u0591-\u05bd\u064b-\u065f]")  # accents, points: many leave them out
LONGEST_WORD = 64  # characters; what is longer is found by its beginning

# Words of questions and of small talk, which say nothing of what is looked for.
_EMPTY = """
a an and are am as at be been but by can could did do does for from had has have he her him his how i if in is it its
just let me my no not of ok okay on or our please remember say she so some tell than that the their them then there
these they this those to told too us was we were what when where which who whom whose why will with would yes you your
yours about any again ever know mine said something thing think want like get got go going really don didn doesn isn
wasn ll re ve s t d m also back because best better good hello here hey hi kind made make many more most much need
now only out sure take thank thanks too up very way well
"""
_EMPTY_WORDS = frozenset(_EMPTY.split())
# Characters that make up the grammar of a Chinese question; a pair of two of them says nothing.
_EMPTY_HAN = frozenset(
    "的了吗呢吧啊呀哦嗯是我你您他她它们这那哪什么怎样谁几多少有没不在和跟与也都就还又再会能可以要想说过给把被让叫请"
    "问知道记得来去到着个地呵哈好为因所以然后但只才很太真最啥咋呗嘛啦"
)


def index_terms(text: str) -> str:
    """The terms of `text` for the index, separated by blanks.

    Of a run of characters without spaces: every pair, and its last character, so that each character begins
    exactly one term and a prefix finds it.
    """
    return " ".join(_terms(text, last=True))


def query_terms(text: str) -> tuple[str, ...]:
    """The terms that `text` asks for, in order, once each; without those that say nothing, if any others are left."""
    terms = tuple(dict.fromkeys(_terms(text, last=False)))
    telling = tuple(term for term in terms if not is_empty(term))
    return telling or terms


def is_dense(term: str) -> bool:
    """Whether the term is cut from a script without spaces."""
    run = _RUN.match(term)
    return run is not None and run["dense"] is not None


def is_empty(term: str) -> bool:
    """Whether the term belongs to the grammar of a question, and not to what it is about."""
    return term in _EMPTY_WORDS or all(character in _EMPTY_HAN for character in term)


def scope_terms(bot: str, platform: str, chat: str) -> str:
    """Two terms for where something was said: one for the chat, one for the bot."""
    return f"{chat_scope(bot, platform, chat)} {bot_scope(bot)}"


def chat_scope(bot: str, platform: str, chat: str) -> str:
    """The term that all of one chat has, and no other place."""
    return "c" + _digest(bot, platform, chat)


def bot_scope(bot: str) -> str:
    """The term that all of one bot has."""
    return "b" + _digest(bot)


def _terms(text: str, last: bool) -> Iterator[str]:
    for run in _RUN.finditer(_folded(text)):
        piece = run[0]
        if run["dense"] is None:
            yield _singular(piece[:LONGEST_WORD])
            continue
        for at in range(len(piece) - 1):
            yield piece[at : at + 2]
        if last or len(piece) == 1:
            yield piece[-1]


def _folded(text: str) -> str:
    """One form for what people type in several: widths, cases, accents."""
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKC", text).casefold()
    apart = unicodedata.normalize("NFD", folded)
    return unicodedata.normalize("NFKC", _OPTIONAL_MARKS.sub("", apart))


def _singular(word: str) -> str:
    """An English word without its plural or third person (Harman's S stemmer); others as they are."""
    if len(word) < 4 or not word.isascii() or not word.endswith("s"):
        return word
    if word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if word.endswith("es") and not word.endswith(("aes", "ees", "oes")):
        return word[:-1]
    return word if word.endswith(("us", "ss", "is")) else word[:-1]


def _digest(*parts: str) -> str:
    whole = "\0".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
