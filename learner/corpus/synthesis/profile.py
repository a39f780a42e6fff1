"""Who a character is, as the bot's persona needs it; asked of the model, or read from a file.

Knows nothing of dialogues.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from learner.corpus.synthesis import checking
from learner.corpus.synthesis.calls import Calls
from learner.corpus.synthesis.checking import CharacterSketch, Unfit
from learner.corpus.synthesis.errors import EndpointDown, ItemFailed, NothingUsable, PromptError
from learner.corpus.synthesis.prompts import Language, Prompts
from learner.corpus.synthesis.wire import Ask, Drawing
from learner.engine.base import ChatMessage
from learner.formats.files import write_json

TRIES = 3


@dataclass(frozen=True)
class Profile:
    """A character: the profile in the second person, what it says on meeting somebody, and how it opens a chat."""

    name: str
    profile: str = ""
    greeting: str = ""
    first_words: tuple[str, ...] = ()


def write(path: Path, profile: Profile) -> None:
    """Write `path` whole or not at all."""
    write_json(path, {**vars(profile), "first_words": list(profile.first_words)})


def read(path: Path) -> Profile:
    """The profile in a file. Raises PromptError with what is wrong."""
    try:
        return TypeAdapter(Profile).validate_json(path.read_text("utf-8-sig"))
    except OSError as error:
        raise PromptError(f"{path} can't be read: {error.strerror}") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise PromptError(f"{path}: expected JSON {{name, profile, greeting, first_words: […]}}") from error


def asked(name: str, about: str, prompts: Prompts, drawing: Drawing, attempt: int = 0) -> Ask:
    """The question for a profile."""
    return Ask("profile", attempt, (ChatMessage("user", prompts.fill("profile", name=name, about=about)),), drawing)


async def ask(name: str, about: str, calls: Calls, prompts: Prompts, drawing: Drawing, language: Language) -> Profile:
    """The model's profile of `name`; `about` is what the user says of it. Raises SynthesisError."""
    fault = ""
    for attempt in range(TRIES):
        try:
            answer = await calls.ask(asked(name, about, prompts, drawing, attempt))
            return _joined(name, checking.read(CharacterSketch, answer), prompts, language)
        except ItemFailed as failed:
            if not failed.lasting:
                raise EndpointDown(f"the profile of {name} can't be had: {failed.detail}; run it again") from failed
            fault = failed.detail
        except Unfit as unfit:
            fault = unfit.detail
    raise NothingUsable(
        f"the model gave no usable profile of {name} in {TRIES} answers ({fault}); "
        "write one yourself and name it with --persona FILE, or go without by --no-profile"
    )


def _joined(name: str, sketch: CharacterSketch, prompts: Prompts, language: Language) -> Profile:
    space = "" if language == "zh" else " "
    parts = [sketch.profile, sketch.speech]
    if sketch.catchphrases:
        quoted = "".join(f"“{one}”" for one in sketch.catchphrases) if language == "zh" else None
        said = quoted or ", ".join(f'"{one}"' for one in sketch.catchphrases)
        parts.append(prompts.fill("catchphrases", catchphrases=said))
    text = space.join(part.strip() for part in parts if part.strip())
    return Profile(name, text, sketch.greeting.strip(), tuple(one.strip() for one in sketch.first_words))
