"""What is read from events and settings, without a connection."""

from __future__ import annotations

import re
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("websockets")

from hypothesis import given
from hypothesis import strategies as st
from nightschool_onebot.segments import Segment, parse, read
from nightschool_onebot.settings import OneBotSettings
from nightschool_onebot.translate import message_key, message_number, to_inbound
from onebot_far_end import cq
from pydantic import ValidationError

from adapters.base import Joined, OwnerWrote

LOOKS_ESCAPED = st.sampled_from(["&#44;", "&amp;#91;", "&", "[CQ:face,id=1]", ",a=b"])
VALUES = st.text(st.characters(codec="utf-8"), max_size=30) | st.lists(LOOKS_ESCAPED, max_size=3).map("".join)
TEXTS = st.builds(lambda text: {"type": "text", "data": {"text": text}}, VALUES.filter(bool))
OTHERS = st.builds(
    lambda kind, data: {"type": kind, "data": data},
    st.sampled_from(["at", "image", "face", "reply", "json", "mface"]),
    st.dictionaries(st.sampled_from(["qq", "id", "file", "url", "name"]), VALUES.filter(bool), max_size=3),
)
OWN = {"self_id": 10000, "user_id": 10000, "message_id": 7, "message": "words"}


def merged(segments: list[dict[str, Any]]) -> list[Segment]:
    """`segments` with neighbouring texts joined, since a CQ string can't tell them apart."""
    found: list[Segment] = []
    for one in segments:
        if found and found[-1].type == one["type"] == "text":
            found[-1] = Segment("text", {"text": found[-1].data["text"] + one["data"]["text"]})
        else:
            found.append(Segment(one["type"], one["data"]))
    return found


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_the_settings_in_the_readme_are_right(name: str) -> None:
    text = Path(__file__).resolve().parents[1].joinpath(name).read_text("utf-8")
    shown = [tomllib.loads(textwrap.dedent(block)) for block in re.findall(r" +```toml\n(.*?)```", text, re.DOTALL)]
    settings = [OneBotSettings.model_validate(one["bots"][0]["platforms"]["onebot"]) for one in shown]
    assert [bool(one.url) for one in settings] == [True, False]
    assert all(one["bots"][0]["adapters"] == ["onebot"] for one in shown)


@given(st.lists(TEXTS | OTHERS, max_size=6))
def test_a_cq_string_says_what_its_segments_say(segments: list[dict[str, Any]]) -> None:
    assert parse(cq(segments)) == merged(segments)


@given(st.lists(TEXTS | OTHERS, max_size=6))
def test_a_list_of_segments_is_read_as_it_is(segments: list[dict[str, Any]]) -> None:
    assert parse(segments) == [Segment(one["type"], one["data"]) for one in segments]


@given(st.text(max_size=60) | st.none() | st.lists(st.none() | st.text(max_size=3)) | st.integers())
def test_no_message_is_too_strange_to_be_read(message: object) -> None:
    content = read(parse(message), "10000")
    assert content.kind in ("text", "other", "sticker", "image", "voice", "video", "file")


def test_a_cq_string_keeps_what_only_looks_like_one() -> None:
    assert parse("a &#91;CQ:face,id=1&#93; b &amp;#91;") == [Segment("text", {"text": "a [CQ:face,id=1] b &#91;"})]


def test_ids_name_chat_and_message() -> None:
    key = message_key("group:30001", -77)
    assert (key, message_number(key, "group:30001")) == ("group:30001/-77", "-77")
    assert (message_number(key, "20001"), message_number(None, "20001")) == ("", "")


@pytest.mark.parametrize(
    ("event", "chat"),
    [
        ({**OWN, "post_type": "message_sent", "target_id": 20001}, "20001"),
        ({**OWN, "post_type": "message_sent", "group_id": 30001}, "group:30001"),
        ({**OWN, "post_type": "message", "target_id": 20001}, "20001"),
        ({**OWN, "post_type": "message_sent"}, None),
        ({**OWN, "post_type": "message_sent", "target_id": 10000}, None),
        ({**OWN, "post_type": "message_sent", "target_id": 20001, "message": "[CQ:image,file=a]"}, None),
    ],
)
def test_the_owners_words_belong_to_whom_they_were_written_to(event: dict[str, Any], chat: str | None) -> None:
    wrote = to_inbound(event)
    assert (wrote.chat if isinstance(wrote, OwnerWrote) else wrote) == chat


def test_the_bot_itself_is_no_newcomer() -> None:
    notice = {"post_type": "notice", "notice_type": "group_increase", "self_id": 10000, "group_id": 30001, "time": 1}
    assert to_inbound({**notice, "user_id": 10000}) is None
    assert isinstance(to_inbound({**notice, "user_id": 20003}), Joined)
    assert to_inbound({**notice, "notice_type": "group_card", "user_id": 20003}) is None


@pytest.mark.parametrize(
    ("given_settings", "complaint"),
    [
        ({}, "either url"),
        ({"url": "ws://127.0.0.1:1", "listen": "127.0.0.1:2"}, "only one"),
        ({"url": "http://127.0.0.1:3001"}, "begin with ws"),
        ({"url": "ws://127.0.0.1:3001/?access_token=abc"}, "holds a secret"),
        ({"url": "ws://me:abc@127.0.0.1:3001"}, "holds a secret"),
        ({"listen": "3002"}, "a host and a port"),
        ({"listen": "127.0.0.1:port"}, "a host and a port"),
        ({"listen": "0.0.0.0:3002"}, "set token_env"),
        ({"url": "ws://127.0.0.1:3001", "tokn_env": "X"}, "Extra inputs"),
    ],
)
def test_faults_in_the_settings_are_said(given_settings: dict[str, str], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint) as fault:
        OneBotSettings.model_validate(given_settings)
    assert "abc" not in str([{**one, "input": ""} for one in fault.value.errors(include_input=False)])


def test_the_token_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEBOT_TOKEN", "abc")
    settings = OneBotSettings(listen="[::1]:3002", token_env="ONEBOT_TOKEN")
    assert settings.address == ("::1", 3002)
    assert settings.token.get_secret_value() == "abc"
    assert "abc" not in repr(settings) + str(settings.token) + settings.model_dump_json()
