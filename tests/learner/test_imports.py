"""Other tools' preference rows: read as they are, stored once, tokenised at night, named by their source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.engine.base import ChatMessage
from learner.engine.random_model import byte_tokenizer
from learner.formats import export
from learner.formats.dataset_info import layout_of
from learner.formats.export import llamafactory_row, trl_row
from learner.formats.imports import FORMATS, REASONS, BadRow, From, record_of
from learner.formats.rows import FileUnreadable, rows_of
from learner.imported import ImportCount, ImportedRecord
from learner.records import PreferencePair, Provenance, RatedReply
from learner.store import Store
from learner.training.examples import build
from learner.training.model import ChatRenderer

USER, BOT = ChatMessage("user", "最近怎么样，bro？"), ChatMessage("assistant", "嗯，还行。")
ASKED = {"role": "user", "content": USER.content}
GOOD, BAD = "还不错，bro，你呢？", "挺好的"
PAIR = ImportedRecord((USER,), (GOOD, BAD))
RATED = ImportedRecord((USER,), (BAD,), False)
SYSTEM = ChatMessage("system", "Be kind.")


def gpt(text: str) -> dict[str, str]:
    return {"from": "gpt", "value": text}


def said(text: Any, role: str = "assistant") -> dict[str, Any]:
    return {"role": role, "content": text}


def v1(text: str, role: str = "assistant") -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "value": text}], "loss_weight": 1.0}


HUMAN = [{"from": "human", "value": USER.content}]
PAIRS: list[tuple[From, dict[str, Any]]] = [
    ("chat-style-bot", {"conversations": HUMAN, "choesn": gpt(GOOD), "rejected": gpt(BAD)}),
    ("llamafactory", {"conversations": HUMAN, "chosen": gpt(GOOD), "rejected": gpt(BAD), "system": ""}),
    ("llamafactory", {"instruction": USER.content, "input": "", "chosen": GOOD, "rejected": BAD, "system": None}),
    ("llamafactory", {"chosen_messages": [v1(USER.content, "user"), v1(GOOD)],
                      "rejected_messages": [v1(USER.content, "user"), v1(BAD)]}),
    ("trl", {"prompt": USER.content, "chosen": GOOD, "rejected": BAD}),
    ("trl", {"prompt": [ASKED], "chosen": [said(GOOD)], "rejected": [said(BAD)], "score_chosen": 4.5}),
    ("trl", {"prompt": USER.content, "chosen": [ASKED, said(GOOD)], "rejected": [ASKED, said(BAD)]}),
    ("trl", {"chosen": [ASKED, said(GOOD)], "rejected": [ASKED, said(BAD)]}),
    ("xtuner", {"prompt": [ASKED], "chosen": [said(GOOD)], "rejected": [said(BAD)]}),
]  # fmt: skip
RATINGS: list[tuple[From, dict[str, Any]]] = [
    ("chat-style-bot", {"messages": [ASKED, said(BAD)], "label": False}),
    ("llamafactory", {"messages": [ASKED, said(BAD)], "kto_tag": False}),
    ("llamafactory", {"conversations": [*HUMAN, gpt(BAD)], "label": "false"}),
    ("llamafactory", {"instruction": USER.content, "output": BAD, "label": 0}),
    ("trl", {"prompt": USER.content, "completion": BAD, "label": False}),
    ("trl", {"prompt": [ASKED], "completion": [said(BAD)], "label": False}),
]


@pytest.mark.parametrize(("source", "row"), PAIRS)
def test_a_pair_is_read_as_it_stands(source: From, row: dict[str, Any]) -> None:
    assert record_of(row, source) == record_of(row) == PAIR


@pytest.mark.parametrize(("source", "row"), RATINGS)
def test_a_rated_reply_is_read_as_it_stands(source: From, row: dict[str, Any]) -> None:
    assert record_of(row, source) == record_of(row) == RATED


def test_what_was_said_before_and_the_system_prompt_are_the_prompt() -> None:
    alpaca = {"instruction": "And", "input": "you?", "history": [["Hi", "Hello."]], "system": "Be kind.",
              "chosen": GOOD, "rejected": BAD}  # fmt: skip
    turns = (SYSTEM, ChatMessage("user", "Hi"), ChatMessage("assistant", "Hello."), ChatMessage("user", "And\nyou?"))
    assert record_of(alpaca).prompt == turns
    sharegpt = {"conversations": [{"from": "system", "value": "Be kind."}, {"from": "human", "value": "Hi"},
                                  gpt("Hello."), {"from": "human", "value": "And\nyou?"}],
                "chosen": gpt(GOOD), "rejected": gpt(BAD)}  # fmt: skip
    assert record_of(sharegpt).prompt == turns


@pytest.mark.parametrize(
    ("reason", "row"),
    [
        ("not_an_object", [ASKED]),
        ("not_a_record", {"instruction": "a", "output": "b"} | {"question": 1}),
        ("not_a_record", {"text": "a"}),
        ("no_label", {"messages": [ASKED, said(BAD)], "label": None}),
        ("no_label", {"messages": [ASKED, said(BAD)], "label": "perhaps"}),
        ("empty_reply", {"messages": [ASKED, said("")], "label": True}),  # never a bad one
        ("empty_reply", {"prompt": "a", "chosen": " ", "rejected": "b"}),
        ("same_text", {"prompt": "a", "chosen": "b", "rejected": "b "}),
        ("no_prompt", {"prompt": "", "chosen": "b", "rejected": "c"}),
        ("no_prompt", {"chosen": "b", "rejected": "c"}),
        ("not_asked", {"prompt": [ASKED, said("b")], "chosen": "c", "rejected": "d"}),
        ("not_only_text", {"prompt": [said([{"type": "image"}], "user")], "chosen": "c", "rejected": "d"}),
        ("not_only_text", {"prompt": 5, "chosen": "c", "rejected": "d"}),
        ("not_only_text", {"prompt": "a", "chosen": {"role": "assistant"}, "rejected": "d"}),
        ("unknown_role", {"prompt": [{"role": "tool", "content": "a"}], "chosen": "c", "rejected": "d"}),
        ("not_one_reply", {"prompt": "a", "chosen": [said("b"), said("c", "user"), said("d")], "rejected": "d"}),
        ("not_one_reply", {"messages": [ASKED], "label": True}),
    ],
)  # fmt: skip
def test_a_row_that_gives_no_record_says_why(reason: str, row: Any) -> None:
    if reason == "not_a_record" and "output" in row:
        row = {"question": row["question"]}
    with pytest.raises(BadRow, match=REASONS[reason][:20]) as bad:
        record_of(row)
    assert bad.value.reason == reason


def test_a_format_that_is_named_takes_no_other() -> None:
    with pytest.raises(BadRow) as bad:
        record_of(PAIRS[0][1], "xtuner")
    assert bad.value.reason == "not_a_record"
    assert set(FORMATS) == set(get_args(From))


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_guide_names_every_format(language: str) -> None:
    guide = (Path(__file__).resolve().parents[2] / "docs" / f"import-records.{language}.md").read_text("utf-8")
    assert [line.split("`")[1] for line in guide.splitlines() if line.startswith("| `")][1:] == list(FORMATS)


words = st.text(min_size=1, max_size=8).filter(lambda text: text.strip())
turns = st.lists(st.tuples(words, words), max_size=3)
prompts = st.tuples(st.none() | words, st.none() | words, turns, words).map(
    lambda drawn: (
        *([ChatMessage("system", drawn[0])] if drawn[0] else []),
        *([ChatMessage("assistant", drawn[1])] if drawn[1] else []),  # a bot that speaks first
        *(message for a, b in drawn[2] for message in (ChatMessage("user", a), ChatMessage("assistant", b))),
        ChatMessage("user", drawn[3]),
    )
)
MADE = Provenance("e1", "c", "web:ann", "s", 5.0)
pairs = st.tuples(words, words).filter(lambda two: two[0].strip() != two[1].strip())


@given(prompts, pairs)
def test_an_exported_pair_comes_back(prompt: tuple[ChatMessage, ...], texts: tuple[str, str]) -> None:
    pair = PreferencePair(prompt, (1,), *texts, None, None, "choice", MADE)
    for row in (trl_row(pair), llamafactory_row(pair)):
        assert record_of(json.loads(json.dumps(row))) == ImportedRecord(prompt, texts)


@given(prompts, words, st.booleans())
def test_an_exported_rating_comes_back(prompt: tuple[ChatMessage, ...], text: str, desirable: bool) -> None:
    rated = RatedReply(prompt, (1,), text, None, desirable, "rating", MADE)
    for row in (trl_row(rated), llamafactory_row(rated)):
        assert record_of(json.loads(json.dumps(row))) == ImportedRecord(prompt, (text,), desirable)


NAMES = "prompt chosen rejected messages label role from content value completion history instruction type text"
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES.split()), inner, max_size=4),
    max_leaves=12,
)


def reason_of(row: Any) -> str:
    """Why the row gives no record, or ""."""
    try:
        record = record_of(row)
    except BadRow as bad:
        return bad.reason
    assert record.prompt[-1].role == "user"
    assert all(reply.strip() for reply in record.replies)
    return ""


@given(anything)
def test_whatever_a_row_holds_it_is_a_record_or_has_a_reason(row: Any) -> None:
    assert reason_of(row) in {"", *REASONS}


# Files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '[{"a": 1},\n {"a": 2}]',
        '\ufeff[{"a": 1}, {"a": 2}]\n',
        '{"a": 1}\n{"a": 2}\n',
        '{"a": 1}\n\n{"a": 2}',
        '{\n  "a": 1\n},\n{\n  "a": 2\n}\n',
        '{"a":\n1\n}\n{"a":\n2}',
    ],
)
def test_an_array_a_row_a_line_or_rows_after_one_another(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, "utf-8")
    assert [row.value for row in rows_of(path)] == [{"a": 1}, {"a": 2}]


def test_what_is_broken_costs_only_itself(tmp_path: Path) -> None:
    lines, cut = tmp_path / "lines.jsonl", tmp_path / "cut.json"
    lines.write_text('{"a": 1}\n{"a": \n{"a": 3}\n', "utf-8")
    assert [(row.number, row.fault) for row in rows_of(lines)] == [(1, ""), (2, "not_json"), (3, "")]
    lines.write_text('{"a": \n{"a": 2}\n', "utf-8")
    assert [(row.number, row.fault) for row in rows_of(lines)] == [(1, "not_json"), (2, "")]
    for end in ("", ",", ', {"a'):  # whoever wrote it was killed
        cut.write_text('[{"a": 1}, {"a": 2}' + end, "utf-8")
        assert [(row.number, row.fault) for row in rows_of(cut)] == [(1, ""), (2, ""), (3, "not_json")]


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(FileUnreadable, match="can't be read"):
        list(rows_of(tmp_path / "nothing.json"))
    (tmp_path / "gbk.json").write_bytes("你好".encode("gbk"))
    with pytest.raises(FileUnreadable, match="not UTF-8"):
        list(rows_of(tmp_path / "gbk.json"))


def test_names_of_ones_own_are_found_in_dataset_info(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    tags = {"role_tag": "who", "content_tag": "what", "user_tag": "A", "assistant_tag": "B", "system_tag": "S"}
    columns = {"messages": "talk", "chosen": "better", "rejected": "worse"}
    info = {"x": {"file_name": "other.json"}, "y": {"file_name": "mine.json", "columns": columns, "tags": tags}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info), "utf-8")
    turns = [("S", "Be kind."), ("A", USER.content)]
    said = [{"who": who, "what": what} for who, what in [*turns, ("B", GOOD), ("B", BAD)]]
    layout = layout_of(path)
    assert layout is not None
    row = layout.common({"talk": said[:2], "better": said[2], "worse": said[3]})
    assert record_of(row, "llamafactory") == ImportedRecord((SYSTEM, USER), (GOOD, BAD))
    info["y"]["columns"] = {"prompt": "q", "response": "a", "kto_tag": "ok"}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info), "utf-8")
    layout = layout_of(path)
    assert layout is not None
    assert record_of(layout.common({"q": USER.content, "a": BAD, "ok": False})) == RATED
    assert layout_of(tmp_path / "third.json") is None
    (tmp_path / "dataset_info.json").write_text("{", "utf-8")
    with pytest.raises(FileUnreadable, match="dataset_info"):
        layout_of(path)


# The store and the night --------------------------------------------------------------------

MORE = ImportedRecord((USER, BOT, ChatMessage("user", "然后呢")), ("a, b", "c"))


@pytest.fixture
def store(tmp_path: Path) -> Any:
    made = Store(f"sqlite:///{tmp_path / 'nightschool.db'}")
    yield made
    made.close()


def add(store: Store, *records: ImportedRecord, source: str = "old", teacher: str = "") -> ImportCount:
    return store.add_imported("default", "bot", source, teacher, records, 7.0)


def test_imported_records_count_and_name_their_source(store: Store) -> None:
    assert add(store, PAIR, RATED, MORE) == ImportCount(3, 0)
    records = store.records("default")
    assert {(one.prompt, one.chosen, one.rejected) for one in records.pairs} == {
        (PAIR.prompt, GOOD, BAD), (MORE.prompt, "a, b", "c")}  # fmt: skip
    assert [(one.completion, one.desirable) for one in records.ratings] == [(BAD, False)]
    told = {(one.provenance.teacher, one.provenance.imported, one.provenance.loras) for one in records.pairs}
    assert told == {("import:old", "old", ())}
    assert {(one.chosen_ids, one.rejected_ids, one.chosen_side) for one in records.pairs} == {(None, None, None)}
    assert records.imported() == store.stats("default")["imported"] == {"old": 3}
    [owner] = store.owners("bot")
    assert (owner.platform, owner.person, owner.teacher) == ("import", "old", True)


def test_importing_again_adds_nothing_and_another_teacher_adds_a_word(store: Store) -> None:
    add(store, PAIR, RATED)
    assert add(store, PAIR, RATED, MORE) == ImportCount(1, 2)
    assert add(store, PAIR, teacher="web:ann") == ImportCount(1, 0)
    assert add(store, PAIR, teacher="web:ann") == ImportCount(0, 1)
    assert store.stats("default")["by_teacher"] == {"import:old": 3, "web:ann": 1}
    assert store.known("bot", "web", "ann") is None  # nobody is made an owner by it


def test_a_source_can_be_forgotten_and_no_other_goes_with_it(store: Store, tmp_path: Path) -> None:
    add(store, PAIR, MORE)
    add(store, PAIR, source="other")
    gone = store.forget("import:old")
    assert len(gone.exchanges) == 2
    assert store.records("default").imported() == {"other": 1}
    assert [one.person for one in store.owners("bot")] == ["other"]
    assert b"a, b" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_a_night_tokenises_them_as_the_model_would_see_them(store: Store) -> None:
    add(store, PAIR, RATED)
    renderer = ChatRenderer(byte_tokenizer())
    examples = build(store.records("default"), renderer, 512, 5).all
    found = {one.kind: (one.prompt, one.replies, one.side) for one in examples}
    prompt = renderer.prompt([USER])
    assert found == {
        "pair": (prompt, (renderer.reply(GOOD), renderer.reply(BAD)), None),
        "bad": (prompt, (renderer.reply(BAD),), None),
    }


@pytest.mark.parametrize("format", ["trl", "llamafactory"])
@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_a_file_that_was_exported_is_imported_whole(store: Store, tmp_path: Path, kind: Any, format: Any) -> None:
    opened = ImportedRecord((SYSTEM, BOT, USER), ("yes\nor no", "，"))
    add(store, PAIR, RATED, MORE, opened, ImportedRecord(opened.prompt, ("fine",), True))
    path, again = tmp_path / "out.json", tmp_path / "again.json"
    count = export(store.records("default"), kind, format, path)
    layout = layout_of(path)
    assert (layout is not None) == (format == "llamafactory")
    records = [record_of(layout.common(row.value) if layout else row.value, format) for row in rows_of(path)]
    assert len(records) == count > 0
    with_others = Store(f"sqlite:///{tmp_path / 'other.db'}")
    add(with_others, *records)
    export(with_others.records("default"), kind, format, again)
    with_others.close()
    assert sorted(map(str, (row.value for row in rows_of(again)))) == sorted(
        map(str, (row.value for row in rows_of(path))))  # fmt: skip
