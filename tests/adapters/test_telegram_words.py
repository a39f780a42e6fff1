"""What Telegram's updates mean and how replies are written: pure functions, PTB's own objects."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from telegram import Update
from telegram_api import Refused, keyboard, seen

from adapters.base import Edited, Inbound, Joined, Message, Moved, Person, Pressed, Reacted, Reply
from adapters.telegram.ids import Address, address, button, chat_id, message_id, message_number, pressed
from adapters.telegram.mentions import Me
from adapters.telegram.outgoing import escaped, parts_of, settled
from adapters.telegram.settings import TelegramSettings
from adapters.telegram.timing import Limits, Pace
from adapters.telegram.translate import inbound_of
from adapters.text import utf16_length

DOCS = Path(__file__).resolve().parents[2] / "docs"
ME = Me(4242, "NightBot")
BOT = {"id": 4242, "is_bot": True, "first_name": "Night", "username": "NightBot"}
ALICE = {"id": 7, "is_bot": False, "first_name": "Alice", "last_name": "L"}
CLUB = {"id": -100, "type": "supergroup", "title": "club"}
HOME = {"id": 7, "type": "private", "first_name": "Alice"}


def read(kind: str = "message", topics: dict[str, str] | None = None, **fields: Any) -> tuple[Inbound, ...]:
    """What an update with one thing in it says."""
    base: dict[str, Any] = {"message_id": 5, "date": 1, "chat": HOME, "from": ALICE} if "message" in kind else {}
    if kind == "message_reaction":
        base = {"message_id": 5, "date": 1, "chat": CLUB, "user": ALICE}
    update = Update.de_json({"update_id": 77, kind: base | fields}, None)
    assert update is not None
    return inbound_of(update, ME, (topics or {}).get)


def said(**fields: Any) -> Message:
    (message,) = read(**fields)
    assert isinstance(message, Message)
    return message


def entity(kind: str, text: str, part: str, **more: Any) -> dict[str, Any]:
    """An entity over `part` of `text`, counted as Telegram does."""
    return {
        "type": kind,
        "offset": utf16_length(text[: text.index(part)]),
        "length": utf16_length(part),
        **more,
    }


# Messages -----------------------------------------------------------------------------------


def test_a_private_message() -> None:
    assert said(text="hi") == Message("7:5", "7", Person("7", "Alice L"), "hi")


FILE = {"file_id": "f", "file_unique_id": "u"}
SIZED = FILE | {"width": 1, "height": 1}


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"voice": FILE | {"duration": 1}}, "voice"),
        ({"photo": [SIZED]}, "image"),
        ({"sticker": SIZED | {"type": "regular", "is_animated": False, "is_video": False}}, "sticker"),
        ({"video": SIZED | {"duration": 1}}, "video"),
        ({"video_note": FILE | {"length": 1, "duration": 1}}, "video"),
        ({"animation": SIZED | {"duration": 1}, "document": FILE}, "video"),
        ({"document": FILE}, "file"),
        ({"audio": FILE | {"duration": 1}}, "file"),
        ({"location": {"longitude": 1.0, "latitude": 1.0}}, "other"),
        ({"dice": {"value": 1, "emoji": "🎲"}}, "other"),
        ({"hologram": {"x": 1}}, "other"),
    ],
)
def test_every_kind_has_a_name_and_its_caption(fields: dict[str, Any], kind: str) -> None:
    assert (said(**fields).kind, said(**fields).text) == (kind, "")
    assert said(**fields, caption="看").text == "看"


@pytest.mark.parametrize(
    "fields",
    [
        {"pinned_message": {"message_id": 1, "date": 1, "chat": HOME}},
        {"new_chat_title": "new"},
        {"left_chat_member": ALICE},
        {"forum_topic_created": {"name": "t", "icon_color": 1}},
        {"text": "beep", "from": {"id": 9, "is_bot": True, "first_name": "Other"}},
        {"text": "mine", "from": BOT},
        {"text": "news", "is_automatic_forward": True, "sender_chat": {"id": -9, "type": "channel", "title": "c"}},
    ],
)
def test_what_nobody_said_is_nothing(fields: dict[str, Any]) -> None:
    assert read(**{"chat": CLUB, **fields}) == ()


def test_an_anonymous_administrator_is_the_group() -> None:
    someone = {"id": 1087968824, "is_bot": True, "first_name": "Group"}
    message = said(text="hi", chat=CLUB, sender_chat=CLUB, **{"from": someone})
    assert message.person == Person("-100", "club")


def test_newcomers_who_are_bots_are_left_out() -> None:
    bob = {"id": 8, "is_bot": False, "first_name": "Bob"}
    joined = read(chat=CLUB, new_chat_members=[ALICE, BOT, bob])
    assert joined == (
        Joined("-100:5:7", "-100", Person("7", "Alice L"), group=True),
        Joined("-100:5:8", "-100", Person("8", "Bob"), group=True),
    )


def test_both_ends_of_a_move_are_one_thing() -> None:
    (old,) = read(chat={"id": -5, "type": "group", "title": "g"}, migrate_to_chat_id=-1005)
    (new,) = read(chat={"id": -1005, "type": "supergroup", "title": "g"}, migrate_from_chat_id=-5)
    assert old == new == Moved("moved:-5:-1005", "-5", Person("7", "Alice L"), "-1005")


def test_an_edit_names_what_it_edits() -> None:
    assert read("edited_message", text="the", edit_date=2) == (
        Edited("u77", "7", Person("7", "Alice L"), "7:5", "the"),
    )
    assert read("edited_message", location={"longitude": 1.0, "latitude": 1.0}, edit_date=2) == ()


# Groups -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "part", "left"),
    [
        ("@NightBot what now?", "@NightBot", "what now?"),
        ("@nightbot，你好", "@nightbot", "你好"),
        ("😀👨‍👩‍👧 hey @NightBot, are you there", "@NightBot", "😀👨‍👩‍👧 hey, are you there"),
        ("问一下 @NightBot 明天呢", "@NightBot", "问一下 明天呢"),
        ("问@NightBot明天呢", "@NightBot", "问明天呢"),
        ("what now @NightBot", "@NightBot", "what now"),
        ("line\n@NightBot next  line", "@NightBot", "line\nnext  line"),
        ("@NightBot", "@NightBot", ""),
    ],
)
def test_a_mention_is_an_address_and_no_part_of_the_words(text: str, part: str, left: str) -> None:
    message = said(text=text, chat=CLUB, entities=[entity("mention", text, part)])
    assert (message.addressed, message.text) == (True, left)


def test_all_mentions_are_taken_out() -> None:
    entities = [{"type": "mention", "offset": offset, "length": 9} for offset in (0, 14)]
    assert said(text="@NightBot hey @NightBot you", chat=CLUB, entities=entities).text == "hey you"


def test_a_mention_stands_in_a_caption_too() -> None:
    caption = "@NightBot look"
    message = said(
        photo=[SIZED], caption=caption, chat=CLUB, caption_entities=[entity("mention", caption, "@NightBot")]
    )
    assert (message.addressed, message.text, message.kind) == (True, "look", "image")


def test_a_mention_of_somebody_else_stays() -> None:
    text = "@NightBot2 hello"
    message = said(text=text, chat=CLUB, entities=[entity("mention", text, "@NightBot2")])
    assert (message.addressed, message.text) == (False, text)


def test_a_mention_by_name_is_an_address_when_it_is_the_bots() -> None:
    text = "Night hello, Night"
    entities = [
        entity("text_mention", text, "Night", user=BOT),
        {"type": "text_mention", "offset": 13, "length": 5, "user": ALICE},
    ]
    message = said(text=text, chat=CLUB, entities=entities)
    assert (message.addressed, message.text) == (True, "hello, Night")
    assert not said(text=text, chat=CLUB, entities=entities[1:]).addressed


def test_in_a_private_chat_a_mention_stays() -> None:
    text = "what is @NightBot ?"
    assert said(text=text, entities=[entity("mention", text, "@NightBot")]).text == text


@pytest.mark.parametrize(
    ("text", "addressed", "left"),
    [
        ("/help@NightBot", True, "/help"),
        ("/help@nightbot me", True, "/help me"),
        ("/help", True, "/help"),
        ("/weather", False, "/weather"),
        ("/weather@NightBot", True, "/weather"),
        ("/help@OtherBot", False, "/help@OtherBot"),
    ],
)
def test_a_command_says_whose_it_is(text: str, addressed: bool, left: str) -> None:
    command = entity("bot_command", text, text.split(" ")[0])
    message = said(text=text, chat=CLUB, entities=[command])
    assert (message.addressed, message.text) == (addressed, left)


def test_a_command_to_another_bot_is_not_ours_even_with_a_mention_or_a_quote() -> None:
    text = "/ask@OtherBot about @NightBot"
    entities = [entity("bot_command", text, "/ask@OtherBot"), entity("mention", text, "@NightBot")]
    replied = {"message_id": 3, "date": 1, "chat": CLUB, "from": BOT}
    message = said(text=text, chat=CLUB, entities=entities, reply_to_message=replied)
    assert (message.addressed, message.text) == (False, text)


def test_a_command_and_a_mention_together() -> None:
    text = "/ask@NightBot 😀 @NightBot now"
    entities = [entity("bot_command", text, "/ask@NightBot"), {"type": "mention", "offset": 17, "length": 9}]
    assert said(text=text, chat=CLUB, entities=entities).text == "/ask 😀 now"


@pytest.mark.parametrize(("author", "addressed"), [(BOT, True), (ALICE, False)])
def test_an_answer_to_the_bot_is_for_it(author: dict[str, Any], addressed: bool) -> None:
    message = said(text="and?", chat=CLUB, reply_to_message={"message_id": 3, "date": 1, "chat": CLUB, "from": author})
    assert (message.addressed, message.quote) == (addressed, "-100:3")


def test_a_topic_is_a_chat_of_its_own_and_its_opening_is_no_quote() -> None:
    opening = {
        "message_id": 3, "date": 1, "chat": CLUB, "from": BOT, "forum_topic_created": {"name": "t", "icon_color": 1},
    }  # fmt: skip
    message = said(text="hi", chat=CLUB, message_thread_id=3, is_topic_message=True, reply_to_message=opening)
    assert (message.id, message.chat, message.quote, message.addressed) == ("-100:5", "-100:3", None, False)


def test_a_thread_that_is_no_topic_is_the_chat() -> None:
    assert said(text="hi", chat=CLUB, message_thread_id=3).chat == "-100"


# Buttons and reactions ----------------------------------------------------------------------


def emojis(*names: str) -> list[dict[str, str]]:
    return [{"type": "emoji", "emoji": name} for name in names]


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ([], ["👍"], "good"),
        ([], ["❤"], "good"),
        ([], ["❤️"], "good"),
        ([], ["👎"], "bad"),
        (["👍"], ["👎"], "bad"),
        (["👎"], ["👍"], "good"),
        (["👍"], [], "retract"),
        (["👍"], ["🔥"], "retract"),
        ([], ["🔥"], None),
        (["🔥"], [], None),
        (["👍"], ["👍", "🔥"], None),
        (["👍"], ["❤"], None),
        (["👍"], ["👍", "👎"], "bad"),
        (["👍", "👎"], ["👍"], "good"),
        ([], ["👍", "👎"], None),
    ],
)
def test_a_reaction_is_a_rating(before: list[str], after: list[str], verdict: str | None) -> None:
    found = read("message_reaction", old_reaction=emojis(*before), new_reaction=emojis(*after))
    expected = (Reacted("u77", "-100", Person("7", "Alice L"), "-100:5", verdict),) if verdict else ()  # type: ignore[arg-type]
    assert found == expected


def test_a_reaction_in_a_topic_is_found_there() -> None:
    (found,) = read("message_reaction", {"-100:5": "-100:3"}, old_reaction=[], new_reaction=emojis("👍"))
    assert found.chat == "-100:3"


def test_a_reaction_of_nobody_is_nothing() -> None:
    anonymous = {"user": None, "actor_chat": CLUB, "old_reaction": [], "new_reaction": emojis("👍")}
    assert read("message_reaction", **anonymous) == ()
    custom = [{"type": "custom_emoji", "custom_emoji_id": "1"}]
    assert read("message_reaction", old_reaction=[], new_reaction=custom) == ()


def test_a_button_in_a_topic() -> None:
    message = {"message_id": 9, "date": 1, "chat": CLUB, "from": BOT, "message_thread_id": 3, "is_topic_message": True}
    query = {"id": "q", "from": ALICE, "chat_instance": "1", "message": message, "data": "0exchange"}
    assert read("callback_query", **query) == (
        Pressed("u77", "-100:3", Person("7", "Alice L"), "exchange", "both_bad"),
    )
    assert read("callback_query", **query | {"data": "junk"}) == ()
    old = {"message_id": 9, "date": 0, "chat": CLUB}
    assert [one.chat for one in read("callback_query", **query | {"message": old})] == ["-100"]


def test_ids_go_there_and_back() -> None:
    assert address(chat_id(-100, 3)) == Address(-100, 3)
    assert address(chat_id(7)) == Address(7)
    assert address("alice") is None
    assert message_number(message_id(-100, 5), -100) == 5
    assert message_number("u77", -100) is None
    assert message_number("7:5", -100) is None
    assert [pressed(button("e", verdict)) for verdict in ("1", "2", "both_bad", "good", "bad", "retract")] == [
        ("e", verdict) for verdict in ("1", "2", "both_bad", "good", "bad", "retract")
    ]
    assert button("e" * 63, "1")
    assert button("e" * 64, "1") is None
    assert [pressed(data) for data in (None, "", "1", ".")] == [None] * 4


# What goes out ------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])).filter(str.strip))
@pytest.mark.parametrize("mode", ["", "MarkdownV2", "HTML"])
def test_people_see_exactly_the_text(mode: str, text: str) -> None:
    assert seen({"text": escaped(text, mode), "parse_mode": mode}) == text.strip()


def test_the_check_of_the_markup_can_fail() -> None:
    for mode, text in (("MarkdownV2", "1.5"), ("HTML", "a < b")):
        with pytest.raises(Refused):
            seen({"text": text, "parse_mode": mode})


OFFER = Reply("o", "7", "which?", "e", candidates=("one", "two"))


@pytest.mark.parametrize(("language", "labels"), [("zh", ["1", "2", "都不好"]), ("en", ["1", "2", "Both bad"])])
def test_an_offer_is_one_message_with_three_buttons(language: str, labels: list[str]) -> None:
    (part,) = parts_of(OFFER, TelegramSettings(language=language))  # type: ignore[arg-type]
    assert part.text == "which?\n\n1. one\n\n2. two"
    assert part.keyboard is not None
    assert [one.text for one in part.keyboard.inline_keyboard[0]] == labels
    assert keyboard(part.keyboard.to_json())


def test_an_offer_that_is_too_long_keeps_its_buttons_under_the_end() -> None:
    long = Reply("o", "7", "which?", "e", candidates=("😀" * 1500, "😀" * 1500))
    parts = parts_of(long, TelegramSettings())
    assert [part.keyboard is not None for part in parts] == [False, True]
    changed = settled(long, "2", TelegramSettings(), whole=False)
    assert changed is not None
    assert (changed.text, [one.text for one in changed.keyboard.inline_keyboard[0]]) == ("", ["✅ 2"])  # type: ignore[union-attr]
    assert settled(long, "2", TelegramSettings()) == changed


def test_an_exchange_whose_id_fits_no_button_has_none() -> None:
    (part,) = parts_of(Reply("o", "7", "which?", "e" * 64, candidates=("one", "two")), TelegramSettings())
    assert part.keyboard is None


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        ("1", "which?\n\n✅ 1. one\n\n2. two"),
        ("2", "which?\n\n1. one\n\n✅ 2. two"),
        ("both_bad", "which?\n\n❌ 1. one\n\n❌ 2. two"),
        ("tie", "which?\n\n✅ 1. one\n\n✅ 2. two"),
        ("retract", "which?\n\n1. one\n\n2. two"),
        ("correction", "which?\n\n1. one\n\n2. two"),
    ],
)
def test_a_settled_offer_shows_the_choice(verdict: str, text: str) -> None:
    changed = settled(OFFER, verdict, TelegramSettings())  # type: ignore[arg-type]
    assert changed is not None
    assert changed.text == text
    assert (changed.keyboard is not None) == (verdict == "retract")  # it can be chosen again


def test_a_rating_leaves_a_settled_offer_and_a_single_reply_without_buttons_alone() -> None:
    assert settled(OFFER, "good", TelegramSettings()) is None
    assert settled(Reply("r", "7", "hi", "e"), "good", TelegramSettings()) is None
    assert settled(Reply("r", "7", "hi"), "good", TelegramSettings(rating_buttons=True)) is None


def test_half_characters_do_not_stop_a_reply() -> None:
    (part,) = parts_of(Reply("r", "7", "a\ud83db"), TelegramSettings())
    assert part.text == "a\ufffdb"


# Settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"webhook_url": "https://example.org"}, "a webhook needs a secret"),
        ({"webhook_url": "https://example.org", "secret_env": "UNSET"}, "UNSET"),
        ({"webhook_url": "https://example.org", "secret_env": "BAD"}, "1 to 256 letters"),
        ({"webhook_url": "example.org", "secret_env": "GOOD"}, "webhook_url must be an address"),
        ({"proxy": "ftp://127.0.0.1:1"}, "socks5://"),
        ({"proxy": "socks5://me:hush@127.0.0.1:1"}, "must hold no password"),
        ({"proxy": "socks5://127.0.0.1:1", "proxy_env": "PROXY"}, "not both"),
        ({"proxy_env": "UNSET"}, "holds no proxy's address"),
        ({"base_url": "api.telegram.org"}, "Bot API server"),
        ({"parse_mode": "Markdown"}, "MarkdownV2"),
        ({"tokn_env": "X"}, "tokn_env"),
    ],
)
def test_settings_that_can_not_work_are_refused(
    fields: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAD", "with a space!")
    monkeypatch.setenv("GOOD", "long-enough")
    monkeypatch.setenv("PROXY", "socks5://me:hush@127.0.0.1:1")
    with pytest.raises(ValidationError) as refused:
        TelegramSettings(**fields)
    assert says in str(refused.value)
    assert "hush" not in str(refused.value)
    assert "with a space" not in str(refused.value)


def test_secrets_are_read_from_the_environment_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEGRAM_TOKEN", " 1:abc\n")
    monkeypatch.setenv("PROXY", "socks5://me:hush@127.0.0.1:1")
    settings = TelegramSettings(proxy_env="PROXY")
    assert settings.token.get_secret_value() == "1:abc"
    assert settings.proxy_url.get_secret_value() == "socks5://me:hush@127.0.0.1:1"
    assert "abc" not in f"{settings!r}{settings.token!r}"
    assert "hush" not in f"{settings!r}{settings.proxy_url!r}"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_the_guide_says_to_write_is_accepted(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEGRAM_SECRET", "long-enough")
    guide = (DOCS / f"telegram.{language}.md").read_text("utf-8")
    snippets = re.findall(r"^ *```toml\n(.*?)^ *```", guide, re.DOTALL | re.MULTILINE)
    for snippet in snippets:
        bots = tomllib.loads(snippet)["bots"]
        bot = bots[0] if isinstance(bots, list) else bots
        TelegramSettings(**bot["platforms"]["telegram"])
    assert len(snippets) == 3
    for name, field in TelegramSettings.model_fields.items():
        row = next(line for line in guide.splitlines() if line.startswith("|") and f"`{name}`" in line)
        if field.default not in ("", "127.0.0.1", 8443):
            assert f"| `{str(field.default).replace('False', 'false').replace('True', 'true')}` |" in row


# Pace ---------------------------------------------------------------------------------------


class Clock:
    """Time that passes only where somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


async def times(limits: Limits, chats: list[int]) -> list[float]:
    """When each message may go that asks right after the one before."""
    clock = Clock()
    pace = Pace(limits, lambda: clock.now, clock.sleep)
    found = []
    for chat in chats:
        await pace.turn(chat)
        found.append(clock.now - 1000.0)
    return found


async def test_one_chat_gets_a_message_a_second() -> None:
    assert await times(Limits(), [7, 7, 7]) == [0.0, 1.0, 2.0]


async def test_a_group_gets_twenty_a_minute() -> None:
    found = await times(Limits(), [-7] * 45)
    assert (found[19], found[20], found[40]) == (19.0, 60.0, 120.0)


async def test_all_chats_together_get_thirty_a_second() -> None:
    found = await times(Limits(), list(range(1, 62)))
    assert (found[29], found[30], found[60]) == (0.0, 1.0, 2.0)


async def test_a_full_group_does_not_hold_up_other_chats() -> None:
    clock, waits = Clock(), list[float]()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)  # the others go on while this one waits

    pace = Pace(Limits(), lambda: clock.now, sleep)
    for _ in range(45):
        await pace.turn(-7)
    assert max(waits) > 59
    del waits[:]
    clock.now += 1.5
    await pace.turn(8)
    assert waits == []
