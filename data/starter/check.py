"""Checks the written dialogues: every intent complete, every reply in its manner and on its subject.

Knows nothing of models. Run: python data/starter/check.py [FILE ...]; prints one line a fault.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
LANGUAGES = ("zh", "en")
MANNERS = ("plain", "warm", "buddy", "formal")


def manners_of(reply: str, language: str, manners: dict) -> set[str]:
    """Return the manners whose marks stand in `reply`; the empty set means plain."""
    lowered = reply.lower()
    return {name for name, spec in manners.items() if any(mark in lowered for mark in spec[language]["marks"])}


def faults_of_intent(name: str, intent: dict, manners: dict) -> list[str]:
    found = []
    for language in LANGUAGES:
        part = intent.get(language)
        if not isinstance(part, dict):
            found.append(f"{name}: no {language}")
            continue
        unknown = set(part) - {"ask", "key", *MANNERS}
        if unknown:
            found.append(f"{name}.{language}: unknown {sorted(unknown)}")
        if len(set(part.get("ask", []))) < 5:
            found.append(f"{name}.{language}.ask: fewer than 5 phrasings")
        if not part.get("key"):
            found.append(f"{name}.{language}.key: missing")
        for manner in MANNERS:
            replies = part.get(manner, [])
            if len(replies) < 2:
                found.append(f"{name}.{language}.{manner}: fewer than 2 replies")
            wanted = set() if manner == "plain" else {manner}
            for reply in replies:
                if manners_of(reply, language, manners) != wanted:
                    found.append(f"{name}.{language}.{manner}: marks {manners_of(reply, language, manners) or 'none'}: {reply}")
                if not any(key.lower() in reply.lower() for key in part.get("key", [])):
                    found.append(f"{name}.{language}.{manner}: holds none of {part.get('key')}: {reply}")
    return found


def faults_of_followups(followups: dict, intents: dict, manners: dict) -> list[str]:
    """A follow-up stands after any reply: it must tell no manner and answer nothing."""
    found = []
    for language in LANGUAGES:
        keys = {key.lower() for intent in intents.values() for key in intent.get(language, {}).get("key", [])}
        for words in followups[language]["followups"]:
            if manners_of(words, language, manners):
                found.append(f"followup: marks {manners_of(words, language, manners)}: {words}")
            found += [f"followup: holds the key {key}: {words}" for key in sorted(keys) if key in words.lower()]
    return found


def main() -> int:
    manners = tomllib.loads((HERE / "manners.toml").read_text("utf-8"))
    files = [Path(name) for name in sys.argv[1:]] or sorted((HERE / "dialogues").glob("*.toml"))
    faults, names, asks, intents = [], {}, {}, {}
    for file in files:
        for name, intent in tomllib.loads(file.read_text("utf-8")).items():
            intents[name] = intent
            if name in names:
                faults.append(f"{file.name}: {name} stands in {names[name]} too")
            names[name] = file.name
            faults += [f"{file.name}: {fault}" for fault in faults_of_intent(name, intent, manners)]
            for language in LANGUAGES:
                for ask in intent.get(language, {}).get("ask", []):
                    if asks.setdefault(ask.lower(), name) != name:
                        faults.append(f"{file.name}: {name} and {asks[ask.lower()]} are both asked by: {ask}")
    faults += faults_of_followups(tomllib.loads((HERE / "pools.toml").read_text("utf-8")), intents, manners)
    print("\n".join(faults) or f"{len(names)} intents, {len(asks)} phrasings, no fault")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
