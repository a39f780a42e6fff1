"""Reading and writing other tools' data.

Knows nothing of the store, the engine or platforms.
"""

from __future__ import annotations

from learner.formats.export import Format, FormatError, Kind, export
from learner.formats.own import RecordsUnreadable, exchanges_in, records_from_jsonl, records_to_jsonl

__all__ = [
    "Format",
    "FormatError",
    "Kind",
    "RecordsUnreadable",
    "exchanges_in",
    "export",
    "records_from_jsonl",
    "records_to_jsonl",
]
