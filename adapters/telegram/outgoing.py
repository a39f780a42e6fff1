"""Turns replies into Telegram's messages: parts that fit, escaped, with their buttons. Pure."""

from __future__ import annotations

import html
from dataclasses import dataclass

from telegram import InlineKeyboardButton, InlineKeyboardMarkup
from telegram.helpers import escape_markdown

from adapters.base import Reply, Verdict
from adapters.telegram.ids import button
from adapters.telegram.labels import BUTTONS, CHOICES, CHOSEN, RATINGS, REFUSED
from adapters.telegram.settings import TelegramSettings
from adapters.text import chunks, offer_text, utf16_length

MAX_UNITS = 4096  # of a message, after its markup is read
_DEAD = "."  # what a button carries that does nothing


@dataclass(frozen=True)
class Part:
    """One message to send."""

    text: str
    keyboard: InlineKeyboardMarkup | None = None


def parts_of(reply: Reply, settings: TelegramSettings) -> list[Part]:
    """The messages that `reply` becomes; the buttons stand under the last one. None for an empty reply."""
    text = _whole(offer_text(reply) if reply.candidates else reply.text)
    # Telegram cuts blanks off and takes no message that has nothing else.
    texts = [part for part in chunks(text, MAX_UNITS, utf16_length) if part.strip()]
    keyboard = keyboard_of(reply, settings)
    return [Part(part, keyboard if number == len(texts) else None) for number, part in enumerate(texts, 1)]


def keyboard_of(reply: Reply, settings: TelegramSettings) -> InlineKeyboardMarkup | None:
    """The buttons under `reply`, if it has any."""
    if reply.exchange is None:
        return None
    if reply.candidates:
        return _keyboard(reply.exchange, CHOICES, settings.language)
    return rating_keyboard(reply.exchange, settings.language) if settings.rating_buttons else None


def rating_keyboard(exchange: str, language: str, given: Verdict | None = None) -> InlineKeyboardMarkup | None:
    """👍 and 👎; the one that was `given` is marked, and takes it back when it is pressed again."""
    keyboard = _keyboard(exchange, RATINGS, language)
    back = button(exchange, "retract")
    if keyboard is None or back is None or given not in RATINGS:
        return keyboard
    row = list(keyboard.inline_keyboard[0])
    at = RATINGS.index(given)
    row[at] = InlineKeyboardButton(f"{CHOSEN} {row[at].text}", callback_data=back)
    return InlineKeyboardMarkup([row])


def settled(offer: Reply, verdict: Verdict, settings: TelegramSettings, whole: bool = True) -> Part | None:
    """What the message of `offer` becomes after `verdict`; without text only its buttons change, None: nothing does.

    An offer that is not `whole` stands in several messages, and only the last one is changed.
    """
    if offer.exchange is None:
        return None
    if not offer.candidates:
        rates = settings.rating_buttons and verdict in (*RATINGS, "retract")
        return Part("", rating_keyboard(offer.exchange, settings.language, verdict)) if rates else None
    if verdict in RATINGS:  # of an offer that was settled before: what was chosen stays
        return None
    keyboard = keyboard_of(offer, settings) if verdict == "retract" else None
    text = _whole(_marked(offer, verdict))
    if whole and utf16_length(text) <= MAX_UNITS:
        return Part(text, keyboard)
    return Part("", keyboard or _dead_button(verdict, settings.language))


def _marked(offer: Reply, verdict: Verdict) -> str:
    """The offer's text with a mark at what was chosen."""
    assert offer.candidates is not None
    marks = {"1": (CHOSEN, ""), "2": ("", CHOSEN), "both_bad": (REFUSED, REFUSED), "tie": (CHOSEN, CHOSEN)}
    first, second = (f"{mark} " if mark else "" for mark in marks.get(verdict, ("", "")))
    return f"{offer.text}\n\n{first}1. {offer.candidates[0]}\n\n{second}2. {offer.candidates[1]}"


def _dead_button(verdict: Verdict, language: str) -> InlineKeyboardMarkup | None:
    """One button that says what was chosen and does nothing."""
    label = BUTTONS[language].get(verdict)
    return InlineKeyboardMarkup([[InlineKeyboardButton(f"{CHOSEN} {label}", callback_data=_DEAD)]]) if label else None


def draft_text(text: str) -> str:
    """As much of a growing text as one message holds."""
    return chunks(_whole(text), MAX_UNITS, utf16_length)[0]


def escaped(text: str, parse_mode: str) -> str:
    """`text` written so that people see exactly it under `parse_mode`."""
    if parse_mode == "MarkdownV2":
        return escape_markdown(text, version=2)
    return html.escape(text, quote=False) if parse_mode == "HTML" else text


def _keyboard(exchange: str, verdicts: tuple[Verdict, ...], language: str) -> InlineKeyboardMarkup | None:
    """A row of buttons; None when the exchange's id is too long for a button: words still answer then."""
    row = []
    for verdict in verdicts:
        if (carried := button(exchange, verdict)) is None:
            return None
        row.append(InlineKeyboardButton(BUTTONS[language][verdict], callback_data=carried))
    return InlineKeyboardMarkup([row])


def _whole(text: str) -> str:
    """`text` with lone halves of characters, which UTF-8 can't hold, replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
