"""What does it cost to turn a million messages into dialogues?

Makes a synthetic MemoTrace export of all chats, interleaved as people write, and imports it in a process of its
own, whose CPU seconds and peak memory are printed. The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from learner.corpus.importing import Wishes, import_files

HEAD = [
    "localId", "TalkerId", "Type", "SubType", "IsSender", "CreateTime",
    "Status", "StrContent", "StrTime", "Remark", "NickName", "Sender",
]  # fmt: skip
WORDS = "我你他今天明天昨天吃饭上班睡觉看书电影天气不错好的可以没问题哈哈嗯啊吧呢了吗在去来周末一起几点老地方"
PERSONAL = ("电话13812345678", "我的邮箱是a.b@example.com", "寄到北京市海淀区中关村大街27号3单元502室")
START = 1_600_000_000


def text(source: random.Random) -> str:
    """A message of some 10 letters; one in fifty holds personal data, one in ten a number."""
    said = "".join(source.choices(WORDS, k=source.randint(1, 20)))
    if source.random() < 0.02:
        return f"{said}，{source.choice(PERSONAL)}"
    return f"{said}{source.randint(1, 2000)}。" if source.random() < 0.1 else said


def write(path: Path, rows: int, chats: int, seed: int) -> None:
    """The export."""
    source, at = random.Random(seed), START
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEAD)
        for number in range(rows):
            at += source.randint(0, 60)
            chat, mine = int(source.paretovariate(0.7)) % chats, source.random() < 0.5
            kind = 1 if source.random() < 0.9 else 3
            remark, nick = (f"备注{chat}" if chat % 3 else ""), f"昵称{chat}"
            said = text(source) if kind == 1 else '<msg><img aeskey="0" length="1"/></msg>'
            sender = "我" if mine else remark or nick
            writer.writerow([number, chat, kind, 0, int(mine), at, 2, said, "", remark, nick, sender])


def measure(path: Path, output: Path) -> None:
    """Import, and print what it took as JSON."""
    begun = time.process_time()
    report = import_files([path], output, Wishes(format="memotrace"))
    figures = {
        "rows": report.read,
        "kept": report.kept,
        "dropped": report.dropped,
        "dialogues": report.dialogues,
        "cpu_seconds": round(time.process_time() - begun, 1),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(figures))


def main() -> None:
    """Make the file, import it, print the figures."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--rows", type=int, default=1_000_000)
    asked.add_argument("--chats", type=int, default=500)
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--measure", nargs=2, type=Path, metavar=("FILE", "OUTPUT"), help=argparse.SUPPRESS)
    arguments = asked.parse_args()
    if arguments.measure:
        measure(*arguments.measure)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "messages.csv"
        write(path, arguments.rows, arguments.chats, arguments.seed)
        size = path.stat().st_size / 2**20
        print(f"{arguments.rows:,} rows of {arguments.chats} chats, {size:.0f} MiB", flush=True)
        subprocess.run(
            [sys.executable, __file__, "--measure", str(path), str(Path(folder) / "corpus.jsonl")], check=True
        )


if __name__ == "__main__":
    main()
