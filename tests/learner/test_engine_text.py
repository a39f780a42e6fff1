"""Text comes out whole: no broken characters, no part of a stop string, and all of it in the end."""

from hypothesis import given
from hypothesis import strategies as st

from learner.engine.chat_text import ChatText
from learner.engine.detokenise import REPLACEMENT, TextStream
from learner.engine.random_model import byte_tokenizer

TOKENIZER = byte_tokenizer()
DECODE = ChatText(byte_tokenizer()).decode

texts = st.text(st.sampled_from("ab \n你好，世界é😊👩‍🚀🇨🇳" + REPLACEMENT), max_size=40)


def tokens_of(text: str) -> list[int]:
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


def test_letters_come_out_as_they_are_made() -> None:
    stream = TextStream(DECODE)
    assert [stream.push(token) for token in tokens_of("hé你")] == ["h", "", "é", "", "", "你"]


@given(texts)
def test_whole_characters_only_and_all_of_them(text: str) -> None:
    stream = TextStream(DECODE)
    shown = ""
    for token in tokens_of(text):
        shown += stream.push(token)
        assert text.startswith(shown)
    shown += stream.finish()
    assert shown == stream.text
    # A U+FFFD of its own at the very end cannot be told from an unfinished character.
    assert shown.rstrip(REPLACEMENT) == text.rstrip(REPLACEMENT)


@given(st.lists(st.integers(0, 258), max_size=60))
def test_any_bytes_whatever_end_as_the_decoder_writes_them(tokens: list[int]) -> None:
    stream = TextStream(DECODE)
    shown = "".join(stream.push(token) for token in tokens) + stream.finish()
    whole = DECODE(tokens)
    assert shown == stream.text == whole[:-3] + whole[-3:].rstrip(REPLACEMENT)


@given(texts, st.lists(st.text(st.sampled_from("ab \n你好😊"), min_size=1, max_size=4), min_size=1, max_size=3))
def test_a_stop_string_ends_the_text_and_no_part_of_it_shows(text: str, stop: list[str]) -> None:
    text = text.replace(REPLACEMENT, "")
    stream = TextStream(DECODE, stop)
    shown = ""
    for token in tokens_of(text):
        shown += stream.push(token)
        if stream.stopped:
            break
    shown += stream.finish()
    found = [end for s in stop if (at := text.find(s)) >= 0 for end in [at + len(s)]]
    assert stream.stopped == bool(found)
    # The stop string that is complete first ends the text; where two are, the one that began first.
    cut = min((at for s in stop if (at := text.find(s)) >= 0 and at + len(s) == min(found)), default=len(text))
    assert shown == stream.text == text[:cut]
