"""Thoughts are dropped from a stream, however its pieces are cut."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.engine.base import ChatMessage
from learner.engine.detokenise import TextStream
from learner.engine.thinking import ThoughtFilter, without_thoughts

# The same said at once: a thought with the white space around it, or an end that nothing began.
THOUGHT = re.compile(r"(?:\A\s+)?<think>.*?(?:</think>\s*|\Z)|</think>\s*", re.DOTALL)
PIECES = st.sampled_from(["<think>", "</think>", "<", "</", "think>", "<thi", "nk>", " ", "\n", "a", "好", "<b>", ">"])
TEXTS = st.lists(PIECES, max_size=14).map("".join)


@given(TEXTS, st.booleans(), st.data())
def test_a_stream_gives_what_is_no_thought_however_it_is_cut(text: str, begun: bool, data: st.DataObject) -> None:
    wanted = THOUGHT.sub("", ("<think>" if begun else "") + text)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=len(text))))
    thoughts, shown = ThoughtFilter(begun), ""
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        shown += thoughts.push(text[start:end])
        assert wanted.startswith(shown)  # nothing is taken back
    assert shown + thoughts.finish() == wanted == without_thoughts(text, begun)


@given(st.text(alphabet="ab \n好<>/"), st.data())
def test_text_without_thoughts_stays_as_it_is(text: str, data: st.DataObject) -> None:
    thoughts = ThoughtFilter()
    cut = data.draw(st.integers(0, len(text)))
    assert thoughts.push(text[:cut]) + thoughts.push(text[cut:]) + thoughts.finish() == text
    assert not thoughts.hid


def test_what_was_only_thought_is_known() -> None:
    thoughts = ThoughtFilter()
    told = []
    for piece in ("<think>", "hm", "</think>", "\n\n", "<", "b>", " so"):
        thoughts.push(piece)
        told.append(thoughts.only_thought)
    assert told == [True, True, True, True, False, False, False]
    assert (thoughts.hid, thoughts.stray) == (True, False)
    late = ThoughtFilter()
    assert late.push("a thought that the server began</think> yes") == "a thought that the server beganyes"
    assert late.stray


def tokens_of(text: str) -> list[int]:
    return list(text.encode())


def decode(tokens: Sequence[int]) -> str:
    return bytes(tokens).decode("utf-8", "replace")


@given(TEXTS, st.booleans())
def test_tokens_of_a_reply_are_those_after_its_thought(text: str, begun: bool) -> None:
    stream, shown = TextStream(decode, (), ThoughtFilter(begun)), ""
    for token in tokens_of(text):
        shown += stream.push(token)
    shown += stream.finish()
    assert shown == stream.text == without_thoughts(text, begun)
    if stream.reply_from is not None:
        rest = decode(tokens_of(text)[stream.reply_from :])
        assert stream.text in rest


def test_a_stop_string_in_a_thought_stops_nothing() -> None:
    stream, shown = TextStream(decode, ("END",), ThoughtFilter()), ""
    for token in tokens_of("<think>the END is near</think>\n\n好, go END here"):
        shown += stream.push(token)
        if stream.stopped:
            break
    assert shown + stream.finish() == "好, go "
    assert stream.reply_from == len("<think>the END is near</think>\n\n")


ASKS = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    "{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}"
)


def test_a_template_that_can_is_asked_for_no_thoughts_unless_they_are_wanted() -> None:
    from learner.engine.chat_text import ChatText
    from learner.engine.random_model import byte_tokenizer

    asked = {}
    for thinking in (False, True):
        tokenizer = byte_tokenizer()
        tokenizer.chat_template = ASKS
        text = ChatText(tokenizer, thinking)
        asked[thinking] = text.decode(text.render([ChatMessage("user", "hi")]))
    assert asked == {False: "[user]hi<think></think>", True: "[user]hi"}


def test_tags_that_are_special_tokens_are_seen_all_the_same() -> None:
    from learner.engine.chat_text import ChatText
    from learner.engine.random_model import byte_tokenizer

    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<think>", "</think>"]})
    text = ChatText(tokenizer)
    ids = tokenizer("<|im_start|><think>hm</think>yes<|im_end|>", add_special_tokens=False)["input_ids"]
    assert text.decode(ids) == "<think>hm</think>yes"


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_reply_that_begins_in_a_thought_shows_nothing_of_it(tmp_path: Path) -> None:
    """A real model (of random weights) whose template opens the thought, as DeepSeek-R1's does."""
    import shutil

    from tests.learner.engine_tiny import asking, engine, folder, run, sampled

    model = shutil.copytree(folder(), tmp_path / "model")
    for file in model.glob("chat_template*"):
        file.unlink()
    described = json.loads((model / "tokenizer_config.json").read_text())
    opening = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}<think>\n"
    (model / "tokenizer_config.json").write_text(json.dumps({**described, "chat_template": opening}))

    async def main() -> None:
        heard: list[str] = []
        async with engine(model) as running:
            prompt = running.render([ChatMessage("user", "hi")])
            hidden = await running.generate(asking(prompt, sampled(1, 30)), lambda _, text: heard.append(text))
            assert heard == []
            [candidate] = hidden.candidates
            assert (candidate.text, candidate.token_ids, candidate.finish) == ("", (), "length")
        async with engine(model, show_thoughts=True) as running:
            [shown] = (await running.generate(asking(prompt, sampled(1, 30)))).candidates
            assert len(shown.token_ids) == 30
            assert shown.text

    run(main)


def test_a_night_reads_replies_without_thoughts_and_does_not_practise_on_them() -> None:
    from learner.engine.random_model import byte_tokenizer
    from learner.training.generate import told
    from learner.training.model import ChatRenderer

    renderer = ChatRenderer(byte_tokenizer())

    def reply(prompt: str, text: str) -> tuple[str, bool, bool]:
        made = told(renderer, renderer.reply(prompt)[:-1], renderer.reply(text))
        return made.text, made.ended, made.thought

    assert reply("hi", "<think>hm</think>\nyes") == ("yes", True, True)
    assert reply("hi<think>\n", "hm</think>yes") == ("yes", True, True)
    assert reply("hi", "yes") == ("yes", True, False)
