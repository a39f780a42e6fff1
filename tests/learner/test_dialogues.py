"""The file between corpus and training."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.corpus import dialogues
from learner.corpus.dialogues import ROLES, Dialogue
from learner.engine.base import ChatMessage

messages = st.lists(st.builds(ChatMessage, st.sampled_from(ROLES), st.text()), min_size=1, max_size=5).map(tuple)


@given(st.builds(Dialogue, messages, st.text(), st.none(), st.dictionaries(st.text(), st.text(), max_size=2)))
def test_a_dialogue_comes_back_as_it_was_written(dialogue: Dialogue) -> None:
    line = dialogue.to_json()
    assert "\n" not in line
    assert Dialogue.from_json(line) == dialogue


def test_a_file_comes_back_and_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    some = [Dialogue((ChatMessage("user", "早"), ChatMessage("assistant", "早呀\n")), "x", (1,))] * 3
    assert dialogues.write(path, some) == 3
    assert list(dialogues.read(path)) == some
    assert [one.name for one in tmp_path.iterdir()] == ["corpus.jsonl"]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", "not JSON"),
        ("[]", "expected"),
        ('{"messages": []}', "expected"),
        ('{"messages": [{"role": "human", "content": "x"}]}', "messages.0"),
        ('{"messages": [{"role": "user", "content": "x"}], "learned": [0]}', "learned"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, fault: str) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "x"}]}\n' + line + "\n", "utf-8")
    with pytest.raises(ValueError, match="corpus.jsonl:2: .*" + fault):
        list(dialogues.read(path))
