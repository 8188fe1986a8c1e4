"""How far feeds were taken: one small file a source, replaced whole, in a folder beside the other data."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from penstock.model.stream import StreamSpec

__all__ = ["FeedCursors"]


class _Kept(msgspec.Struct):
    """`place`: the options that say where from; a source that is declared anew begins anew."""

    epoch: int
    place: dict[str, str]
    cursor: str


class FeedCursors:
    """In `folder`, which is made. All methods block. OSError as the system gives it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, spec: StreamSpec, epoch: int) -> str | None:
        """The cursor of a source; None if there is none, or of another place or epoch."""
        try:
            kept = msgspec.json.decode(self._path(spec).read_bytes(), type=_Kept)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return kept.cursor if (kept.epoch, kept.place) == (epoch, _place(spec)) else None

    def write(self, spec: StreamSpec, epoch: int, cursor: str) -> None:
        """Durable when it returns."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(spec)
        aside = path.with_suffix(".new")
        with aside.open("wb") as file:
            file.write(msgspec.json.encode(_Kept(epoch, _place(spec), cursor)))
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)

    def _path(self, spec: StreamSpec) -> Path:
        return self._folder / f"{spec.name}.json"


def _place(spec: StreamSpec) -> dict[str, str]:
    return {name: spec.options[name] for name in ("connector", "path", "url", "format") if name in spec.options}
