"""What an answer must hold: topics, a dialogue, a profile or a restyled text, each by its schema.

Knows nothing of how an answer was got. What is not fit is Unfit, with a reason that is counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from learner.corpus.synthesis.extracting import values
from learner.corpus.synthesis.wire import Answer
from learner.engine.base import ChatMessage

USERS = {"user", "human", "用户", "对方", "visitor", "person", "问", "q", "question", "me", "客人", "朋友"}
CHARACTERS = {"assistant", "character", "gpt", "bot", "角色", "助手", "答", "a", "answer", "model", "ai", "chatbot"}
LONGEST_MESSAGE = 4000  # characters


class Unfit(Exception):
    """An answer that can't be used. `reason` is a word that is counted."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Shape(BaseModel):
    """Base of the schemas: what a model adds besides is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


Text = Annotated[str, Field(min_length=1, max_length=LONGEST_MESSAGE)]


class TopicList(Shape):
    """Some topics."""

    topics: Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def a_bare_list_will_do(cls, value: Any) -> Any:
        """Accept the list alone, and objects that hold the topic's text under any one name."""
        rows = value if isinstance(value, list) else _only_list(value)
        return {"topics": [_only_text(row) for row in rows]}


class Turn(Shape):
    """One message of a dialogue as a model writes it."""

    role: str
    content: Text

    @model_validator(mode="before")
    @classmethod
    def other_names_will_do(cls, value: Any) -> Any:
        """Accept ShareGPT's names, and {"user": "…"}."""
        if not isinstance(value, dict):
            raise ValueError("a message is no object")
        role = next((value[name] for name in ("role", "from", "speaker", "角色") if name in value), None)
        text = next((value[name] for name in ("content", "value", "text", "内容") if name in value), None)
        if role is None and text is None and len(value) == 1:
            ((role, text),) = value.items()
        return {"role": role, "content": text.strip() if isinstance(text, str) else text}


class Talk(Shape):
    """A dialogue as a model writes it."""

    dialogue: Annotated[list[Turn], Field(min_length=2)]

    @model_validator(mode="before")
    @classmethod
    def a_bare_list_will_do(cls, value: Any) -> Any:
        """Accept the list alone or under another name, and one question with its answer."""
        if isinstance(value, dict) and len(value) >= 2 and all(isinstance(one, str) for one in value.values()):
            sides = {"user": USERS & value.keys(), "assistant": CHARACTERS & value.keys()}
            if all(len(names) == 1 for names in sides.values()):
                return {"dialogue": [{"role": role, "content": value[names.pop()]} for role, names in sides.items()]}
        return {"dialogue": value if isinstance(value, list) else _only_list(value)}


class CharacterSketch(Shape):
    """Who a character is, in a model's words."""

    profile: Text
    speech: str = Field("", max_length=LONGEST_MESSAGE)
    catchphrases: list[str] = []
    greeting: Text
    first_words: Annotated[list[Text], Field(min_length=1)]

    @field_validator("catchphrases", "first_words", mode="before")
    @classmethod
    def one_text_is_a_list(cls, value: Any) -> Any:
        """Accept a single text."""
        return [value] if isinstance(value, str) else value


class Restyled(Shape):
    """An answer in another style."""

    answer: Text

    @model_validator(mode="before")
    @classmethod
    def one_text_under_any_name(cls, value: Any) -> Any:
        """Accept the text under whatever name the model chose, if it is the only one."""
        if isinstance(value, dict) and "answer" not in value:
            return {"answer": _only_text(value)}
        return value


Wanted = TypeVar("Wanted", bound=Shape)


def read(shape: type[Wanted], answer: Answer) -> Wanted:
    """The first value in an answer that has this shape. Raises Unfit."""
    if not answer.text.strip():
        raise Unfit("empty", "the answer is empty")
    fault = ""
    for value in values(answer.text):
        try:
            return shape.model_validate(value)
        except (ValidationError, ValueError, TypeError) as error:
            fault = fault or _first_fault(error)
    if answer.finish == "length":
        raise Unfit("cut off", "the answer was cut off; raise --max-tokens")
    if fault:
        raise Unfit("wrong shape", fault)
    raise Unfit("unreadable", "no JSON in the answer")


def messages(talk: Talk, name: str = "") -> tuple[ChatMessage, ...]:
    """A dialogue's messages: roles made ours, two in a row of one speaker joined, ending with the assistant's.

    `name` is the character's, which some models write as the role. Raises Unfit.
    """
    joined: list[ChatMessage] = []
    for turn in talk.dialogue:
        role = turn.role.strip().lower()
        if role == "system":
            continue
        if role not in USERS | CHARACTERS | {name.strip().lower()}:
            raise Unfit("wrong shape", f"a message's role is {turn.role[:40]!r}, neither user nor character")
        if joined and (joined[-1].role == "user") == (role in USERS):
            joined[-1] = ChatMessage(joined[-1].role, f"{joined[-1].content}\n{turn.content}")
        else:
            joined.append(ChatMessage("user" if role in USERS else "assistant", turn.content))
    if joined and joined[-1].role == "user":
        joined.pop()
    if {one.role for one in joined} != {"user", "assistant"}:
        raise Unfit("too short", "fewer than one message and its reply")
    return tuple(joined)


def forbid(spoken: Iterable[ChatMessage], outside: Iterable[str]) -> None:
    """Raise Unfit where the assistant says what only a model would say of itself."""
    for one in spoken:
        for words in outside if one.role == "assistant" else ():
            if words.lower() in one.content.lower():
                raise Unfit("out of character", f"the character says {words!r}")


def _first_fault(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False, include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
    return str(error)


def _only_list(value: Any) -> Any:
    lists = [one for one in value.values() if isinstance(one, list)] if isinstance(value, dict) else []
    if len(lists) != 1:
        raise ValueError("expected one list")
    return lists[0]


def _only_text(value: Any) -> str:
    texts = [value] if isinstance(value, str) else []
    if isinstance(value, dict):
        texts = [one for one in value.values() if isinstance(one, str)]
    if len(texts) != 1:
        raise ValueError("expected one text")
    return texts[0].strip()
