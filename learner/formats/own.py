"""Preference records as JSON lines with everything they know, written into a folder and read back.

Knows nothing of the database or of training. Four files: pairs.jsonl, ratings.jsonl, ties.jsonl (which
older folders lack), and summary.json with what gave no record.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from learner.engine.base import ChatMessage
from learner.formats.files import write_json, write_jsonl
from learner.records import PreferencePair, PreferenceRecords, Provenance, RatedReply

PAIRS, RATINGS, TIES, SUMMARY = "pairs.jsonl", "ratings.jsonl", "ties.jsonl", "summary.json"


class RecordsUnreadable(ValueError):
    """A file of records is missing or damaged."""


def records_to_jsonl(folder: Path, records: PreferenceRecords) -> None:
    """Write `records` into `folder`."""
    write_jsonl(folder / PAIRS, [asdict(pair) for pair in records.pairs])
    write_jsonl(folder / RATINGS, [asdict(rating) for rating in records.ratings])
    write_jsonl(folder / TIES, [asdict(pair) for pair in records.tied])
    write_json(folder / SUMMARY, {"ties": records.ties, "left_out": records.left_out})


def records_from_jsonl(folder: Path) -> PreferenceRecords:
    """Read what `records_to_jsonl` wrote. Raises RecordsUnreadable."""
    pairs = tuple(_pair(row) for row in _rows(folder / PAIRS))
    ratings = tuple(_rating(row) for row in _rows(folder / RATINGS))
    tied = tuple(_pair(row) for row in _ties(folder))
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        return PreferenceRecords(pairs, ratings, summary["ties"], summary["left_out"], tied)
    except (OSError, ValueError, KeyError) as exc:
        raise RecordsUnreadable(f"{folder / SUMMARY}: {exc}") from exc


def exchanges_in(folder: Path) -> frozenset[str]:
    """The exchanges that the records in `folder` came from."""
    rows = [*_rows(folder / PAIRS), *_rows(folder / RATINGS), *_ties(folder)]
    return frozenset(row["provenance"]["exchange"] for row in rows)


def _ties(folder: Path) -> Iterator[dict[str, Any]]:
    return _rows(folder / TIES) if (folder / TIES).exists() else iter(())


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    yield json.loads(line)
                except ValueError as exc:
                    raise RecordsUnreadable(f"{path}, line {number}: {exc}") from exc
    except OSError as exc:
        raise RecordsUnreadable(f"{path}: {exc}") from exc


def _pair(row: dict[str, Any]) -> PreferencePair:
    return PreferencePair(
        **{
            **row,
            **_common(row),
            "chosen_ids": _ids(row["chosen_ids"]),
            "rejected_ids": _ids(row["rejected_ids"]),
        }
    )


def _rating(row: dict[str, Any]) -> RatedReply:
    return RatedReply(**{**row, **_common(row), "completion_ids": _ids(row["completion_ids"])})


def _common(row: dict[str, Any]) -> dict[str, Any]:
    provenance = row["provenance"]
    return {
        "prompt": tuple(ChatMessage(**message) for message in row["prompt"]),
        "prompt_ids": tuple(row["prompt_ids"]),
        "provenance": Provenance(**{**provenance, "loras": tuple(provenance["loras"])}),
    }


def _ids(values: list[int] | None) -> tuple[int, ...] | None:
    return None if values is None else tuple(values)
