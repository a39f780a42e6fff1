"""What arrives and what is sent, as JSON for the store and back. Knows nothing of what it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, get_args

from adapters.base import Inbound, Person, Reply
from learner.store.rows import OutboxDraft, OutboxRow, Place

KINDS: dict[str, type[Inbound]] = {kind.__name__: kind for kind in get_args(Inbound)}


def clean(text: str) -> str:
    """Mend what no database or model takes: lone surrogates and NUL."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "�")


def to_payload(inbound: Inbound) -> dict[str, Any]:
    """An inbound thing as JSON."""
    payload: dict[str, Any] = _cleaned(asdict(inbound))
    return payload


def from_payload(kind: str, payload: Mapping[str, Any]) -> Inbound:
    """The inbound thing that `to_payload` wrote down."""
    values = {**payload, "person": Person(**payload["person"])}
    return KINDS[kind](**values)


def reply_of(row: OutboxRow) -> Reply:
    """The adapter's reply that an outbox row holds."""
    names = {field.name for field in fields(Reply)}
    values = {name: value for name, value in row.draft.payload.items() if name in names}
    if values.get("candidates") is not None:
        values["candidates"] = tuple(values["candidates"])
    if values.get("to") is not None:
        values["to"] = Person(**values["to"])
    return Reply(**values)


def draft_of(reply: Reply, place: Place) -> OutboxDraft:
    """`reply` as a row for the outbox."""
    return OutboxDraft(reply.id, place, asdict(reply))


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {key: _cleaned(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(item) for item in value]
    return value
