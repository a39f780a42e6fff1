"""Makes the starter model: a tokenizer and a small network, trained on the written dialogues.

Knows nothing of bots or of nightly training. Run: python data/starter/make.py --minutes 40
and then: python data/starter/make.py --start data/starter --peak 2.5e-3 --minutes 28 --seed 2
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")  # every batch has its own shape: 1,024 of them fill 6 GB

import torch  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase  # noqa: E402
from transformers.utils.logging import disable_progress_bar  # noqa: E402

import measure  # noqa: E402
from chats import Chats  # noqa: E402
from check import LANGUAGES  # noqa: E402
from intents import HERE, followups, manners  # noqa: E402
from network import PEAK_RATE, Batch, Trainer, network_in, new_network, rate_at, save  # noqa: E402
from tokens import PAD, Encoder, check_template, load_tokenizer, save_tokenizer, train_tokenizer  # noqa: E402

TOKENS_A_BATCH, POOL, CHECKPOINT_SECONDS, QUICK = 2048, 2048, 300, 240
FIGURES = ("<!-- figures: written by make.py -->", "<!-- end of figures -->")


@dataclass
class Clock:
    """Seconds spent training, without those spent measuring; the whole is a time or a number of steps."""

    seconds: float
    steps: int | None
    spent: float = 0.0
    step: int = 0

    @property
    def progress(self) -> float:
        return self.step / self.steps if self.steps else self.spent / self.seconds


def say(text: str, *values: object) -> None:
    print(time.strftime("%T"), text % values if values else text, flush=True)


def tokenizer_texts(chats: Chats, rng: random.Random) -> list[str]:
    """Every written line, and enough drawn chats to meet the names, lead-ins, openers and follow-ups."""
    written = [
        text for i in chats.intents.values() for text in (*i.asks, *(r for rs in i.replies.values() for r in rs))
    ]
    openers = [
        o for parts in manners().values() for part in parts.values() for o in (*part["openers"], *part["closers"])
    ]
    openers += [f" {words}" if language == "en" else words for language in LANGUAGES for words in followups(language)]
    drawn = [message["content"] for _ in range(3000) for message in chats.draw(rng).messages()]
    return written + openers * 20 + drawn + ["system", "user", "assistant"] * 1000


def as_batch(rows: list[tuple[list[int], list[bool]]], padding: int) -> Batch:
    width = max(len(ids) for ids, _ in rows)
    ids = [ids + [padding] * (width - len(ids)) for ids, _ in rows]
    learned = [mask + [False] * (width - len(mask)) for _, mask in rows]
    return torch.tensor(ids), torch.tensor(learned)


def batches(chats: Chats, encoder: Encoder, rng: random.Random) -> Iterator[Batch]:
    """Yield batches for ever, each of chats of nearly one length, so that little is padding."""
    padding = encoder.ids(PAD)[0]
    while True:
        rows = sorted((encoder.chat(chats.draw(rng).messages()) for _ in range(POOL)), key=lambda row: len(row[0]))
        groups: list[list] = [[]]
        for row in rows:
            if groups[-1] and len(row[0]) * (len(groups[-1]) + 1) > TOKENS_A_BATCH:
                groups.append([])
            groups[-1].append(row)
        rng.shuffle(groups)
        yield from (as_batch(group, padding) for group in groups)


def checkpoint(trainer: Trainer, tokenizer: PreTrainedTokenizerBase, chats: Chats, folder: Path) -> None:
    save(trainer.network, tokenizer, folder)
    rows = random.Random(0).sample(measure.canaries(chats), QUICK)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    figures, wrong = measure.content(network, tokenizer, rows)
    figures["after openers"] = measure.content_after_openers(network, tokenizer, rows)
    figures["memory"] = measure.memory(network, tokenizer, chats, QUICK)[0]
    say("checkpoint %s: %s", folder, figures)
    for line in wrong[:5]:
        say("  wrong: %s", line)


def train(trainer: Trainer, stream: Iterator[Batch], clock: Clock, peak: float, at_checkpoint) -> None:
    """Train until the clock has run out; report now and then."""
    seen, losses, next_checkpoint = 0, [], CHECKPOINT_SECONDS
    while clock.progress < 1:
        start = time.perf_counter()
        taken = [next(stream) for _ in range(trainer.workers)]
        losses.append(trainer.step(taken, rate_at(clock.progress, peak)))
        seen += sum(ids.numel() for ids, _ in taken)
        clock.step += 1
        clock.spent += time.perf_counter() - start
        if clock.step % 100 == 0:
            mean = sum(losses[-100:]) / 100
            say(
                "step %d, %.0f s, %.0f %%: loss %.3f, %.0f tokens/s",
                clock.step,
                clock.spent,
                100 * clock.progress,
                mean,
                seen / clock.spent,
            )
        if clock.spent > next_checkpoint and clock.progress < 0.95:
            next_checkpoint += CHECKPOINT_SECONDS
            at_checkpoint(clock.step)


def report(out: Path, chats: Chats, made_in: dict) -> dict:
    """Measure the model as written, loaded in 32 bits; write canaries and the README's figures."""
    tokenizer = AutoTokenizer.from_pretrained(out)
    network = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    rows = measure.canaries(chats)
    (out / "canaries.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), "utf-8")
    figures, wrong = measure.content(network, tokenizer, rows)
    figures["manners"] = measure.manner_shares(network, tokenizer, rows)
    figures["content after openers"] = measure.content_after_openers(network, tokenizer, rows)
    figures["memory"], forgotten = measure.memory(network, tokenizer, chats, 600)
    for line in wrong + forgotten[:30]:
        say("  wrong: %s", line)
    figures = {"canaries": len(rows), "parameters": network.num_parameters(), **made_in, **figures}
    say("%s", json.dumps(figures, ensure_ascii=False))
    write_figures(out / "README.md", figures)
    return figures


def write_figures(readme: Path, figures: dict) -> None:
    if not readme.exists():
        return
    before, rest = readme.read_text("utf-8").split(FIGURES[0])
    after = rest.split(FIGURES[1])[1]
    rows = [f"| {name} | {shown(value)} |" for name, value in figures.items()]
    table = "\n".join(["", "", "| figure | value |", "|---|---|", *rows, "", ""])
    readme.write_text(before + FIGURES[0] + table + FIGURES[1] + after, "utf-8")


def shown(value: object) -> str:
    return ", ".join(f"{name} {part}" for name, part in value.items()) if isinstance(value, dict) else str(value)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=40, help="time to train for; the learning rate follows it")
    parser.add_argument(
        "--steps", type=int, help="train for this many steps instead: the same seed then gives the same model"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--start", type=Path, help="train the model in this folder further instead of a new one")
    parser.add_argument("--peak", type=float, default=PEAK_RATE, help="the highest learning rate")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    disable_progress_bar()
    torch.set_num_threads(1)
    torch.manual_seed(given.seed)
    rng, chats = random.Random(given.seed), Chats()
    checkpoints = given.out / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    if given.start:
        tokenizer = load_tokenizer(given.start)
    else:
        tokenizer = save_tokenizer(train_tokenizer(tokenizer_texts(chats, rng)), checkpoints / "tokenizer")
    for _ in range(200):
        check_template(tokenizer, chats.draw(rng).messages())
    trainer = Trainer(network_in(given.start) if given.start else new_network(tokenizer), given.threads)
    stream = batches(chats, Encoder(tokenizer), rng)
    dtype, seconds = trainer.faster_dtype([next(stream) for _ in range(given.threads)])
    trainer.use(dtype)
    trainer.compile([next(stream) for _ in range(12)])
    say(
        "%d parameters, %d intents; seconds a step %s: training in %s",
        trainer.network.num_parameters(),
        len(chats.names),
        seconds,
        dtype,
    )
    clock = Clock(given.minutes * 60, given.steps)
    train(trainer, stream, clock, given.peak, lambda step: checkpoint(trainer, tokenizer, chats, checkpoints / f"step-{step}"))
    save(trainer.network, tokenizer, given.out)
    made_in = {
        "steps": clock.step,
        "seconds of training": round(clock.spent),
        "threads": given.threads,
        "seed": given.seed,
    }
    report(given.out, chats, {**made_in, "trained in": str(dtype).removeprefix("torch.")})


if __name__ == "__main__":
    main()
