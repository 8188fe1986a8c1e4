"""The body of a `pub` line: its event, completed by what the line says beside it. Pure.

`idem` is the value of the column by which the stream tells repetitions, `key` that of its key: written into the event
where it has none, so that both mean the same as in an event that was sent over HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from penstock.errors import PenstockError
from penstock.model.stream import StreamSpec
from penstock.model.types import Kind
from penstock_publish.topics.lines import Pub

__all__ = ["body_of"]

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def body_of(line: Pub, spec: StreamSpec) -> bytes:
    """The event as ingest gets it; `bad_request` where `idem` or `key` cannot be put into it."""
    try:
        members = _members(line.d)
    except (msgspec.MsgspecError, UnicodeError):
        raise PenstockError("bad_request", "idem and key are of one event: d must be an object") from None
    _put(members, spec, line.idem, member="idem", columns=spec.dedupe)
    _put(members, spec, line.key, member="key", columns=spec.key)
    return msgspec.json.encode(members)


def _put(
    members: dict[str, msgspec.Raw], spec: StreamSpec, value: str | None, *, member: str, columns: Sequence[str]
) -> None:
    if value is None:
        return
    texts = {column.name for column in spec.columns if column.type.kind is Kind.STRING}
    if len(columns) != 1 or columns[0] not in texts:
        detail = f"the stream '{spec.name}' has no single column of text for {member}; write the columns into d"
        raise PenstockError("bad_request", detail)
    text = msgspec.json.encode(value)
    found = members.setdefault(columns[0], msgspec.Raw(text))
    if msgspec.json.decode(found) != value:
        raise PenstockError("bad_request", f"d has another '{columns[0]}' than {member} says")
