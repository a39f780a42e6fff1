"""Personal data is masked, and ordinary numbers are not."""

from __future__ import annotations

import random
import time
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.corpus.masking import is_bank_card, is_id_card, mask

MASKED = {
    "我的电话是13812345678，记一下": "我的电话是[电话]，记一下",
    "+86 138 1234 5678": "[phone]",
    "138-1234-5678打给我": "[电话]打给我",
    "１３８１２３４５６７８": "[phone]",
    "座机010-62345678": "座机[电话]",
    "call (415) 555-2671 now": "call [phone] now",
    "+44 20 7946 0958": "[phone]",
    "身份证11010519491231002X。": "身份证[身份证号]。",
    "id 11010519491231002x": "id [id number]",
    "邮箱abc_1@qq.com，别忘了": "邮箱[邮箱]，别忘了",
    "mail a.b+c@mail.example.co.uk.": "mail [e-mail].",
    "卡号4111 1111 1111 1111": "卡号[银行卡号]",
    "card 4111111111111111": "card [card number]",
    "我住在北京市海淀区中关村大街27号楼3单元502室，来吧": "我住在[地址]，来吧",
    "寄到上海市浦东新区张江路88弄5号302": "寄到[地址]",
    "阳光小区3号楼2单元501": "[地址]",
    "我家在朝阳区建国路甲88号": "我家在[地址]",
    "广东省深圳市南山区科技园科苑路15号科兴科学园B栋4单元12楼": "[地址]",
    "I live at 221 Baker Street, Apt 4.": "I live at [address].",
    "350 Fifth Avenue, New York, NY 10118 is it": "[address] is it",
    "13812345678和13912345678": "[电话]和[电话]",
}
ORDINARY = """
我知道5号要开会|走路5号到|坐地铁10号线|人民路5号线换乘|高速公路5号出口|我们在街上10号见|8月15号|3号楼见
比分 3-2|他在5楼|第12街区
订单号 2023112313812345678|快递SF1381234567890|圆周率3.14159265358979|价格1380013800.5元|1700000000|1700000000123
20231123|12345|QQ 1381234567|110105194912310021|6222021234567890123|1234567812345678|2024-05-01 12:30:00
192.168.100.100|v1.13812345678|你好@小明|@小明 在吗|a@b|3 Main events|5 Big ones|400-123-4567|see page 1381234567
0x13812345678|room 101
"""


@pytest.mark.parametrize(("text", "masked"), MASKED.items())
def test_personal_data_is_masked(text: str, masked: str) -> None:
    found: list[str] = []
    assert mask(text, found.append) == masked
    assert len(found) == masked.count("[")


@pytest.mark.parametrize("text", ORDINARY.strip().replace("\n", "|").split("|"))
def test_what_is_ordinary_stays(text: str) -> None:
    assert mask(text) == text


@given(st.text())
def test_what_is_masked_stays_masked(text: str) -> None:
    assert mask(mask(text)) == mask(text)


@given(st.text(st.characters(exclude_categories=("Nd",), exclude_characters="@＠")))
def test_without_a_digit_nothing_changes(text: str) -> None:
    assert mask(text) == text


@given(st.integers(10**8, 10**9 - 1).filter(lambda number: number // 10**8 > 2), st.text("，。 好", max_size=5))
def test_every_mobile_number_is_found(rest: int, around: str) -> None:
    assert mask(f"{around}打1{rest}0{around}") == f"{around}打[电话]{around}"


@given(st.integers(0, 10**3 - 1), st.dates())
def test_the_check_digit_of_an_identity_number_is_one_of_eleven(order: int, born: date) -> None:
    stem = f"110105{max(1900, min(2099, born.year))}{born.month:02}{born.day:02}{order:03}"
    right = [last for last in "0123456789X" if is_id_card(stem + last)]
    assert len(right) == 1
    assert mask(f"号码{stem}{right[0]}") == "号码[身份证号]"


@given(st.integers(0, 10**13 - 1))
def test_luhn_finds_every_single_wrong_digit(number: int) -> None:
    stem = f"62{number:013}"
    last = next(digit for digit in "0123456789" if is_bank_card(stem + digit))
    card = stem + last
    place = number % 13 + 2
    assert not is_bank_card(card[:place] + str((int(card[place]) + 1) % 10) + card[place + 1 :])
    assert mask(card) in ("[card number]", "[id number]")


def test_of_random_numbers_few_are_taken_for_cards() -> None:
    source = random.Random(0)
    numbers = [
        str(source.randrange(10 ** (length - 1), 10**length)) for length in (15, 16, 17, 19) for _ in range(2000)
    ]
    assert sum(mask(number) != number for number in numbers) < 0.02 * len(numbers)


@pytest.mark.parametrize(
    "text",
    ["园区" * 5000 + "路3", "北京市海淀区" * 3000 + "5号", "1" * 20000, "1 " * 20000, "a" * 20000 + "@", "4111 " * 8000,
     "12 " + "Abc " * 9000, "a.b" * 9000 + "@x" + ".a" * 5000],
)  # fmt: skip
def test_no_text_takes_long(text: str) -> None:
    begun = time.process_time()
    mask(text)
    assert time.process_time() - begun < 2
