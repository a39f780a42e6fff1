"""Draws names, things and ways to type from pools.toml. Knows nothing of models or intents."""

from __future__ import annotations

import random
import string
import tomllib

from intents import HERE, manner_of

RARE_LEAD_IN, RARE_END = 0.12, 0.3
SLOTS = ("name", "food", "city", "pet")


class Pools:
    """Every draw for one language; a made-up word never holds a mark of a manner."""

    def __init__(self, language: str) -> None:
        self.language = language
        self.of = tomllib.loads((HERE / "pools.toml").read_text("utf-8"))[language]

    def draw(self, slot: str, rng: random.Random) -> str:
        """Return a name, food, city or pet's name that holds no mark of a manner in either language."""
        while True:
            word = getattr(self, f"_{slot}_{self.language}")(rng)
            if manner_of(word, "zh") == manner_of(word, "en") == "plain":
                return word

    def typed(self, ask: str, rng: random.Random) -> str:
        """Return `ask` as somebody might type it: with a lead-in, an end, another case, or as it is."""
        if rng.random() < RARE_LEAD_IN:
            ask = rng.choice(self.of["lead_ins"]) + ask
        if rng.random() < RARE_END:
            ask += rng.choice(self.of["ends"])
        if self.language == "en":
            ask = rng.choice((ask, ask, ask[0].upper() + ask[1:], ask.lower()))
        return ask

    def system(self, name: str, rng: random.Random) -> str:
        first, other = rng.sample(self.of["profiles"], 2)
        return rng.choice(self.of["personas"]).format(name=name, profile=first, other=other)

    def bot(self, rng: random.Random) -> str:
        return rng.choice(self.of["bots"]) if rng.random() < 0.5 else self.draw("name", rng)

    def unknown(self, rng: random.Random) -> str:
        """Return something that the model cannot know or understand."""
        drawn = {slot: self.draw(slot, rng) for slot in SLOTS}
        letters = "".join(rng.choices(string.ascii_lowercase, k=rng.randint(4, 8)))
        return rng.choice(self.of["unknown"]).format(
            **drawn, number=rng.randint(13, 9999), letters=letters, noise=self._noise(rng)
        )

    def _noise(self, rng: random.Random) -> str:
        if self.language == "zh":
            return "".join(rng.choices(self.of["given"], k=rng.randint(2, 4)))
        return " ".join(self._syllables(rng, rng.randint(2, 3)) for _ in range(rng.randint(1, 2)))

    def _syllables(self, rng: random.Random, count: int) -> str:
        of = self.of
        return "".join(rng.choice(of["onsets"]) + rng.choice(of["vowels"]) for _ in range(count)) + rng.choice(
            of["codas"]
        )

    def _name_zh(self, rng: random.Random) -> str:
        kind, given = rng.random(), self.of["given"]
        if kind < 0.6:
            return rng.choice(self.of["surnames"]) + rng.choice(given)
        if kind < 0.8:
            return rng.choice(self.of["surnames"]) + "".join(rng.choices(given, k=2))
        return (rng.choice(self.of["prefixes"]) if kind < 0.9 else rng.choice(given)) + rng.choice(given)

    def _name_en(self, rng: random.Random) -> str:
        return rng.choice(self.of["names"]) if rng.random() < 0.4 else self._syllables(rng, 2).capitalize()

    def _food(self, rng: random.Random, space: str) -> str:
        if rng.random() < 0.5:
            return rng.choice(self.of["foods"])
        return rng.choice(self.of["food_heads"]) + space + rng.choice(self.of["food_tails"])

    def _food_zh(self, rng: random.Random) -> str:
        return self._food(rng, "")

    def _food_en(self, rng: random.Random) -> str:
        return self._food(rng, " ")

    def _city_zh(self, rng: random.Random) -> str:
        if rng.random() < 0.5:
            return rng.choice(self.of["cities"])
        return rng.choice(self.of["city_heads"]) + rng.choice(self.of["city_tails"])

    def _city_en(self, rng: random.Random) -> str:
        if rng.random() < 0.5:
            return rng.choice(self.of["cities"])
        return self._syllables(rng, 1).capitalize() + rng.choice(self.of["city_tails"])

    def _pet_zh(self, rng: random.Random) -> str:
        if rng.random() < 0.4:
            return rng.choice(self.of["pets"])
        one, two = rng.choice(self.of["pet_chars"]), rng.choice(self.of["pet_chars"])
        return rng.choice((one + one, one + two, "小" + one))

    def _pet_en(self, rng: random.Random) -> str:
        return rng.choice(self.of["pets"]) if rng.random() < 0.4 else self._syllables(rng, 2).capitalize()
