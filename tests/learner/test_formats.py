"""Exports as the other tools read them, and our own JSON lines there and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.engine.base import ChatMessage
from learner.formats import (
    FormatError,
    RecordsUnreadable,
    exchanges_in,
    export,
    records_from_jsonl,
    records_to_jsonl,
)
from learner.formats.export import llamafactory_row
from learner.records import PreferencePair, PreferenceRecords, Provenance, RatedReply

PROVENANCE = Provenance("e1", "c", "web:ann", "bot/web/c/e1", 5.0, ("0001", None))
PROMPT = (
    ChatMessage("system", "Be kind."),
    ChatMessage("user", "你好"),
    ChatMessage("assistant", "hello, you"),
    ChatMessage("user", "how\nare you?"),
)


def pair(prompt: tuple[ChatMessage, ...] = PROMPT, ids: tuple[int, ...] | None = (3,)) -> PreferencePair:
    return PreferencePair(prompt, (1, 2), "fine，thanks", "bad", ids, (4, 5), "choice", PROVENANCE)


def rated(prompt: tuple[ChatMessage, ...] = PROMPT, desirable: bool = True) -> RatedReply:
    return RatedReply(prompt, (1, 2), "fine", (3,), desirable, "rating", PROVENANCE)


RECORDS = PreferenceRecords((pair(), pair(PROMPT[1:], None)), (rated(), rated(desirable=False)), 2, {"empty": 1})


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_trl_dpo(tmp_path: Path) -> None:
    path = tmp_path / "dpo.jsonl"
    assert export(RECORDS, "dpo", "trl", path) == 2
    first = lines_of(path)[0]
    assert first == {
        "prompt": [{"role": message.role, "content": message.content} for message in PROMPT],
        "chosen": [{"role": "assistant", "content": "fine，thanks"}],
        "rejected": [{"role": "assistant", "content": "bad"}],
    }
    assert "你好" in path.read_text(encoding="utf-8")


def test_trl_kto(tmp_path: Path) -> None:
    path = tmp_path / "kto.jsonl"
    assert export(RECORDS, "kto", "trl", path) == 2
    rows = lines_of(path)
    assert [set(row) for row in rows] == [{"prompt", "completion", "label"}] * 2
    assert [row["label"] for row in rows] == [True, False]
    assert rows[0]["completion"] == [{"role": "assistant", "content": "fine"}]


def check_llamafactory(row: dict[str, Any], kind: str) -> None:
    """LLaMA-Factory's ShareGPT converter would keep the row."""
    assert isinstance(row["system"], str)
    if kind == "dpo":
        assert set(row) == {"conversations", "chosen", "rejected", "system"}
        said = [(line["from"], line["value"]) for line in row["conversations"]]
        assert [name for name, _ in said] == ["human", "gpt"] * (len(said) // 2) + ["human"]
        for side in ("chosen", "rejected"):
            assert set(row[side]) == {"from", "value"}
            assert row[side]["from"] == "gpt"
    else:
        assert set(row) == {"messages", "label", "system"}
        assert type(row["label"]) is bool
        roles = [message["role"] for message in row["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert len(roles) >= 2


@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_llamafactory(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "mine.json"
    (tmp_path / "dataset_info.json").write_text('{"theirs": {"file_name": "x.json"}}')
    assert export(RECORDS, kind, "llamafactory", path) == 2
    for row in json.loads(path.read_text(encoding="utf-8")):
        check_llamafactory(row, kind)
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    assert set(info) == {"theirs", "mine"}
    mine = info["mine"]
    assert (mine["file_name"], mine["formatting"]) == ("mine.json", "sharegpt")
    assert mine.get("ranking", False) == (kind == "dpo")
    if kind == "kto":
        assert (mine["columns"]["messages"], mine["columns"]["kto_tag"]) == ("messages", "label")
        assert (mine["tags"]["role_tag"], mine["tags"]["user_tag"]) == ("role", "user")


PROMPTS = st.lists(st.builds(ChatMessage, st.sampled_from(["user", "assistant"]), st.text(max_size=5)), max_size=6).map(
    lambda turns: (*turns, ChatMessage("user", "and?"))
)


@given(prompt=PROMPTS, system=st.booleans())
def test_any_conversation_alternates_for_llamafactory(prompt: tuple[ChatMessage, ...], system: bool) -> None:
    whole = (PROMPT[0], *prompt) if system else prompt
    dpo, kto = llamafactory_row(pair(whole)), llamafactory_row(rated(whole))
    check_llamafactory(dpo, "dpo")
    check_llamafactory(kto, "kto")
    values = "".join(line["value"] for line in dpo["conversations"]).replace("\n", "")
    assert values == "".join(message.content for message in prompt).replace("\n", "")


def test_an_export_replaces_the_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "dpo.jsonl"
    export(RECORDS, "dpo", "trl", path)
    export(PreferenceRecords((), (), 0, {}), "dpo", "trl", path)
    assert path.read_text() == ""
    assert [one.name for one in path.parent.iterdir()] == ["dpo.jsonl"]


def test_a_broken_dataset_info_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text("{broken")
    with pytest.raises(FormatError, match=r"dataset_info\.json is not JSON"):
        export(RECORDS, "dpo", "llamafactory", tmp_path / "mine.json")
    assert (tmp_path / "dataset_info.json").read_text() == "{broken"
    assert not (tmp_path / "mine.json").exists()


def test_an_unknown_format_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="llamafactory"):
        export(RECORDS, "dpo", "alpaca", tmp_path / "x")  # type: ignore[arg-type]


def test_our_own_lines_come_back_as_they_were(tmp_path: Path) -> None:
    records_to_jsonl(tmp_path, RECORDS)
    assert records_from_jsonl(tmp_path) == RECORDS
    assert exchanges_in(tmp_path) == {"e1"}


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    records_to_jsonl(tmp_path, RECORDS)
    with (tmp_path / "pairs.jsonl").open("a") as file:
        file.write("{half")
    with pytest.raises(RecordsUnreadable, match=r"pairs\.jsonl, line 3"):
        records_from_jsonl(tmp_path)
    with pytest.raises(RecordsUnreadable, match="nowhere"):
        records_from_jsonl(tmp_path / "nowhere")
