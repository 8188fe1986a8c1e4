"""What a subscriber can say on a WebSocket: one JSON object a line, strictly read. Pure.

Which line it is follows from the one verb in it: `auth`, `sub`, `unsub`, `ack`, `pub` or `credit`. Unknown members
are errors, so that a misspelt option is never taken for its default. `id` is repeated in the reply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, TypeVar

import msgspec

from penstock.errors import PenstockError

__all__ = ["Ack", "Auth", "BadLine", "Credit", "Line", "LineId", "Pub", "Rate", "Sub", "Unsub", "lines_of",
           "read_line", "refusal", "reply"]  # fmt: skip

ID_CHARS_MAX = 64
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
LineId = int | str | None
_Id = int | Annotated[str, msgspec.Meta(max_length=ID_CHARS_MAX)] | None
_T = TypeVar("_T")


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Auth(_Line, frozen=True):
    """A token: the first one after `?auth=message`, else a newer one of the same caller."""

    auth: str
    id: _Id = None


class Sub(_Line, frozen=True):
    """Subscribe to one more topic; members as in the query of its URL."""

    sub: _Name
    id: _Id = None
    filter: str = ""
    after: str | None = None
    format: str | None = None
    slow: str | None = None
    credit: Annotated[int, msgspec.Meta(ge=0)] | None = None
    durable: str | None = None


class Unsub(_Line, frozen=True):
    """End the subscription to a topic."""

    unsub: _Name
    id: _Id = None


class Ack(_Line, frozen=True):
    """Everything up to this cursor has been dealt with."""

    ack: str
    t: _Name | None = None
    id: _Id = None


class Credit(_Line, frozen=True):
    """So many more events may be sent."""

    credit: Annotated[int, msgspec.Meta(ge=1)]
    t: _Name | None = None
    id: _Id = None


class Pub(_Line, frozen=True):
    """Send an event, or several in an array, into a stream. `idem` and `key`: see `pub_body`."""

    pub: _Name
    d: msgspec.Raw
    id: _Id = None
    key: _Name | None = None
    idem: _Name | None = None


Line = Auth | Sub | Unsub | Ack | Credit | Pub


class BadLine(PenstockError):
    """`bad_request`: no line that is known here. `id` of it, where one could be read."""

    def __init__(self, detail: str, line_id: LineId) -> None:
        super().__init__("bad_request", detail)
        self.id = line_id


# In this order: `credit` is also a member of `sub`.
_KINDS: dict[str, msgspec.json.Decoder[Line]] = {
    "sub": msgspec.json.Decoder(Sub),
    "unsub": msgspec.json.Decoder(Unsub),
    "ack": msgspec.json.Decoder(Ack),
    "pub": msgspec.json.Decoder(Pub),
    "auth": msgspec.json.Decoder(Auth),
    "credit": msgspec.json.Decoder(Credit),
}
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_id: Callable[[msgspec.Raw], LineId] = msgspec.json.Decoder(_Id).decode


def lines_of(message: str) -> Iterator[str]:
    """The lines of one frame that are not blank."""
    return (line for line in message.split("\n") if line and not line.isspace())


def read_line(text: str) -> Line:
    """The line; `BadLine` says what is wrong with it, and never repeats it: there may be a token in it."""
    try:
        members = _members(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise BadLine('a line is a JSON object, such as {"id":1,"sub":"orders"}', None) from None
    line_id = _id_of(members)
    for verb, decoder in _KINDS.items():
        if verb in members:
            try:
                return decoder.decode(text)
            except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
                raise BadLine(f"this is no '{verb}' line: {error}", line_id) from None
    raise BadLine(f"a line has one of {', '.join(_KINDS)}", line_id)


def reply(line_id: LineId, **members: object) -> dict[str, object]:
    """`{"id":..,"ok":true}` and what else there is to say."""
    return {**({} if line_id is None else {"id": line_id}), "ok": True, **members}


def refusal(error: PenstockError, line_id: LineId) -> dict[str, object]:
    """`{"id":..,"err":"<code>","detail":"...","retry":bool}`; `retry_ms` where it is known when."""
    said: dict[str, object] = {} if line_id is None else {"id": line_id}
    said |= {"err": error.code, "detail": error.detail, "retry": error.retryable}
    if "errors" in error.extra:
        said["errors"] = error.extra["errors"]
    if error.retry_after_s is not None:
        said["retry_ms"] = round(error.retry_after_s * 1000)
    return said


class Rate:
    """A bucket of `per_s` tokens that fills up in a second. Time is in seconds of any clock that goes forward."""

    __slots__ = ("_filled_s", "_per_s", "_tokens")

    def __init__(self, per_s: int, now_s: float) -> None:
        self._per_s = per_s
        self._filled_s = now_s
        self._tokens = float(per_s)

    def take(self, now_s: float) -> float:
        """Use a token up; how long to wait for it, in seconds. Not asked again before that."""
        left = self._tokens + (now_s - self._filled_s) * self._per_s
        self._tokens = min(float(self._per_s), left) - 1
        self._filled_s = now_s
        return max(0.0, -self._tokens / self._per_s)


def _id_of(members: dict[str, msgspec.Raw]) -> LineId:
    try:
        return _id(members["id"])
    except (KeyError, msgspec.MsgspecError, UnicodeError):
        return None
