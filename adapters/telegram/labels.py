"""What stands on buttons and in the menu of commands, by language. Knows nothing of what they do."""

from __future__ import annotations

from collections.abc import Mapping

from adapters.base import Verdict

CHOICES: tuple[Verdict, ...] = ("1", "2", "both_bad")
RATINGS: tuple[Verdict, ...] = ("good", "bad")
BUTTONS: Mapping[str, Mapping[Verdict, str]] = {
    "zh": {"1": "1", "2": "2", "both_bad": "都不好", "tie": "都行", "good": "👍", "bad": "👎"},
    "en": {"1": "1", "2": "2", "both_bad": "Both bad", "tie": "Either", "good": "👍", "bad": "👎"},
}
CHOSEN = "✅"
REFUSED = "❌"
TAKEN_BACK = "↩"
COMMANDS: Mapping[str, Mapping[str, str]] = {
    "zh": {
        "help": "怎么用",
        "undo": "撤回上一条评价",
        "retry": "换一条回复",
        "reset": "从头聊起",
        "status": "现在的状态",
        "persona": "它是谁",
        "pause": "先别说话，或接着说",
        "lang": "换语言",
        "forget": "忘掉我",
        "learn": "现在就上夜校（主人）",
    },
    "en": {
        "help": "how it works",
        "undo": "take your last feedback back",
        "retry": "another reply",
        "reset": "start afresh",
        "status": "how it stands",
        "persona": "who it is",
        "pause": "be silent here, or go on",
        "lang": "another language",
        "forget": "forget me",
        "learn": "night school now (owner)",
    },
}
