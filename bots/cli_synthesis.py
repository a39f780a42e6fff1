"""The commands that make training dialogues by asking a model: a character from its name, answers in another style.

Knows nothing of how a model is asked; learner/corpus/synthesis does.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bots import synthesis_run as running
from bots.persona import Persona
from bots.settings import Settings
from bots.synthesis_options import (
    OptionError,
    add_common,
    language_of,
    means,
    own_topics,
    share,
    span,
    text_or_file,
)
from bots.synthesis_run import Shown
from learner.corpus.synthesis import character as characters
from learner.corpus.synthesis import estimate, journal, profile, prompts, ready, session
from learner.corpus.synthesis import restyle as restyling
from learner.corpus.synthesis.calls import Calls
from learner.corpus.synthesis.character import Character, Variety
from learner.corpus.synthesis.checking import Unfit
from learner.corpus.synthesis.errors import SynthesisError
from learner.corpus.synthesis.harvest import Harvest, Made, Rejected
from learner.corpus.synthesis.profile import Profile
from learner.corpus.synthesis.restyle import Style
from learner.corpus.synthesis.session import Files, Means
from learner.corpus.synthesis.spending import Prices
from learner.corpus.synthesis.topics import Topics
from learner.corpus.synthesis.wire import Drawing

Arguments = argparse.Namespace
Add = Callable[..., Any]


def add_commands(corpus: Any, add: Add) -> None:
    """Add `character` and `restyle` to the commands under `nightschool corpus`."""
    one = add(corpus, "character", character, "dialogues of a character, from nothing but its name")
    add_character(one)
    two = add(corpus, "restyle", restyle, "dialogues whose answers are said in another style")
    two.add_argument("--style", required=True, metavar="TEXT", help='in words, as "西式翻译腔"; @FILE reads a file')
    two.add_argument("--data", type=Path, metavar="FILE", help="restyle the answers of these dialogues instead")
    two.add_argument("--rounds", type=span, default=(1, 1), metavar="N-M", help="of a dialogue (default: 1)")
    add_common(two, "restyled.jsonl")


def add_character(command: Any) -> None:
    """The options of `corpus character`, which `create` takes as well."""
    command.add_argument("name", metavar="NAME", help="the character's name")
    command.add_argument(
        "--about", default="", metavar="TEXT", help="what you say of the character; @FILE reads a file"
    )
    command.add_argument("--persona", type=Path, metavar="FILE", help="a profile of your own, JSON as it is written")
    command.add_argument("--no-profile", action="store_true", help="make do with the name")
    command.add_argument(
        "--from", type=Path, nargs="+", dest="ready", metavar="FILE", help="ready-made dialogues instead"
    )
    command.add_argument("--rounds", type=span, default=(2, 5), metavar="N-M", help="of a dialogue (default: 2-5)")
    command.add_argument("--speaks-first", type=share, default=0.5, metavar="S", help="share that the character opens")
    command.add_argument(
        "--system", choices=("profile", "name", "none"), default="profile", help="each dialogue's start"
    )
    add_common(command, "NAME.jsonl")


# A character --------------------------------------------------------------------------------


def character(settings: Settings, arguments: Arguments) -> int:
    """Make a character's dialogues; 0 when all that were wanted were made."""
    arguments.name = arguments.name.strip()
    files = Files(arguments.output or Path(f"{file_name(arguments.name)}.jsonl"))
    try:
        asked = _character(arguments, Drawing())
        if arguments.ready:
            return _ready_made(arguments, files, asked)
        who = means(settings, arguments)
        asked = _character(arguments, who.drawing)
        if arguments.dry_run:
            about = profile.asked(arguments.name, _about(arguments), asked.prompts, who.drawing)
            parts = estimate.of_character(
                asked, arguments.dialogues, about if _asks_profile(arguments) else None, bool(arguments.topics)
            )
            return _estimated(parts, who, files, arguments)
        return _make_character(arguments, files, who, asked)
    except (SynthesisError, OptionError) as error:
        return complain(error)


def _make_character(arguments: Arguments, files: Files, who: Means, asked: Character) -> int:
    harvests: list[Harvest] = []
    given = own_topics(arguments)

    async def job(calls: Calls, shown: Shown) -> None:
        shown.pace.stage = f"{arguments.name}: dialogues"
        harvest = Harvest(arguments.dialogues, arguments.near, calls.halt, shown.pace.reached)
        harvests.append(harvest)
        known = asked.profile
        if _asks_profile(arguments):
            about, language = _about(arguments), language_of(arguments, arguments.name)
            known = await profile.ask(arguments.name, about, calls, asked.prompts, who.drawing, language)
        profile.write(files.persona, known)
        whole = _with_profile(asked, known, arguments)
        topics = Topics(calls, whole.for_topics, given)
        await characters.make(whole, calls, topics, harvest, who.window)

    report, code = running.run(who, files, arguments.dialogues, harvests, job)
    running.tell(report, files, who.prices != Prices(), arguments.json)
    return code


def _ready_made(arguments: Arguments, files: Files, asked: Character) -> int:
    """Check, deduplicate and write dialogues that somebody has already; no endpoint is needed."""
    rows = [row for path in arguments.ready for row in ready.read(path, arguments.name)]
    harvest = Harvest(len(rows), arguments.near, None, lambda done: None)
    for number, row in enumerate(rows):
        harvest.take(number, row if isinstance(row, Rejected) else _fit(asked, row, number))
    profile.write(files.persona, asked.profile)
    session.finish(files, [harvest], None)
    running.tell(session.report([harvest], None, 0.0, None, len(rows)), files, False, arguments.json)
    return 0 if harvest.made else 1


def _fit(asked: Character, messages: Any, number: int) -> Made | Rejected:
    try:
        return asked.fit(messages, {"number": number})
    except Unfit as unfit:
        return Rejected("ready", unfit.reason, unfit.detail, "\n".join(one.content for one in messages))


def _character(arguments: Arguments, drawing: Drawing) -> Character:
    language = language_of(arguments, arguments.name)
    texts = prompts.load(language, arguments.prompts)
    known = profile.read(arguments.persona) if arguments.persona else Profile(arguments.name, _about(arguments))
    variety = Variety(arguments.rounds, arguments.speaks_first, arguments.per_topic, arguments.seed)
    return _with_profile(Character(known, "", texts, drawing, variety), known, arguments)


def _with_profile(asked: Character, known: Profile, arguments: Arguments) -> Character:
    """The character with this profile; its dialogues begin with what the bot's own prompt will begin with."""
    persona = Persona(known.name, known.profile if arguments.system == "profile" else "", known.greeting)
    system = "" if arguments.system == "none" else persona.system_prompt(language_of(arguments, arguments.name))
    return Character(known, system, asked.prompts, asked.drawing, asked.variety)


def _asks_profile(arguments: Arguments) -> bool:
    return not (arguments.persona or arguments.no_profile)


def _about(arguments: Arguments) -> str:
    return text_or_file(arguments.about)


# A style ------------------------------------------------------------------------------------


def restyle(settings: Settings, arguments: Arguments) -> int:
    """Make dialogues in a style; 0 when all that were wanted were made."""
    files = Files(arguments.output or Path("restyled.jsonl"))
    try:
        words = text_or_file(arguments.style)
        who = means(settings, arguments)
        texts = prompts.load(language_of(arguments, words), arguments.prompts)
        variety = Variety(arguments.rounds, 0.0, arguments.per_topic, arguments.seed)
        style = Style(words, texts, who.drawing, variety)
        own = ready.dialogues(arguments.data) if arguments.data else None
        if arguments.dry_run and own is None:
            return _estimated(
                estimate.of_style(style, arguments.dialogues, bool(arguments.topics)), who, files, arguments
            )
        if arguments.dry_run:
            return _estimated(estimate.of_dialogues(style, own or []), who, files, arguments)
        return _make_restyled(arguments, files, who, style, own)
    except (SynthesisError, OptionError) as error:
        return complain(error)


def _make_restyled(arguments: Arguments, files: Files, who: Means, style: Style, own: Any) -> int:
    harvests: list[Harvest] = []
    given = own_topics(arguments)
    wanted = arguments.dialogues if own is None else len(own)

    async def job(calls: Calls, shown: Shown) -> None:
        shown.pace.stage = "restyled"
        plainly = Harvest(0, arguments.near, calls.halt, lambda done: None)
        styled = Harvest(wanted, 2.0, calls.halt, shown.pace.reached)
        harvests.extend((plainly, styled))
        if own is not None:
            await restyling.make_from(style, own, calls, styled, who.window)
            return
        topics = Topics(calls, style.for_topics, given)
        await restyling.make(style, calls, topics, plainly, styled, who.window)

    report, code = running.run(who, files, wanted, harvests, job)
    running.tell(report, files, who.prices != Prices(), arguments.json)
    return code


# Both ---------------------------------------------------------------------------------------


def _estimated(parts: list[estimate.Part], who: Means, files: Files, arguments: Arguments) -> int:
    entries = tuple(journal.read(files.journal).values())
    running.tell_estimate(estimate.with_journal(parts, entries), who, arguments.json)
    return 0


def complain(error: Exception) -> int:
    """The fault in a sentence."""
    print(f"nightschool: {error}", file=sys.stderr)
    return 1


def file_name(name: str) -> str:
    """A name as a file or folder can have it on any system."""
    return re.sub(r'[\\/:*?"<>|\x00-\x1f]+', "-", name).strip(" .-") or "character"
