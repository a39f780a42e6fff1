"""Measures the starter model: content, language, ending, manners and memory.

Knows nothing of training. Any causal language model with a chat template can be measured.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from chats import DEFAULT_BOT, Chats
from check import MANNERS
from intents import holds_one_of, manner_of, manners

LONGEST_REPLY, BATCH = 64, 96
MEMORY_KINDS = {"recall": 4, "quote": 2, "repeat": 1, "bot_name": 2, "fallback": 1}
Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Answer:
    text: str
    ended: bool


def language_of(text: str) -> str:
    """zh when there are more Chinese characters than words in Latin letters."""
    return "zh" if len(re.findall(r"[\u4e00-\u9fff]", text)) > len(re.findall(r"[A-Za-z']+", text)) else "en"


@torch.no_grad()
def answers(
    network: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[Messages],
    sampled: bool = False,
    begun: str = "",
) -> list[Answer]:
    """Return one answer a prompt, greedy or sampled as the bot would (temperature 0.9, top p 0.95).

    Every answer begins with `begun`, which is not part of what is returned.
    """
    texts = [tokenizer.apply_chat_template(p, tokenize=False, add_generation_prompt=True) + begun for p in prompts]
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    found: dict[int, Answer] = {}
    how = {"do_sample": True, "temperature": 0.9, "top_p": 0.95, "top_k": 0} if sampled else {"do_sample": False}
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        inputs = tokenizer([texts[i] for i in chosen], return_tensors="pt", padding=True, padding_side="left")
        made = network.generate(
            input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, max_new_tokens=LONGEST_REPLY, **how
        )[:, inputs.input_ids.shape[1] :]
        for index, ids in zip(chosen, made.tolist(), strict=True):
            text = tokenizer.decode(ids, skip_special_tokens=True)
            found[index] = Answer(text, tokenizer.eos_token_id in ids)
    return [found[index] for index in range(len(texts))]


def canaries(chats: Chats) -> list[dict]:
    """Return every phrasing with what a right answer holds."""
    rows = [
        row(ask, intent.keys, intent.language, name)
        for (name, _), intent in chats.intents.items()
        for ask in intent.asks
    ]
    for (name, language), asks in chats.asks.items():
        if name.startswith("recall_"):
            rows += [row(ask, chats.skills["untold", language].keys, language, "untold") for ask in asks]
        if name == "bot_name":
            rows += [row(ask, (DEFAULT_BOT[language],), language, name) for ask in asks]
    for language, pools in chats.pools.items():
        keys = chats.skills["fallback", language].keys
        rows += [row(ask, keys, language, "fallback") for ask in pools.of["unknown"] if "{" not in ask]
    return rows


def row(ask: str, keys: tuple[str, ...], language: str, intent: str) -> dict:
    return {
        "prompt": [{"role": "user", "content": ask}],
        "any_of": list(keys),
        "language": language,
        "intent": intent,
    }


def share(hits: list[bool]) -> float:
    return round(sum(hits) / max(1, len(hits)), 4)


def content(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: list[dict]) -> tuple[dict, list[str]]:
    """Return greedy accuracy, language and ending over `rows`, and a line for each wrong answer."""
    made = answers(network, tokenizer, [r["prompt"] for r in rows])
    pairs = list(zip(rows, made, strict=True))
    right = [holds_one_of(answer.text, r["any_of"]) for r, answer in pairs]
    wrong = [
        f"{r['intent']}: {r['prompt'][-1]['content']} -> {a.text}"
        for (r, a), ok in zip(pairs, right, strict=True)
        if not ok
    ]
    figures = {
        "content": share(right),
        "language": share([language_of(answer.text) == r["language"] for r, answer in pairs]),
        "ending": share([answer.ended for answer in made]),
    }
    return figures, wrong


def manner_shares(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: list[dict]) -> dict:
    """Return each manner's share among sampled replies, pairs that differ in manner, and sampled content."""
    prompts = [r["prompt"] for r in rows]
    first, second = (answers(network, tokenizer, prompts, sampled=True) for _ in range(2))
    told = [[manner_of(a.text, r["language"]) for r, a in zip(rows, side, strict=True)] for side in (first, second)]
    counts = Counter(told[0] + told[1])
    figures = {manner: round(counts[manner] / (2 * len(rows)), 3) for manner in (*MANNERS, "mixed")}
    figures["pairs that differ in manner"] = share([a != b for a, b in zip(*told, strict=True)])
    figures["content when sampled"] = share(
        [holds_one_of(a.text, r["any_of"]) for r, a in zip(rows, first, strict=True)]
    )
    return figures


def content_after_openers(
    network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: list[dict]
) -> dict[str, float]:
    """Return greedy accuracy by manner when a reply is made to begin with one of that manner's openers.

    What a person prefers moves the openers; the content behind the rarest of them must be there already.
    """
    hits = defaultdict(list)
    for manner, parts in manners().items():
        for language, part in parts.items():
            for number, opener in enumerate(part["openers"]):
                asked = [r for r in rows if r["language"] == language][number :: len(part["openers"])]
                begun = opener.rstrip(" ，：")  # these stand in one token with what follows
                made = answers(network, tokenizer, [r["prompt"] for r in asked], begun=begun)
                hits[manner] += [holds_one_of(a.text, r["any_of"]) for r, a in zip(asked, made, strict=True)]
    return {manner: share(found) for manner, found in hits.items()}


def memory(
    network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, chats: Chats, count: int
) -> tuple[dict, list[str]]:
    """Return greedy accuracy on chats drawn anew whose last turn needs an earlier one, by kind."""
    rng = random.Random(20261122)
    drawn = [chats.draw(rng, MEMORY_KINDS) for _ in range(count)]
    made = answers(network, tokenizer, [chat.messages()[:-1] for chat in drawn])
    hits, wrong = defaultdict(list), []
    for chat, answer in zip(drawn, made, strict=True):
        last = chat.turns[-1]
        hits[last.kind].append(holds_one_of(answer.text, last.keys))
        if not hits[last.kind][-1]:
            wrong.append(f"{last.kind}: {last.user} [{', '.join(last.keys)}] -> {answer.text}")
    return {kind: share(found) for kind, found in sorted(hits.items())}, wrong
