"""Is what was said before found again, fast, in its own chat alone, and only when it is asked about?

Facts in Chinese and English are planted among the small talk of many chats, each beside near misses: the same person
with another fact, the same fact of another person, and the same words with another answer in another chat. Each is
asked for once, by a question that shares its key words. Then small talk that has nothing to do with what its chat
holds is put as a question: whatever is found is found for nothing. `--replies` also asks the shipped starter the
phrasings that nobody trains on, with and without recalled lines in its prompt. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bots.phrases import phrases  # noqa: E402
from bots.recall import block_of  # noqa: E402
from bots.settings import RecallSettings  # noqa: E402
from learner.store import Store, history  # noqa: E402
from learner.store.rows import Memory, Place, Search, Turn  # noqa: E402

TALK = ROOT / "data" / "starter" / "dialogues"
Role = Literal["user", "assistant"]
SAID = tomllib.loads((ROOT / "bench" / "recall.toml").read_text("utf-8"))
PEOPLE = {language: SAID[language]["people"] for language in SAID}
FACTS = {language: SAID[language]["facts"] for language in SAID}
VALUES = {language: SAID[language]["values"] for language in SAID}


@dataclass(frozen=True)
class Fact:
    """What was said in `chat`, and the question that asks for it."""

    chat: int
    text: str
    question: str


@dataclass(frozen=True)
class Talk:
    """One thing that people talk of: what is said and answered."""

    topic: str
    asked: tuple[str, ...]
    answered: tuple[str, ...]


def small_talk(language: str) -> list[Talk]:
    """The starter's dialogues, which are what people say to a bot."""
    found = []
    for path in sorted(TALK.glob("*.toml")):
        for topic, entry in tomllib.loads(path.read_text("utf-8")).items():
            said = entry.get(language, {})
            if said.get("ask"):
                answers = [text for key in ("plain", "warm") for text in said.get(key, [])]
                found.append(Talk(topic, tuple(said["ask"]), tuple(answers)))
    return found


def language_of(chat: int) -> str:
    """Every other chat is in Chinese."""
    return "zh" if chat % 2 == 0 else "en"


def facts_for(chats: int, wanted: int, rng: random.Random) -> list[Fact]:
    """`wanted` facts, spread over the chats; no two of one chat share person and template."""
    found: list[Fact] = []
    used: set[tuple[int, int, str]] = set()
    while len(found) < wanted:
        chat = len(found) % chats
        language = language_of(chat)
        template, who = rng.randrange(len(FACTS[language])), rng.choice(PEOPLE[language])
        if (chat, template, who) in used:
            continue
        used.add((chat, template, who))
        text, question = FACTS[language][template]
        found.append(Fact(chat, said(text, language, who, rng), question.format(who=who)))
    return found


def said(text: str, language: str, who: str, rng: random.Random) -> str:
    """The template with the person and random values."""
    values = {name: rng.choice(options) for name, options in VALUES[language].items()}
    return text.format(who=who, number=rng.randrange(100, 9999), **values)


def near_misses(fact: Fact, language: str, rng: random.Random) -> Iterator[str]:
    """The same person with another fact, and the same fact of another person, in the fact's own chat."""
    who = next((one for one in PEOPLE[language] if one in fact.text), PEOPLE[language][0])
    ours = next(text for text, asked in FACTS[language] if asked.format(who=who) == fact.question)
    other = rng.choice([text for text, _ in FACTS[language] if text != ours])
    stranger = rng.choice([one for one in PEOPLE[language] if one != who])
    yield said(other, language, who, rng)
    yield said(ours, language, stranger, rng)


def plant(store: Store, options: argparse.Namespace, rng: random.Random) -> tuple[list[Fact], dict[int, set[str]]]:
    """Fill the store; the facts, and which topics of small talk each chat has had."""
    facts = facts_for(options.chats, options.facts, rng)
    talks = {language: small_talk(language) for language in ("zh", "en")}
    had: dict[int, set[str]] = {chat: set() for chat in range(options.chats)}
    lines: list[tuple[int, Role, str]] = []
    for fact in facts:
        misses = near_misses(fact, language_of(fact.chat), rng)
        lines += [(fact.chat, "user", text) for text in (fact.text, *misses)]
    topics = {chat: rng.sample(talks[language_of(chat)], 60) for chat in range(options.chats)}
    while len(lines) < options.messages:
        chat = rng.randrange(options.chats)
        talk = rng.choice(topics[chat])
        had[chat].add(talk.topic)
        lines += [(chat, "user", rng.choice(talk.asked)), (chat, "assistant", rng.choice(talk.answered))]
    rng.shuffle(lines)
    with store._database.write() as c:
        for at, (chat, role, text) in enumerate(lines):
            history.add(c, "default", place(chat), Turn(role, f"p{chat}", text, None, float(at)))
    return facts, had


def place(chat: int) -> Place:
    """Where chat number `chat` is."""
    return Place("bench", "memory", f"chat{chat}")


def ask(store: Store, chat: int, words: str, least: float, limit: int) -> tuple[list[Memory], float]:
    """What is found in the chat, and the milliseconds that it took."""
    wanted = Search("default", place(chat), f"p{chat}", words, 1 << 40, limit, least_coverage=least)
    start = time.perf_counter()
    found = store.recall(wanted)
    return found, 1000 * (time.perf_counter() - start)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all stay below."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def for_nothing(
    store: Store, had: dict[int, set[str]], options: argparse.Namespace, rng: random.Random
) -> tuple[float, list[float], int]:
    """How often small talk about what the chat never spoke of finds anything."""
    talks = {language: small_talk(language) for language in ("zh", "en")}
    hits, times, strays = 0, [], 0
    for _ in range(options.unasked):
        chat = rng.randrange(options.chats)
        talk = rng.choice([one for one in talks[language_of(chat)] if one.topic not in had[chat]])
        found, took = ask(store, chat, rng.choice(talk.asked), options.coverage, 5)
        hits += bool(found)
        times.append(took)
        strays += sum(one.place != place(chat) for one in found)
    return hits / max(1, options.unasked), times, strays


async def right_answers(options: argparse.Namespace) -> dict[str, float]:
    """The share of the starter's greedy replies without a fault: alone, and with memories of small talk in its prompt.

    The memories are other phrasings of other things, as a search that finds for nothing would give them.
    """
    from bench.starter_talk import Phrasing, fault, phrasings
    from learner.engine.base import CandidateSpec, ChatMessage, GenerateRequest, Sampling
    from learner.engine.local import LocalEngine
    from learner.engine.local_settings import LocalSettings

    engine = LocalEngine(LocalSettings(model=str(ROOT / "data" / "starter"), device="cpu", threads=1, max_queue=4096))
    await engine.start()
    rng = random.Random(options.seed)
    measured = rng.sample(phrasings()["measured"], options.replies)

    async def is_right(row: Phrasing, count: int) -> bool:
        others = [one.text for one in rng.sample(measured, count + 5) if one.language == row.language and one != row]
        said = [Memory(n, place(0), "user", "p", text, 1.7e9, 1.0) for n, text in enumerate(others[:count])]
        system = [ChatMessage("system", block_of(said, phrases(row.language), {}))] if said else []
        prompt = engine.render([*system, ChatMessage("user", row.text)])
        greedy = CandidateSpec(Sampling(temperature=0.0, max_tokens=64), 0)
        generated = await engine.generate(GenerateRequest(prompt, (greedy,), timeout=3600))
        return not fault(generated.candidates[0], row)

    shares = {}
    for count in (0, 1, 5):
        right = await asyncio.gather(*(is_right(row, count) for row in measured))
        shares[f"right_with_{count}"] = round(sum(right) / len(right), 4)
    await engine.close()
    return shares


def main() -> None:
    """Plant, ask, count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--facts", type=int, default=500)
    parser.add_argument("--chats", type=int, default=100)
    parser.add_argument("--unasked", type=int, default=500, help="small talk put as questions")
    parser.add_argument("--coverage", type=float, default=RecallSettings().coverage)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replies", type=int, default=0, help="phrasings to ask the starter with and without memories")
    parser.add_argument("--missed", action="store_true", help="show the facts that were not found")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{folder}/n.db")
        start = time.perf_counter()
        facts, had = plant(store, options, rng)
        planted = time.perf_counter() - start
        found, times, strays = 0, [], 0
        for fact in facts:
            hits, took = ask(store, fact.chat, fact.question, options.coverage, 5)
            times.append(took)
            strays += sum(one.place != place(fact.chat) for one in hits)
            here = any(one.text == fact.text for one in hits)
            found += here
            if options.missed and not here:
                print(fact.question, "|", fact.text, "|", [(one.text, round(one.score, 2)) for one in hits])
        unasked, more, astray = for_nothing(store, had, options, rng)
        store.close()
    figures = {
        "messages": options.messages,
        "chats": options.chats,
        "facts": len(facts),
        "found_in_5": round(found / len(facts), 4),
        "crossed": strays + astray,
        "unasked": round(unasked, 4),
        "p50_ms": round(percentile([*times, *more], 0.5), 2),
        "p95_ms": round(percentile([*times, *more], 0.95), 2),
        "slowest_ms": round(max([*times, *more]), 2),
        "planting_s": round(planted, 1),
    }
    if options.replies:
        figures |= asyncio.run(right_answers(options))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
