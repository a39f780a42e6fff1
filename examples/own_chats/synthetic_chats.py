"""Writes the chats of a person who never lived, as MemoTrace exports real ones: to walk the path without one's own.

Everything that is answered is a line of the starter's own dialogues, with this person's way of beginning and ending
it. Beside that there is what real exports hold: pictures, notices, a telephone number, days without a word.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

STARTER = Path(__file__).resolve().parents[2] / "data" / "starter"
COLUMNS = (
    "localId", "TalkerId", "Type", "SubType", "IsSender", "CreateTime",
    "Status", "StrContent", "StrTime", "Remark", "NickName", "Sender",
)  # fmt: skip
TEXT, IMAGE, NOTICE = 1, 3, 10000
BEGAN, HOUR = 1_704_067_200, 3600
FRIENDS = ("老王", "小美", "阿强", "妈", "李老师", "Tom", "房东", "二姐")
MANNER = "buddy"
BEGINS = {
    "zh": ("老铁你听咱讲：", "哈哈这事儿啊兄弟，", "得嘞哥们，长话短说："),
    "en": ("Yo, listen up champ: ", "Haha mate, easy one. ", "Right then bro, gather round: "),
}
ENDS = {
    "zh": ("就这么定了！", "回见了您嘞换成咱的话：走着！", ""),
    "en": (" Catch you on the flip side!", " Boom, sorted!", ""),
}
Turn = tuple[str, str]  # what somebody asked, and what the person answered


def starter_intents() -> Any:
    """The module of the starter's written intents."""
    sys.path.append(str(STARTER))
    import intents

    return intents


def dialogues(count: int, seed: int = 0) -> list[list[Turn]]:
    """So many dialogues of one to three turns; every answer is recognisably this person's."""
    rng, module = random.Random(seed), starter_intents()
    known = module.load_intents()
    made: list[list[Turn]] = []
    while len(made) < count:
        turns: list[Turn] = []
        for _ in range(rng.choice((1, 1, 2, 3))):
            intent = rng.choice(known)
            language = intent.language
            said = rng.choice(BEGINS[language]) + rng.choice(intent.replies[MANNER]) + rng.choice(ENDS[language])
            said = said.replace("{x}", "小夜" if language == "zh" else "Nightschool")
            if module.manner_of(said, language) == MANNER:
                turns.append((rng.choice(intent.asks), said))
        if turns:
            made.append(turns)
    return made


class Row(NamedTuple):
    """One message of a chat; `mine`: the person wrote it, else the friend."""

    kind: int
    at: int  # unix seconds
    friend: str
    mine: bool
    text: str


def rows(chats: Iterable[list[Turn]], seed: int = 0) -> Iterator[Row]:
    """One message after the other."""
    rng, now = random.Random(seed), BEGAN
    for turns in chats:
        now += rng.randint(8, 30) * HOUR
        friend = rng.choice(FRIENDS)
        if rng.random() < 0.1:
            yield Row(IMAGE, now, friend, False, "<msg><img/></msg>")
        if rng.random() < 0.02:
            yield Row(NOTICE, now, friend, False, "你已添加了对方，现在可以开始聊天了。")
        for asked, said in turns:
            now += rng.randint(5, 90)
            number = f"（我的新号139{rng.randint(10**7, 10**8 - 1)}）" if rng.random() < 0.01 else ""
            yield Row(TEXT, now, friend, False, asked + number)
            now += rng.randint(5, 600)
            yield Row(TEXT, now, friend, True, said)


def write(path: Path, chats: Iterable[list[Turn]], seed: int = 0) -> int:
    """Write the chats as MemoTrace's export of all chats; how many rows that were."""
    made = list(rows(chats, seed))
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for place, row in enumerate(made):
            number, sender = FRIENDS.index(row.friend) + 1, "我" if row.mine else row.friend
            names = (row.friend, row.friend, sender)
            writer.writerow([place, number, row.kind, 0, int(row.mine), row.at, 2, row.text, "", *names])
    return len(made)


def main() -> None:
    """Read the options and write."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("output", type=Path, nargs="?", default=Path("chats.csv"))
    options.add_argument("--dialogues", type=int, default=400)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    count = write(chosen.output, dialogues(chosen.dialogues, chosen.seed), chosen.seed)
    print(f"{chosen.output}: {count} rows of {chosen.dialogues} conversations with {len(FRIENDS)} people")


if __name__ == "__main__":
    main()
