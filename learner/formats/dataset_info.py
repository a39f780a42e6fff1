"""Reads what LLaMA-Factory's dataset_info.json says of the file beside it: the names of columns, tags and roles.

Knows nothing of what the columns mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learner.formats.rows import FileUnreadable

REGISTRY = "dataset_info.json"
# Its names of columns, and what they are called in a file that needs no entry.
COLUMNS = {
    "prompt": "instruction",
    "query": "input",
    "response": "output",
    "history": "history",
    "messages": "conversations",
    "system": "system",
    "chosen": "chosen",
    "rejected": "rejected",
    "kto_tag": "label",
}
SPOKEN = ("conversations", "chosen", "rejected")  # columns that hold messages
ROLES = {"user_tag": "user", "assistant_tag": "assistant", "system_tag": "system"}


@dataclass(frozen=True)
class Layout:
    """A file's own names -> the common ones."""

    columns: Mapping[str, str]
    role: str
    content: str
    roles: Mapping[str, str]

    def common(self, row: object) -> object:
        """`row` under the common names; what is no object is left as it is."""
        if not isinstance(row, dict):
            return row
        renamed = {self.columns.get(name, name): value for name, value in row.items()}
        return {name: self._said(value) if name in SPOKEN else value for name, value in renamed.items()}

    def _said(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._said(one) for one in value]
        if not isinstance(value, dict) or self.role not in value:
            return value
        role = value[self.role]
        return {"role": self.roles.get(str(role), role), "content": value.get(self.content)}


def layout_of(path: Path) -> Layout | None:
    """The layout of `path`, if a dataset_info.json beside it names it. Raises FileUnreadable."""
    registry = path.parent / REGISTRY
    if not registry.exists():
        return None
    try:
        entries = json.loads(registry.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as exc:
        raise FileUnreadable(f"{registry} can't be read ({exc}); mend it, or move {path.name} elsewhere") from exc
    named = entries.values() if isinstance(entries, dict) else ()
    entry = next((one for one in named if isinstance(one, dict) and one.get("file_name") == path.name), None)
    return None if entry is None else _layout(_texts(entry.get("columns")), _texts(entry.get("tags")))


def _layout(columns: Mapping[str, str], tags: Mapping[str, str]) -> Layout:
    return Layout(
        columns={theirs: COLUMNS[name] for name, theirs in columns.items() if name in COLUMNS},
        role=tags.get("role_tag", "from"),
        content=tags.get("content_tag", "value"),
        roles={theirs: ROLES[name] for name, theirs in tags.items() if name in ROLES},
    )


def _texts(value: object) -> dict[str, str]:
    pairs = value.items() if isinstance(value, dict) else ()
    return {str(name): text for name, text in pairs if isinstance(text, str)}
