"""Records of a CSV file as JSON objects, one a line, under the names of the file's first record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from penstock.codecs.csv_records import read_records, typed
from penstock.errors import PenstockError
from penstock.model.stream import Column

__all__ = ["csv_lines"]


class _Counted:
    """Lines of a text, and how many bytes of it were read."""

    def __init__(self, text: bytes) -> None:
        self._lines = text.splitlines(keepends=True)
        self.read_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for line in self._lines:
            self.read_bytes += len(line)
            yield line


def csv_lines(path: Path, text: bytes, *, at: int, columns: Sequence[Column]) -> tuple[bytes, int]:
    """JSON lines of the whole records in `text`, which begins at byte `at` of the file, and how many bytes they take.

    A field that is no value of its column stays text, and a record with more or fewer fields than the first has
    becomes a text, so that admission rejects and lists them. ValueError, with the line, for a file that is no CSV.
    """
    names = _names(path)
    kinds = {column.name: column.type.kind.name for column in columns}
    counted = _Counted(text)
    found: list[bytes] = []
    whole_bytes = 0
    try:
        for number, (_, fields) in enumerate(read_records(counted)):
            if number or at:
                found.append(_line(names, fields, kinds))
            whole_bytes = counted.read_bytes
    except PenstockError as error:
        if not whole_bytes:  # nothing behind a quote that stays open: the file is not written to its end, or no CSV
            raise ValueError(f"{path.name}, from byte {at}: {error.detail}") from error
    return b"".join(found), whole_bytes or len(text)


def _names(path: Path) -> list[str]:
    with path.open("rb") as file:
        try:
            _, header = next(read_records(file), (1, []))
        except PenstockError as error:
            raise ValueError(f"{path.name}: {error.detail}") from error
    names = [name or "" for name in header]
    if "" in names or len(set(names)) < len(names):
        raise ValueError(f"{path.name}: the first line needs a name of its own for every column")
    return names


def _line(names: Sequence[str], fields: Sequence[str | None], kinds: dict[str, str]) -> bytes:
    if len(fields) != len(names):
        return msgspec.json.encode(",".join(field or "" for field in fields)) + b"\n"
    event: dict[str, object] = {}
    for name, field in zip(names, fields, strict=True):
        try:
            event[name] = typed(field, kinds.get(name, "STRING"))
        except ValueError:
            event[name] = field
    return msgspec.json.encode(event) + b"\n"
