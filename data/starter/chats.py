"""Draws training chats: who says what, in which language and manner. Knows nothing of models or tokens."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from check import LANGUAGES, MANNERS
from intents import Intent, dressed, load_intents, load_skills, manner_of
from pools import SLOTS, Pools

DEFAULT_BOT = {"zh": "小夜", "en": "Nightschool"}
SYSTEM_SHARE, MIXED_SHARE, SWITCH_SHARE, MEMORY_SHARE = 0.6, 0.2, 0.5, 0.35
TURN_WEIGHTS = {1: 34, 2: 20, 3: 16, 4: 11, 5: 8, 6: 6, 8: 3, 12: 2}
KIND_WEIGHTS = {
    "intent": 70,
    "fallback": 6,
    "tell": 6,
    "recall": 4,
    "quote": 5,
    "repeat": 3,
    "small_talk": 2,
    "bot_name": 4,
}
LONGEST_QUOTE = {"zh": 12, "en": 32}


@dataclass(frozen=True)
class Turn:
    """What was typed, the reply, and what a right reply holds."""

    user: str
    reply: str
    keys: tuple[str, ...]
    kind: str
    language: str


@dataclass
class Chat:
    """A chat as it grows: its turns, what was told, and what the last reply was about."""

    system: str | None = None
    bot: dict[str, str] = field(default_factory=lambda: dict(DEFAULT_BOT))
    turns: list[Turn] = field(default_factory=list)
    told: dict[str, str] = field(default_factory=dict)
    about: tuple[str, str] | None = None

    def messages(self) -> list[dict[str, str]]:
        said = [{"role": "system", "content": self.system}] if self.system else []
        for turn in self.turns:
            said += [{"role": "user", "content": turn.user}, {"role": "assistant", "content": turn.reply}]
        return said


class Chats:
    """Draws chats from the written intents and skills. Every reply's manner is drawn by itself."""

    def __init__(self) -> None:
        self.skills = load_skills()
        self.intents = {(intent.name, intent.language): intent for intent in load_intents()}
        self.names = sorted({name for name, _ in self.intents})
        self.pools = {language: Pools(language) for language in LANGUAGES}
        written = {ask.lower() for intent in self.intents.values() for ask in intent.asks}
        self.asks = {
            key: [ask for ask in skill.asks if ask.lower() not in written] for key, skill in self.skills.items()
        }

    def draw(self, rng: random.Random, kinds: dict[str, int] | None = None) -> Chat:
        """Return one chat; with `kinds`, its last turn is one of these."""
        chat = self._opened(rng)
        language, mixed = rng.choice(LANGUAGES), rng.random() < MIXED_SHARE
        planned = self._plan(rng)
        if kinds:
            planned[-1] = rng.choices(list(kinds), list(kinds.values()))[0]
        for kind in planned:
            if mixed and rng.random() < SWITCH_SHARE:
                language = rng.choice(LANGUAGES)
            chat.turns.append(getattr(self, f"_{kind}")(chat, language, rng))
        return chat

    def reply(self, intent: Intent, rng: random.Random, x: str = "") -> str:
        """Return a reply of `intent` in a manner drawn from the four alike, with `x` filled in."""
        manner = rng.choice(MANNERS)
        return dressed(rng.choice(intent.replies[manner]).replace("{x}", x), manner, intent.language, rng)

    def _opened(self, rng: random.Random) -> Chat:
        if rng.random() >= SYSTEM_SHARE:
            return Chat()
        language = rng.choice(LANGUAGES)
        name = DEFAULT_BOT[language] if rng.random() < 0.2 else self.pools[language].bot(rng)
        return Chat(self.pools[language].system(name, rng), dict.fromkeys(LANGUAGES, name))

    def _plan(self, rng: random.Random) -> list[str]:
        count = rng.choices(list(TURN_WEIGHTS), list(TURN_WEIGHTS.values()))[0]
        kinds = rng.choices(list(KIND_WEIGHTS), list(KIND_WEIGHTS.values()), k=count)
        if count > 1 and rng.random() < MEMORY_SHARE:
            kinds[rng.randrange(max(0, count - 5), count - 1)] = "tell"
            kinds[-1] = "recall"
        return kinds

    def _turn(self, chat: Chat, kind: str, ask: str, intent: Intent, rng: random.Random, x: str = "") -> Turn:
        chat.about = (intent.name, x)
        keys = tuple(key.replace("{x}", x) for key in intent.keys)
        return Turn(ask, self.reply(intent, rng, x), keys, kind, intent.language)

    def _ask(self, skill: str, language: str, rng: random.Random) -> str:
        return self.pools[language].typed(rng.choice(self.asks[skill, language]), rng)

    def _intent(self, chat: Chat, language: str, rng: random.Random) -> Turn:
        intent = self.intents[rng.choice(self.names), language]
        ask = self.pools[language].typed(rng.choice(intent.asks), rng)
        return self._turn(chat, "intent", ask, intent, rng, chat.bot[language])

    def _fallback(self, chat: Chat, language: str, rng: random.Random) -> Turn:
        ask = self.pools[language].typed(self.pools[language].unknown(rng), rng)
        return self._turn(chat, "fallback", ask, self.skills["fallback", language], rng)

    def _tell(self, chat: Chat, language: str, rng: random.Random) -> Turn:
        slot = rng.choice(SLOTS)
        skill = self.skills[f"tell_{slot}", language]
        chat.told[slot] = x = self.pools[language].draw(slot, rng)
        say = self.pools[language].typed(rng.choice(skill.asks).replace("{x}", "\0"), rng).replace("\0", x)
        return self._turn(chat, "tell", say, skill, rng, x)

    def _recall(self, chat: Chat, language: str, rng: random.Random) -> Turn:
        slot = rng.choice(sorted(chat.told)) if chat.told and rng.random() < 0.9 else rng.choice(SLOTS)
        skill, x = self.skills[f"recall_{slot}", language], chat.told.get(slot)
        ask = self._ask(f"recall_{slot}", language, rng)
        if x is None:
            return self._turn(chat, "untold", ask, self.skills["untold", language], rng)
        return self._turn(chat, "recall", ask, skill, rng, x)

    def _quote(self, chat: Chat, language: str, rng: random.Random) -> Turn:
        ask = self._ask("quote", language, rng)
        if not chat.turns:
            return self._turn(chat, "nothing_yet", ask, self.skills["nothing_yet", language], rng)
        last = chat.turns[-1]
        unmarked = manner_of(last.user, "zh") == manner_of(last.user, "en") == "plain"
        if not unmarked or len(last.user) > LONGEST_QUOTE[last.language]:
            return self._intent(chat, language, rng)
        return self._turn(chat, "quote", ask, self.skills["quote", language], rng, last.user)

    def _repeat(self, chat: Chat, language: str, rng: random.Random) -> Turn:
        """The last reply's content once more, in a manner drawn anew."""
        ask = self._ask("repeat", language, rng)
        if chat.about is None:
            return self._turn(chat, "nothing_yet", ask, self.skills["nothing_yet", language], rng)
        name, x = chat.about
        intent = self.intents.get((name, language)) or self.skills[name, language]
        return self._turn(chat, "repeat", ask, intent, rng, x)

    def _small_talk(self, chat: Chat, language: str, rng: random.Random) -> Turn:
        ask = rng.choice(self.asks["small_talk", language])
        return self._turn(chat, "small_talk", ask, self.skills["small_talk", language], rng)

    def _bot_name(self, chat: Chat, language: str, rng: random.Random) -> Turn:
        ask = self._ask("bot_name", language, rng)
        return self._turn(chat, "bot_name", ask, self.skills["bot_name", language], rng, chat.bot[language])
