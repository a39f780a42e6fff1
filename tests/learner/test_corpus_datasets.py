"""Datasets of every format come back as they were written, and no row is lost silently."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.corpus.dialogues import Dialogue
from learner.corpus.export import alternating, export
from learner.corpus.readers import Reading, Unreadable, detect
from learner.engine.base import ChatMessage
from tests.learner.corpus_samples import imported, said_in

WORDS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=10).filter(str.strip)
PAIRS = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=3)
SYSTEM = st.none() | WORDS
TALKS = st.lists(st.tuples(SYSTEM, PAIRS), min_size=1, max_size=6, unique_by=str)
Talk = tuple[str | None, list[tuple[str, str]]]


def told(talk: Talk) -> list[tuple[str, str]]:
    """The messages of a talk."""
    system, pairs = talk
    messages = [(role, text) for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)]
    return [("system", system), *messages] if system else messages


def alpaca(talk: Talk) -> Any:
    system, pairs = talk
    row = {"instruction": pairs[-1][0], "input": "", "output": pairs[-1][1]}
    return row | ({"system": system} if system else {}) | ({"history": [list(one) for one in pairs[:-1]]})


def sharegpt(talk: Talk) -> Any:
    names = {"user": "human", "assistant": "gpt"}
    row = {"conversations": [{"from": names[role], "value": text} for role, text in told((None, talk[1]))]}
    return row | ({"system": talk[0]} if talk[0] else {})


def messages(talk: Talk) -> Any:
    return {"messages": [{"role": role, "content": [{"type": "text", "value": text}]} for role, text in told(talk)]}


def xtuner(talk: Talk) -> Any:
    turns = [{"input": asked, "output": answer} for asked, answer in talk[1]]
    return {"conversation": [{"system": talk[0]} | turns[0] if talk[0] else turns[0], *turns[1:]]}


def character(talk: Talk) -> Any:
    return [{"role": role, "content": text} for role, text in told(talk)]


ROUND_TRIPS = {"alpaca": alpaca, "sharegpt": sharegpt, "xtuner": xtuner, "character": character}


@pytest.mark.parametrize(("format", "as_row"), [*ROUND_TRIPS.items(), ("character", messages)])
@pytest.mark.parametrize("lines", [True, False], ids=["lines", "array"])
@settings(max_examples=15, deadline=None)
@given(talks=TALKS)
def test_dialogues_come_back(
    tmp_path_factory: pytest.TempPathFactory, format: str, as_row: Any, lines: bool, talks: list[Talk]
) -> None:
    path = tmp_path_factory.mktemp("in") / "rows"
    rows = [as_row(talk) for talk in talks]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) if lines else json.dumps(rows, indent=1)
    path.write_text(text, "utf-8")
    assert detect(path) == format
    report, found = imported(path)
    assert [said_in([one]) for one in found] == [told(talk) for talk in talks]
    assert (report.read, report.kept) == (len(talks), len(talks))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(WORDS, WORDS, SYSTEM), min_size=1, max_size=6, unique_by=lambda row: row[:2]))
def test_styled_pairs_come_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str | None]]
) -> None:
    path = tmp_path_factory.mktemp("in") / "rows"
    lines = [{"问": asked, "答": answer} | ({"topic": topic} if topic else {}) for asked, answer, topic in rows]
    path.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines), "utf-8")
    _, found = imported(path)
    assert [(*(one.content for one in dialogue.messages), dialogue.about.get("topic")) for dialogue in found] == rows


@settings(max_examples=15, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=6, unique=True), st.sampled_from(["array", "lines", "xtuner"]))
def test_plain_texts_come_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str], how: str) -> None:
    path = tmp_path_factory.mktemp("in") / "rows"
    rows: list[Any] = [{"text": text} for text in texts]
    if how == "xtuner":
        rows = [{"conversation": [{"system": "", "input": "", "output": text}]} for text in texts]
    path.write_text("\n".join(map(json.dumps, rows)) if how == "lines" else json.dumps(rows), "utf-8")
    report, _ = imported(path)
    lines = path.with_name("corpus.jsonl").read_text("utf-8").split("\n")[:-1]
    assert [json.loads(line) for line in lines] == [{"text": text} for text in texts]
    assert (report.texts, report.kept) == (len(texts), len(texts))


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["孙悟空", "Twain"]), WORDS, st.lists(WORDS, min_size=1, max_size=3, unique=True)),
        min_size=1, max_size=5, unique_by=lambda row: row[:2],
    )
)  # fmt: skip
def test_roles_come_back_with_their_profiles(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    path = tmp_path_factory.mktemp("in") / "rows"
    lines = [{"role": role, "question": asked, "generated": answers, "type": ["x"]} for role, asked, answers in rows]
    path.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    report, found = imported(path, reading=Reading(profiles=(("孙悟空", "齐天大圣。"),)))
    who = {"孙悟空": "你是孙悟空。齐天大圣。", "Twain": "You are Twain."}
    assert [said_in([one]) for one in found] == [
        [("system", who[role]), ("user", asked), ("assistant", answer)]
        for role, asked, answers in rows
        for answer in answers
    ]
    assert report.kept == len(rows)
    wanted, only = imported(path, reading=Reading(roles=("Twain",)))
    assert all(one.about["role"] == "Twain" for one in only)
    assert wanted.reasons.get("another role", 0) == sum(role != "Twain" for role, _, _ in rows)


NAMES = """
conversations conversation from value role content messages loss_weight prompt text instruction input output history
system question generated 问 答
"""
MIXED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "a", "human", "user", "gpt", "assistant", "loud"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(NAMES.split()),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.parametrize("format", ["alpaca", "sharegpt", "xtuner", "character", "rolebench", "styled", "text"])
@settings(max_examples=30, deadline=None)
@given(rows=st.lists(MIXED, min_size=1, max_size=5))
def test_no_row_fails_and_none_is_lost(tmp_path_factory: pytest.TempPathFactory, format: str, rows: list[Any]) -> None:
    path = tmp_path_factory.mktemp("in") / "rows"
    path.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]", "utf-8")
    report, _ = imported(path, format=format)
    assert report.read == len(rows)
    assert len(report.faults) == report.reasons.get("malformed", 0)


def test_faults_have_a_line_and_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    good = '{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}'
    bad = ["{", '{"conversations": [{"from": "loud", "value": "q"}]}', '{"conversations": [{"from": "human"}]}']
    path.write_text("\n".join([good, *bad, good.replace('"a"', '""'), good, good.replace("gpt", "observation")]))
    report, found = imported(path)
    assert len(found) == 1
    assert report.reasons == {"malformed": 3, "empty": 1, "duplicate": 1, "tool call": 1}
    assert [(one.line, one.detail.split(":")[0]) for one in report.faults] == [
        (2, "not JSON"),
        (3, "message 0"),
        (4, "message 0"),
    ]


def test_a_message_without_weight_is_not_learned(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    said = [("user", "a", 1), ("assistant", "b", 0), ("user", "c", 1), ("assistant", "d", 1)]
    path.write_text(json.dumps({"messages": [{"role": r, "content": c, "loss_weight": w} for r, c, w in said]}))
    assert imported(path)[1][0].learned == (3,)


def test_texts_beside_dialogues_have_a_file_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_text(json.dumps([{"conversation": [{"input": asked, "output": "x"}]} for asked in ("", "q")]))
    report, found = imported(path)
    assert (report.texts, len(found)) == (1, 1)
    assert (tmp_path / "corpus.text.jsonl").read_text() == '{"text": "x"}\n'
    assert sorted(one.name for one in tmp_path.iterdir()) == ["corpus.jsonl", "corpus.text.jsonl", "rows"]


def test_a_novel_is_cut_at_its_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "novel.txt"
    path.write_text("第一段，\n还是第一段。\n\n\n第二段。", "gb18030")
    assert imported(path)[0].texts == 2
    lines = (tmp_path / "corpus.jsonl").read_text("utf-8").splitlines()
    assert json.loads(lines[0]) == {"text": "第一段，\n还是第一段。"}


def test_preferences_are_not_dialogues(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    with pytest.raises(Unreadable, match="records import"):
        detect(path)


def test_the_output_is_none_of_the_sources_and_nothing_stays_of_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"instruction": "a", "output": "b"}\n')
    with pytest.raises(Unreadable, match="--output"):
        imported(path)
    with pytest.raises(FileNotFoundError):
        imported([tmp_path / "missing"], format="alpaca")
    assert [one.name for one in tmp_path.iterdir()] == ["corpus.jsonl"]


# Out ----------------------------------------------------------------------------------------

ROLES = st.sampled_from(["user", "assistant"])
ANY = st.lists(st.builds(ChatMessage, ROLES, WORDS), min_size=1, max_size=6).map(lambda said: Dialogue(tuple(said)))


@pytest.mark.parametrize("format", ["alpaca", "sharegpt"])
@settings(max_examples=20, deadline=None)
@given(some=st.lists(ANY, max_size=4), system=SYSTEM)
def test_what_is_exported_comes_back(
    tmp_path_factory: pytest.TempPathFactory, format: Any, some: list[Dialogue], system: str | None
) -> None:
    path = tmp_path_factory.mktemp("out") / "rows.json"
    head = (ChatMessage("system", system),) if system else ()
    some = [Dialogue((*head, *one.messages)) for one in some]
    written, left = export(some, format, path)
    expected = [alternating(one) for one in some]
    assert (written, left) == (sum(bool(turns) for _, turns in expected), sum(not turns for _, turns in expected))
    _, found = imported(path, format=format)
    unique = dict.fromkeys(
        ((("system", prompt),) if prompt else ()) + tuple(turns[1:] if not turns[0][1] else turns)
        for prompt, turns in expected
        if turns
    )
    assert [tuple(said_in([one])) for one in found] == list(unique)
