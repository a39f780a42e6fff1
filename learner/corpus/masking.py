"""Puts a mark in the place of personal data: phone numbers, identity cards, mail, addresses, bank cards. Pure.

Knows nothing of names, and nothing of what follows from context: only what has the form of such data,
and the check digit where there is one, is masked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

Span = tuple[int, int]
MARKS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "mail": ("[邮箱]", "[e-mail]"),
        "id_card": ("[身份证号]", "[id number]"),
        "bank_card": ("[银行卡号]", "[card number]"),
        "phone": ("[电话]", "[phone]"),
        "address": ("[地址]", "[address]"),
    }
)
SUSPECT = re.compile(  # a text without any of this holds nothing to mask; most texts do not
    "[@＠]|(?:[0-9０-９][ ()（）－-]{0,2}){7}|[路街道巷同弄区园寓村苑][^\n]{0,20}?[0-9０-９]"
    "|[0-9][A-Za-z]?(?:st|nd|rd|th)? [A-Z0-9]"
)
WIDE_ONE = re.compile("[０１２３４５６７８９＠－（）＋]")
WIDE = str.maketrans("０１２３４５６７８９＠－（）＋", "0123456789@-()+")  # letter by letter, so that places stay
HAN = re.compile("[\u4e00-\u9fff]")

MAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24}(?![A-Za-z0-9])"
)
ID_CARD = re.compile(
    r"(?<![0-9A-Za-z])[1-8][0-9]{5}(?:18|19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])[0-9]{3}[0-9Xx](?![0-9A-Za-z])"
)
BANK_CARD = re.compile(
    r"(?<![0-9A-Za-z.])(?:[0-9]{13,19}|[0-9]{4}(?:[ -][0-9]{4}){2,3}(?:[ -][0-9]{1,4})?)(?![0-9A-Za-z])"
)
ISSUED = re.compile(  # the length and the first digits that the card networks use (ISO/IEC 7812)
    r"62[0-9]{14,17}|4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})|5[1-5][0-9]{14}|2[2-7][0-9]{14}|3[47][0-9]{13}|35[0-9]{14}"
    r"|6(?:011|5[0-9]{2})[0-9]{12}|9558[0-9]{15}|60[0-9]{14}|622[0-9]{13}"
)
PHONE = re.compile(
    r"(?<![0-9A-Za-z.])(?<![0-9]-)(?:"
    r"(?:\+?86[ -]?)?1[3-9][0-9](?:[0-9]{8}|[ -][0-9]{4}[ -][0-9]{4})"  # a mobile phone in China
    r"|\(?0(?:10|2[0-9]|[3-9][0-9]{2})\)?[ -][2-9][0-9]{6,7}"  # a land line there
    r"|\+(?!86)[1-9][0-9]{0,2}[ -]?(?:\([0-9]{1,4}\)[ -]?)?[0-9](?:[ -]?[0-9]){6,11}"  # with its country
    r"|(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}-)[2-9][0-9]{2}-[0-9]{4}"  # in North America
    r")(?![0-9A-Za-z])(?!\.[0-9])"
)
NO_NAME = "在到是去来往住寄送从于和的了我你他她它这那给过又都就也还很吧吗呢啊"  # where the name of a place can't go on
_NAME = f"(?:(?![{NO_NAME}])[\u4e00-\u9fff])"
_NUMBER = "[0-9]{1,5}(?:[-之][0-9]{1,4})?"
_ROOM = (
    f"(?:[,， ]?(?:{_NAME}{{2,10}}?)?(?:[A-Za-z]?{_NUMBER}|[A-Za-z])(?:号楼|号院|单元|[栋幢座楼层室户弄号])"
    "(?:[0-9]{2,4}[室层楼号]?(?![0-9点年月日:：]))?)"
)
PLACE_ZH = re.compile(  # what follows the name of a street or of a block
    f"(?<![马公铁道网思出套走一半迷铺])(?:路|街|大道|巷|胡同|弄)[东西南北中]?(?:[一二三四五六七八九十]段)?[甲乙丙丁]?"
    f"{_NUMBER}(?:号[楼院]?|弄)(?!线|车|公交|地铁|台风|电池){_ROOM}{{0,5}}"
    f"|(?:小区|花园|家园|公寓|新村|苑){_ROOM}{{1,5}}"
)
UNIT = re.compile("[省市区县州镇乡盟旗]")
LONGEST_NAME, LONGEST_PLACE = 8, 30
ADDRESS_EN = re.compile(
    r"(?<![0-9A-Za-z.$€£])[0-9]{1,5}[A-Za-z]? (?:(?:N|S|E|W|North|South|East|West)\.? )?"
    r"(?:[A-Z][A-Za-z'-]+ |[0-9]{1,3}(?:st|nd|rd|th) ){1,3}"
    r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Square|Sq|Terrace|Parkway|Pkwy|Highway|Hwy)\b\.?"
    r"(?:,? (?:Apt|Apartment|Unit|Suite|Ste|Floor|Fl|#)\.? ?[0-9A-Za-z-]{1,6})?"
    r"(?:, [A-Z][A-Za-z .'-]{1,30}?(?:, [A-Z]{2})? [0-9]{5}(?:-[0-9]{4})?)?"
)


def mask(text: str, count: Callable[[str], None] = lambda kind: None) -> str:
    """`text` with marks in Chinese where it holds Chinese, else in English; `count` hears the kind of each."""
    if SUSPECT.search(text) is None:
        return text
    side, wide = 0 if HAN.search(text) else 1, WIDE_ONE.search(text) is not None
    for kind, find in _RULES:
        for start, end in reversed(list(find(text.translate(WIDE) if wide else text))):
            text = f"{text[:start]}{MARKS[kind][side]}{text[end:]}"
            count(kind)
    return text


def _places_zh(text: str) -> Iterator[Span]:
    """Addresses in Chinese: from a street and its number back to where the name of the place begins."""
    done = 0
    for found in PLACE_ZH.finditer(text):
        start = found.start()
        while start > max(done, found.start() - LONGEST_PLACE) and _names(text[start - 1]):
            start -= 1
        if UNIT.search(text, start, found.start()) is None:
            start = max(start, found.start() - LONGEST_NAME)
        if found.start() - start >= 2:
            yield start, found.end()
        done = found.end()


def _names(letter: str) -> bool:
    return "\u4e00" <= letter <= "\u9fff" and letter not in NO_NAME


def is_id_card(number: str) -> bool:
    """Whether the 18 characters of a Chinese identity number end with their check digit (GB 11643)."""
    weighed = sum(int(digit) * 2 ** (17 - place) for place, digit in enumerate(number[:17]))
    return "10X98765432"[weighed % 11] == number[17].upper()


def is_bank_card(written: str) -> bool:
    """Whether digits, perhaps in groups, are a card's by their beginning, length and check digit (Luhn)."""
    digits = re.sub("[ -]", "", written)
    if ISSUED.fullmatch(digits) is None:
        return False
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(one - 9 if one > 9 else one for one in doubled) % 10 == 0


def _matches(pattern: re.Pattern[str], holds: Callable[[str], bool] = bool) -> Callable[[str], Iterator[Span]]:
    def find(text: str) -> Iterator[Span]:
        return (found.span() for found in pattern.finditer(text) if holds(found[0]))

    return find


_RULES: tuple[tuple[str, Callable[[str], Iterator[Span]]], ...] = (  # the most certain first
    ("mail", _matches(MAIL)),
    ("id_card", _matches(ID_CARD, is_id_card)),
    ("bank_card", _matches(BANK_CARD, is_bank_card)),
    ("phone", _matches(PHONE)),
    ("address", _places_zh),
    ("address", _matches(ADDRESS_EN)),
)
