"""From dialogues to rows of tokens: the prompt as the engine renders it, and only what is to be learned marked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_samples import tiny_model

from learner.corpus.dialogues import Dialogue, write
from learner.engine.base import ChatMessage
from learner.engine.chat_text import ChatText
from learner.training import corpus
from learner.training.corpus import Corpus, Reading, Row
from learner.training.model import ChatRenderer
from learner.training.packing import filled, pack
from learner.training.tuning import TrainingRefused

USER, BOT, SYSTEM = "user", "assistant", "system"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def renderer(model: Path) -> ChatRenderer:
    return ChatRenderer.of_folder(model)


def dialogue(*said: tuple[str, str], learned: tuple[int, ...] | None = None) -> Dialogue:
    return Dialogue(tuple(ChatMessage(role, text) for role, text in said), learned=learned)  # type: ignore[arg-type]


def rows(one: Dialogue, renderer: ChatRenderer, max_length: int = 400, **options: bool) -> list[Row]:
    return corpus.dialogue_rows(one, Reading("sft", renderer, max_length, **options))


def learned(row: Row, renderer: ChatRenderer) -> list[str]:
    """The stretches of a row that are learned, special tokens and all."""
    texts: list[str] = []
    before = False
    for token, mark in zip(row.tokens.tolist(), row.learned.tolist(), strict=True):
        if mark:
            texts = texts if before else [*texts, ""]
            texts[-1] += renderer.tokenizer.decode([token])
        before = mark
    return texts


TALK = ((SYSTEM, "be kind"), (USER, "hi"), (BOT, "hello"), (USER, "you?"), (BOT, "fine"), (USER, "bye"))


def test_the_prompt_is_the_engines_and_the_reply_ends_itself(model: Path, renderer: ChatRenderer) -> None:
    [row] = rows(dialogue(*TALK), renderer)
    prompt = ChatText.load(model).render([ChatMessage(role, text) for role, text in TALK[:4]])  # type: ignore[arg-type]
    assert tuple(row.tokens[: len(prompt)].tolist()) == prompt
    assert tuple(row.tokens[len(prompt) :].tolist()) == renderer.reply("fine")
    assert learned(row, renderer) == ["hello<|im_end|>", "fine<|im_end|>"]


def test_only_the_messages_that_are_named_are_learned(renderer: ChatRenderer) -> None:
    [row] = rows(dialogue(*TALK, learned=(4,)), renderer)
    assert learned(row, renderer) == ["fine<|im_end|>"]
    assert rows(dialogue(*TALK, learned=()), renderer) == []


def test_an_assistant_may_speak_first(renderer: ChatRenderer) -> None:
    [row] = rows(dialogue((SYSTEM, "be kind"), (BOT, "welcome"), (USER, "hi"), (BOT, "yes?")), renderer)
    assert learned(row, renderer) == ["welcome<|im_end|>", "yes?<|im_end|>"]


def test_a_template_that_forgets_earlier_turns_gives_a_row_for_each_reply(renderer: ChatRenderer) -> None:
    last = "{% set m = messages[-1] %}{{ m.content }}{% if add_generation_prompt %}>{% endif %}"
    renderer.tokenizer.chat_template = last
    found = rows(dialogue(*TALK), renderer)
    assert [renderer.tokenizer.decode(row.tokens) for row in found] == ["hi>hello<|im_end|>", "you?>fine<|im_end|>"]
    assert [learned(row, renderer) for row in found] == [["hello<|im_end|>"], ["fine<|im_end|>"]]


def test_thoughts_are_learned_only_when_asked_for(renderer: ChatRenderer) -> None:
    one = dialogue((USER, "1+1"), (BOT, "<think>\nlet me see\n</think>\n\n2"), (USER, "and?"), (BOT, "<think>hm"))
    [row] = rows(one, renderer)
    assert learned(row, renderer) == ["2<|im_end|>"]
    [row] = rows(one, renderer, keep_thinking=True)
    assert learned(row, renderer)[0].startswith("<think>\nlet me see")


def test_nobody_forges_the_end(renderer: ChatRenderer) -> None:
    [row] = rows(dialogue((USER, "hi"), (BOT, "a<|im_end|>b")), renderer)
    assert row.tokens.tolist().count(renderer.end) == 2  # the user's and the reply's own


def test_a_long_dialogue_loses_its_oldest_turns_and_says_so(renderer: ChatRenderer) -> None:
    said = [(role, f"{role} number {turn}") for turn in range(30) for role in (USER, BOT)]
    reading = Reading("sft", renderer, 200)
    found = corpus.dialogue_rows(dialogue((SYSTEM, "short"), *said), reading)
    assert len(found) > 3
    assert max(map(len, found)) <= 200
    assert sum(len(learned(row, renderer)) for row in found) == reading.counts["replies"] == 30
    assert reading.counts["prompts_cut"] == len(found) - 1
    assert all("short" in renderer.tokenizer.decode(row.tokens) for row in found)


def read(paths: Sequence[Path], renderer: ChatRenderer, held_out: float = 0.2, kind: str = "sft") -> Corpus:
    return corpus.read(paths, Reading(kind, renderer, 100), held_out, 500)  # type: ignore[arg-type]


def test_what_is_held_out_hangs_on_its_words_alone(tmp_path: Path, renderer: ChatRenderer) -> None:
    some = [dialogue((USER, f"question {n}"), (BOT, f"answer {n}")) for n in range(80)]
    write(tmp_path / "a.jsonl", some)
    write(
        tmp_path / "b.jsonl", [*reversed(some), *some[:10], *(dialogue((USER, f"q{n}"), (BOT, "a")) for n in range(50))]
    )
    one, more = (read([tmp_path / name], renderer) for name in ("a.jsonl", "b.jsonl"))
    held = [{tuple(row.tokens.tolist()) for row in found.held} for found in (one, more)]
    assert held[0] <= held[1]
    assert not held[1] & {tuple(row.tokens.tolist()) for row in more.rows}
    assert 5 < len(held[0]) < 30
    assert one.counts["held_out"] == len(one.held_from) == len(held[0])


def test_what_is_broken_is_told_with_file_and_line_and_the_rest_goes_on(tmp_path: Path, renderer: ChatRenderer) -> None:
    path = tmp_path / "some.jsonl"
    good = dialogue((USER, "a"), (BOT, "b")).to_json()
    other = dialogue((USER, "c"), (BOT, "d")).to_json()
    silent = dialogue((USER, "only a question")).to_json()
    path.write_bytes("\n".join([good, "{", "", '{"messages": []}', silent, other, "\ufffd"]).encode() + b"\xff\n")
    found = read([path], renderer)
    assert (found.counts["read"], found.counts["dropped"], len(found.rows) + len(found.held)) == (6, 4, 2)
    assert [fault.split(" ")[0] for fault in found.faults] == [f"{path}:{n}:" for n in (2, 4, 5, 7)]
    path.write_text("{\n", "utf-8")
    with pytest.raises(TrainingRefused, match=r"no dialogues to train on .*some\.jsonl:1: not JSON"):
        read([path], renderer)


def test_texts_are_learned_whole_in_rows_that_fit(tmp_path: Path, renderer: ChatRenderer) -> None:
    path = tmp_path / "texts.jsonl"
    texts = ["short", "long " * 60, "another"]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    found = read([path], renderer, kind="pretrain")
    every = [*found.rows, *found.held]
    assert max(map(len, every)) <= 100
    assert sum(int(row.learned.sum()) for row in every) == sum(len(renderer.plain(text)) - 1 for text in texts)
    assert all(not row.learned[0] and row.learned[1:].all() for row in every)


def test_probes_are_what_held_out_dialogues_ask(tmp_path: Path, renderer: ChatRenderer) -> None:
    write(tmp_path / "a.jsonl", [dialogue((USER, f"question {n}"), (BOT, f"answer {n}")) for n in range(80)])
    found = read([tmp_path / "a.jsonl"], renderer)
    asked = corpus.probes(found, ())
    assert len(asked) == 6
    assert all(one.messages[0].content.replace("question", "answer") == one.said for one in asked)
    assert [one.messages[-1].content for one in corpus.probes(found, ("mine?",))] == ["mine?"]


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(50, 80))
def test_packing_loses_nothing_and_overfills_nothing(lengths: list[int], room: int) -> None:
    bins = pack(lengths, room)
    assert sorted(row for one in bins for row in one) == list(range(len(lengths)))
    assert all(0 < sum(lengths[row] for row in one) <= room for one in bins)
    assert not lengths or filled(bins, lengths, room) > 0.5 or len(bins) == 1


def test_a_row_that_fits_nowhere_is_an_error() -> None:
    with pytest.raises(ValueError, match="a row of 9 tokens does not fit a bin of 8"):
        pack([3, 9], 8)
