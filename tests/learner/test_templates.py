"""Bases without a chat template: each named one writes its family's turns, ends replies, and is the night's too."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from bots.settings import ModelSettings
from learner.engine.base import ChatMessage
from learner.engine.chat_text import ChatText
from learner.engine.random_model import byte_tokenizer
from learner.engine.templates import TEMPLATES

MESSAGES = [
    ChatMessage("system", "S"),
    ChatMessage("user", "U1"),
    ChatMessage("assistant", "A"),
    ChatMessage("user", "U2"),
]
WRITTEN = {
    "chatml": "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
    "<|im_start|>user\nU2<|im_end|>\n<|im_start|>assistant\n",
    "llama3": "<|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nU1"
    "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
    "U2<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "mistral": "[INST] S\n\nU1 [/INST] A</s>[INST] U2 [/INST]",
    "gemma": "<start_of_turn>user\nS\n\nU1<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n"
    "<start_of_turn>user\nU2<end_of_turn>\n<start_of_turn>model\n",
    "glm4": "[gMASK]<sop><|system|>\nS<|user|>\nU1<|assistant|>\nA<|user|>\nU2<|assistant|>\n",
    "baichuan": "S<reserved_106>U1<reserved_107>A</s><reserved_106>U2<reserved_107>",
    "plain": "System: S\nUser: U1\nAssistant: A\nUser: U2\nAssistant:",
}


def bare(end: str = "</s>", *tokens: str) -> Any:
    """A tokenizer without a template, whose end token is `end`."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    tokenizer.add_special_tokens({"eos_token": end, "additional_special_tokens": [*tokens]})
    return tokenizer


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_named_template_writes_its_familys_turns(name: str) -> None:
    chosen = TEMPLATES[name]
    tokenizer = bare("</s>", *([chosen.end] if chosen.end else []))
    text = ChatText(tokenizer, template=name)
    written = tokenizer.decode(text.render(MESSAGES), skip_special_tokens=False)
    assert written == WRITTEN["chatml" if name == "internlm" else name]
    reply = text.reply("yes")
    assert tokenizer.decode(reply, skip_special_tokens=False) == f"yes{chosen.end or '</s>'}"
    assert reply[-1] in text.end_ids
    assert tokenizer.eos_token_id in text.end_ids
    assert text.reply("yes", ended=False) == reply[:-1]


def test_a_named_template_stands_for_the_models_own() -> None:
    own, named = byte_tokenizer(), byte_tokenizer()
    assert ChatText(own).render(MESSAGES) != ChatText(named, template="plain").render(MESSAGES)


def test_a_vocabulary_without_the_templates_end_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    text = ChatText(bare(), template="llama3")
    assert "no <|eot_id|>" in caplog.text
    assert text.reply("x")[-1] == bare().eos_token_id


def test_the_settings_name_the_templates_that_there_are() -> None:
    named = get_args(ModelSettings.model_fields["template"].annotation)
    assert set(named) == {"auto", *TEMPLATES}


def test_a_night_reads_as_the_engine_does(tmp_path: Any) -> None:
    from bots.lesson import night_request
    from learner.training.model import ChatRenderer
    from tests.conftest import settings_for

    settings = settings_for(tmp_path, model={"name": str(tmp_path), "engine": "local", "template": "gemma"})
    request = night_request(settings, "default", 1)
    renderer = ChatRenderer(bare("</s>", "<end_of_turn>"), (), request.template)
    engine = ChatText(bare("</s>", "<end_of_turn>"), template=settings.model.template)
    assert renderer.prompt(MESSAGES) == engine.render(MESSAGES)
    assert renderer.reply("yes") == engine.reply("yes")
