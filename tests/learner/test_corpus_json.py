"""JSON of any length is walked through like json.loads would, and found again behind what is broken."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.corpus.readers import json_stream
from learner.corpus.readers.json_rows import is_lines, json_rows
from learner.corpus.readers.json_stream import JsonStream, NotJson
from learner.corpus.rows import Dropped

STRINGS = st.text(st.characters(exclude_categories=("Cs",)), max_size=5)
VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | STRINGS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRINGS, inner, max_size=3),
    max_leaves=5,
)
INDENTS = st.sampled_from([None, 0, 2])


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every value crosses the end of a piece."""
    monkeypatch.setattr(json_stream, "CHUNK", 3)


def stream_of(text: str) -> JsonStream:
    return JsonStream(io.StringIO(text))


@settings(max_examples=40, deadline=None)
@given(st.lists(VALUES, max_size=5), INDENTS)
def test_elements_are_those_of_the_array(values: list[Any], indent: int | None) -> None:
    text = json.dumps(values, indent=indent)
    found = list(stream_of(text).elements())
    assert [value for _, value in found] == values
    assert all(text.splitlines()[line - 1].strip() for line, _ in found)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(STRINGS, VALUES, max_size=5), INDENTS)
def test_members_are_those_of_the_object(values: dict[str, Any], indent: int | None) -> None:
    stream = stream_of(json.dumps(values, indent=indent))
    assert {name: stream.value() for name in stream.members()} == values


@settings(max_examples=40, deadline=None)
@given(st.lists(st.dictionaries(STRINGS, VALUES, max_size=3), min_size=3, max_size=6), st.data())
def test_a_broken_element_costs_itself_only(values: list[Any], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(values) - 1))
    texts = [json.dumps(value) for value in values]
    texts[at] = '{"a": 1, "b": }'
    found = [value for _, value in stream_of("[" + ",\n".join(texts) + "]").elements()]
    assert isinstance(found[at], NotJson)
    assert found[:at] + found[at + 1 :] == values[:at] + values[at + 1 :]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.dictionaries(STRINGS, VALUES, max_size=3), min_size=1, max_size=5), st.data())
def test_a_file_that_ends_too_early_gives_what_is_whole(values: list[Any], data: st.DataObject) -> None:
    text = json.dumps(values, indent=1)
    cut = data.draw(st.integers(1, len(text) - 1))
    found: list[Any] = []
    stream = stream_of(text[:cut])
    with pytest.raises(NotJson):  # noqa: PT012 - what was found before is looked at
        for _, value in stream.elements():
            if isinstance(value, NotJson):
                raise value
            found.append(value)
        if not stream.gave_up:
            raise AssertionError("the end was not missed")
    assert found == values[: len(found)]


ROWS = st.lists(st.dictionaries(STRINGS, VALUES, max_size=3), min_size=1, max_size=5)


@settings(max_examples=40, deadline=None)
@given(ROWS, st.sampled_from(["lines", "array", "pretty"]))
def test_rows_come_from_lines_and_arrays(tmp_path_factory: pytest.TempPathFactory, rows: list[Any], how: str) -> None:
    path = tmp_path_factory.mktemp("json") / "x"
    lines = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"
    path.write_text(
        lines if how == "lines" else json.dumps(rows, indent=2 if how == "pretty" else None), "utf-8", "surrogatepass"
    )
    assert [row for _, row in json_rows(path)] == rows


def test_a_line_that_is_a_list_is_a_row_where_it_is_a_dialogue(tmp_path: Path) -> None:
    path = tmp_path / "x"
    dialogue = json.dumps([{"role": "user", "content": "a"}])
    for text, lines in (
        (dialogue, True),
        (f"{dialogue}\n{dialogue}\n", True),
        (f"[{dialogue}]", False),
        ('[{"a": 1}]', False),
    ):
        path.write_text(text)
        assert is_lines(path) is lines, text


def test_what_is_wrong_is_said_without_the_text(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text('{"a": "fine"}\n{"a": secret}\n' + "[" * 100_000 + "\n")
    rows = list(json_rows(path))
    assert [line for line, _ in rows] == [1, 2, 3]
    assert all(isinstance(row, Dropped) and "secret" not in row.detail for _, row in rows[1:])
