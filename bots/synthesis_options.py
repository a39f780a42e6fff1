"""What the commands that ask a model take: options over the [synthesis] table of config.toml.

Knows nothing of what is asked.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import unicodedata
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from bots.settings import LOOPBACK, Settings
from learner.corpus.synthesis import topics
from learner.corpus.synthesis.client import Endpoint
from learner.corpus.synthesis.errors import PromptError
from learner.corpus.synthesis.session import Means
from learner.corpus.synthesis.spending import Prices
from learner.corpus.synthesis.wire import Drawing

Arguments = argparse.Namespace


class OptionError(Exception):
    """An option that can't be followed; the text says what to do."""


def add_endpoint(command: Any) -> None:
    """Whom to ask, how, and for how much."""
    asked = command.add_argument_group("the endpoint", "each of these overrides config.toml's [synthesis]")
    asked.add_argument("--base-url", metavar="URL", help="of an OpenAI-compatible API, as https://api.deepseek.com/v1")
    asked.add_argument("--model", help="(default: the only one that the endpoint has)")
    asked.add_argument("--key-env", metavar="NAME", help="the environment variable that holds the key")
    asked.add_argument("--concurrency", type=_positive, metavar="N", help="calls at once (default: 8)")
    asked.add_argument("--timeout", type=float, metavar="SECONDS", help="an answer may take so long (default: 180)")
    asked.add_argument("--tries", type=_positive, metavar="N", help="of one call, with back-off (default: 7)")
    asked.add_argument("--temperature", type=float, help="(default: 1.0)")
    asked.add_argument("--max-tokens", type=int, metavar="N", help="of an answer; 0: the endpoint's limit")
    asked.add_argument("--extra", type=_object, metavar="JSON", help='further fields, as {"enable_thinking": false}')
    money = command.add_argument_group("what it costs")
    money.add_argument("--price-in", type=float, metavar="P", help="of a million tokens of questions")
    money.add_argument("--price-out", type=float, metavar="P", help="of a million tokens of answers")
    money.add_argument("--budget", type=float, metavar="P", help="stop before more is spent, over all runs together")
    money.add_argument("--dry-run", action="store_true", help="tell calls, tokens and cost, and make no call")


def add_common(command: Any, output: str) -> None:
    """What is made, and from what."""
    command.add_argument("--dialogues", type=_positive, default=1000, metavar="N", help="how many (default: 1000)")
    command.add_argument("--output", type=Path, metavar="FILE", help=f"JSONL, a dialogue a line (default: {output})")
    command.add_argument("--prompts", type=Path, metavar="DIR", help="prompt files of your own")
    command.add_argument("--topics", type=Path, metavar="FILE", help="topics of your own, one a line")
    command.add_argument("--language", choices=("auto", "zh", "en"), default="auto", help="of our prompts")
    command.add_argument("--per-topic", type=_positive, default=4, metavar="N", help="dialogues a topic (default: 4)")
    command.add_argument("--near", type=_similarity, default=0.7, metavar="S", help="as alike are duplicates, 0 to 1")
    command.add_argument("--seed", type=int, default=0, help="of situations and lengths (default: 0)")
    command.add_argument("--retry-refused", action="store_true", help="ask again what the endpoint refused")
    command.add_argument("--json", action="store_true", help="a last line of JSON")
    add_endpoint(command)


def means(settings: Settings, arguments: Arguments) -> Means:
    """Whom to ask. Raises OptionError with what is missing."""
    own = settings.synthesis

    def chosen(name: str) -> Any:
        given = getattr(arguments, name)
        return getattr(own, name) if given is None else given

    prices = Prices(chosen("price_in"), chosen("price_out"))
    if arguments.budget is not None and not (prices.per_million_in or prices.per_million_out):
        raise OptionError("--budget needs to know what tokens cost: give --price-in and --price-out")
    url = _address(chosen("base_url"))
    key = _key(chosen("key_env"), url)
    endpoint = Endpoint(url, chosen("model"), key, chosen("concurrency"), chosen("timeout"), chosen("tries"))
    drawing = Drawing(chosen("temperature"), chosen("max_tokens"), chosen("extra"))
    return Means(endpoint, drawing, prices, arguments.budget, arguments.retry_refused)


def _address(url: str) -> str:
    if not url:
        raise OptionError(
            "no endpoint: set base_url under [synthesis] in config.toml, or give --base-url, "
            "as https://api.deepseek.com/v1 or http://127.0.0.1:8808/v1"
        )
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise OptionError(f"--base-url is no address: {error}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise OptionError(f"--base-url {url.rpartition('@')[2]} is no address; it begins with http:// or https://")
    if parts.username or parts.password or parts.query:
        raise OptionError("--base-url holds a secret or a query; put the key into an environment variable (--key-env)")
    return url.rstrip("/").removesuffix("/chat/completions")


def _key(name: str, url: str) -> str:
    if not name:
        return ""
    key = os.environ.get(name, "").strip()
    if not key:
        raise OptionError(f"the environment variable {name} is not set; it should hold the endpoint's key")
    if not (key.isascii() and key.isprintable()):
        raise OptionError(f"what the environment variable {name} holds is no key: it has characters that none has")
    if urlsplit(url).scheme == "http" and urlsplit(url).hostname not in LOOPBACK:
        print(f"nightschool: {url} is not encrypted: the key can be read on the way", file=sys.stderr)
    return key


def language_of(arguments: Arguments, text: str) -> Literal["zh", "en"]:
    """As chosen, else Chinese where `text` has a Chinese character."""
    if arguments.language != "auto":
        return "zh" if arguments.language == "zh" else "en"
    return "zh" if any("CJK" in unicodedata.name(char, "") for char in text) else "en"


def own_topics(arguments: Arguments) -> tuple[str, ...]:
    """Those of --topics. Raises PromptError."""
    return topics.read(arguments.topics) if arguments.topics else ()


def text_or_file(value: str) -> str:
    """`value`, or what the file holds that it names as @FILE. Raises PromptError."""
    if not value.startswith("@"):
        return value
    try:
        return Path(value[1:]).read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"{value[1:]} can't be read: {error}") from error


def span(value: str) -> tuple[int, int]:
    """As "3" or "2-5"."""
    fewest, _, most = value.partition("-")
    try:
        read = int(fewest), int(most or fewest)
    except ValueError:
        read = (0, 0)
    if not 1 <= read[0] <= read[1] <= 50:
        raise argparse.ArgumentTypeError(f"{value!r}: expected a number of rounds or a span, as 2-5")
    return read


def share(value: str) -> float:
    """From 0 to 1."""
    return _number(value, 0, 1)


def _similarity(value: str) -> float:
    return _number(value, 0.1, 1)


def _number(value: str, least: float, most: float) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"{value!r}: expected a number from {least:g} to {most:g}")
    return number


def _positive(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{value!r}: expected a number from 1")
    return int(value)


def _object(value: str) -> dict[str, Any]:
    try:
        read = json.loads(value)
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise argparse.ArgumentTypeError('expected a JSON object, as {"enable_thinking": false}')
    return read
