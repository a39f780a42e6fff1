"""Chat templates for bases that come without one, each by the name of the family whose tokens it writes.

Knows nothing of tokenizers. Written after the families' published templates; a role that a template does not know is
refused by it, and the system's text is then put before the first user's.
"""

from __future__ import annotations

from dataclasses import dataclass

NO_SYSTEM = "{{ raise_exception('no system role') }}"


@dataclass(frozen=True)
class ChatTemplate:
    """A Jinja template, and the token that ends a reply in it ("": the tokenizer's own end token)."""

    jinja: str
    end: str = ""


def _turns(turn: str, opening: str, before: str = "") -> str:
    return (
        f"{before}{{% for m in messages %}}{turn}{{% endfor %}}{{% if add_generation_prompt %}}{opening}{{% endif %}}"
    )


def _by_role(user: str, assistant: str, system: str = NO_SYSTEM) -> str:
    return (
        f"{{% if m['role'] == 'user' %}}{user}{{% elif m['role'] == 'assistant' %}}{assistant}"
        f"{{% else %}}{system}{{% endif %}}"
    )


SAID = "{{ m['content'] }}"
CHATML = _turns("<|im_start|>{{ m['role'] }}\n" + SAID + "<|im_end|>\n", "<|im_start|>assistant\n")
PLAIN = _turns("{{ m['role'] | capitalize }}: " + SAID + "\n", "Assistant:")

TEMPLATES = {
    "chatml": ChatTemplate(CHATML, "<|im_end|>"),
    "internlm": ChatTemplate("{{ bos_token }}" + CHATML, "<|im_end|>"),
    "llama3": ChatTemplate(
        _turns(
            "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n" + SAID + "<|eot_id|>",
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            "{{ bos_token }}",
        ),
        "<|eot_id|>",
    ),
    "mistral": ChatTemplate(
        _turns(_by_role("[INST] " + SAID + " [/INST]", " " + SAID + "{{ eos_token }}"), "", "{{ bos_token }}")
    ),
    "gemma": ChatTemplate(
        _turns(
            _by_role(
                "<start_of_turn>user\n" + SAID + "<end_of_turn>\n", "<start_of_turn>model\n" + SAID + "<end_of_turn>\n"
            ),
            "<start_of_turn>model\n",
            "{{ bos_token }}",
        ),
        "<end_of_turn>",
    ),
    "glm4": ChatTemplate(_turns("<|{{ m['role'] }}|>\n" + SAID, "<|assistant|>\n", "[gMASK]<sop>"), "<|user|>"),
    "baichuan": ChatTemplate(
        _turns(_by_role("<reserved_106>" + SAID, "<reserved_107>" + SAID + "{{ eos_token }}", SAID), "<reserved_107>")
    ),
    "plain": ChatTemplate(PLAIN),
}
