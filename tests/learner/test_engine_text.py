"""Text comes out whole: no broken characters, no part of a stop string, and all of it in the end."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from learner.engine.base import ChatMessage
from learner.engine.chat_text import ChatText
from learner.engine.detokenise import REPLACEMENT, TextStream
from learner.engine.random_model import byte_tokenizer

STARTER = Path(__file__).resolve().parents[2] / "data" / "starter"
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


# Who may speak first ------------------------------------------------------------------------

ALTERNATING = (  # as Gemma's: no system role, the user first, then by turns
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "<{{ 'model' if m['role'] == 'assistant' else 'user' }}>{{ m['content'] | trim }}</>{% endfor %}"
    "{% if add_generation_prompt %}<model>{% endif %}"
)
AFTER_SYSTEM = (  # as Mistral's: a system message, and then user and assistant by turns
    "{% if messages[0]['role'] == 'system' %}{% set system, turns = messages[0]['content'] ~ ' ', messages[1:] %}"
    "{% else %}{% set system, turns = '', messages %}{% endif %}"
    "{% for m in turns %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('After the optional system message, roles must alternate') }}{% endif %}"
    "{% if m['role'] == 'user' %}[I]{{ system if loop.first }}{{ m['content'] }}[/I]"
    "{% else %}{{ m['content'] }}</s>{% endif %}{% endfor %}"
)
SYSTEM, GREETING = ChatMessage("system", "Be Ann."), ChatMessage("assistant", "welcome")
HELLO = ChatMessage("user", "hello")


def rendered(template: str, *messages: ChatMessage) -> str:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    return tokenizer.decode(ChatText(tokenizer).render(messages))


def test_an_assistant_may_speak_first_whatever_the_template_demands() -> None:
    greeted = (SYSTEM, GREETING, HELLO)
    assert rendered(ALTERNATING, *greeted) == "<user>Be Ann.</><model>welcome</><user>hello</><model>"
    assert rendered(ALTERNATING, *greeted[1:]) == "<user>…</><model>welcome</><user>hello</><model>"
    assert rendered(AFTER_SYSTEM, *greeted) == "[I]Be Ann.[/I]welcome</s>[I]hello[/I]"
    assert rendered(AFTER_SYSTEM, *greeted[1:]) == "[I]…[/I]welcome</s>[I]hello[/I]"
    assert rendered(AFTER_SYSTEM, SYSTEM, HELLO) == "[I]Be Ann. hello[/I]"  # as the template has it


def test_the_starter_s_template_takes_a_greeting_as_it_is() -> None:
    text = ChatText.load(STARTER)
    tokens = text.render((SYSTEM, GREETING, HELLO))
    turns = "<|im_start|>system\nBe Ann.<|im_end|>\n<|im_start|>assistant\nwelcome<|im_end|>\n<|im_start|>user\nhello"
    assert text._tokenizer.decode(tokens) == f"{turns}<|im_end|>\n<|im_start|>assistant\n"
