"""Files of the archive: names, writing so that a crash leaves no half file, and what is left behind. Blocking."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

import polars as pl

from penstock.errors import PenstockError

__all__ = ["MARK_FILE", "ArchiveFolder", "FileName", "file_sha256"]

#: Says which store's catalogue a folder belongs to.
MARK_FILE = "penstock-archive"
#: Ending of files that a restored log has made void; nothing reads or deletes them.
ASIDE = ".aside"

_TEMPORARY = ".tmp"
_NAME = re.compile(r"(\d+)-(\d+)-(\d+)-([0-9a-f]+)\.parquet", re.ASCII)
_BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class FileName:
    """What a path below the folder says: `<stream>/<partition>/<epoch>-<first>-<next>-<token>.parquet`.

    `token` keeps two archivers that write the same range at the same time out of each other's way.
    """

    stream: str
    partition: int
    epoch: int
    first: int
    next: int
    token: str

    @property
    def path(self) -> str:
        """Relative to the archive's folder."""
        stream = quote(self.stream, safe="").replace(".", "%2E")
        return f"{stream}/{self.partition}/{self.epoch}-{self.first:019d}-{self.next:019d}-{self.token}.parquet"

    @classmethod
    def parse(cls, path: str) -> FileName | None:
        """The name of a file of the archive; None for any other file."""
        stream, _, rest = path.partition("/")
        partition, _, name = rest.partition("/")
        found = _NAME.fullmatch(name)
        if found is None or not partition.isdigit():
            return None
        return cls(unquote(stream), int(partition), int(found[1]), int(found[2]), int(found[3]), found[4])


class ArchiveFolder:
    """One folder. Several hosts that run the role data need the same one (a shared file system)."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def check_mark(self, mark: str) -> None:
        """`conflict` if the folder belongs to another catalogue; marks it if it is new."""
        known = self.mark()
        if known == mark:
            return
        if known is None and next(self.names(), None) is None:
            self.set_mark(mark)
            return
        raise PenstockError(
            "conflict",
            f"the archive in {self.root} belongs to another store, or to this one before it was made anew: put the "
            "store back from a backup, or name another folder (data_service.archive.folder)",
        )

    def mark(self) -> str | None:
        """The mark of the catalogue that the folder belongs to."""
        try:
            return (self.root / MARK_FILE).read_text().strip()
        except FileNotFoundError:
            return None

    def set_mark(self, mark: str) -> None:
        """From now on the folder belongs to this catalogue."""
        self.root.mkdir(parents=True, exist_ok=True)
        temporary = self.root / f"{MARK_FILE}{_TEMPORARY}"
        temporary.write_text(f"{mark}\n")
        _sync(temporary)
        temporary.replace(self.root / MARK_FILE)
        _sync(self.root)

    def write(self, name: FileName, frame: pl.DataFrame, *, row_group_rows: int) -> tuple[int, str]:
        """Write a file whole or not at all; durable under its name when this returns. (size in bytes, sha256)."""
        path = self.root / name.path
        temporary = path.with_name(path.name + _TEMPORARY)
        try:
            for folder in (path.parent.parent, path.parent):
                if not folder.is_dir():
                    folder.mkdir(parents=True, exist_ok=True)
                    _sync(folder.parent)
            frame.write_parquet(
                temporary,
                compression="zstd",
                row_group_size=row_group_rows,
                statistics=True,
                metadata={"penstock.stream": name.stream, "penstock.epoch": str(name.epoch)},
            )
            digest = file_sha256(temporary)
            size_bytes = temporary.stat().st_size
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
        except (OSError, pl.exceptions.PolarsError) as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise PenstockError(
                "archive_unavailable",
                f"cannot write {path}: {error}; check the folder's free space and rights; the log keeps the events",
                retry_after_s=5.0,
            ) from error
        return size_bytes, digest

    def remove(self, path: str) -> None:
        """Delete a file that no catalogue names."""
        (self.root / path).unlink(missing_ok=True)

    def set_aside(self, path: str) -> None:
        """Keep a file that is void now under a name that nothing reads."""
        whole = self.root / path
        if whole.exists():
            whole.replace(whole.with_name(whole.name + ASIDE))

    def names(self) -> Iterator[FileName]:
        """Every whole file in the folder."""
        for path in self._paths(".parquet"):
            name = FileName.parse(path)
            if name is not None:
                yield name

    def leftovers(self, *, older_than_ms: int) -> Iterator[str]:
        """Files that were never finished, and were last written before `older_than_ms`."""
        for path in self._paths(_TEMPORARY):
            if self.written_ms(path) < older_than_ms:
                yield path

    def written_ms(self, path: str) -> float:
        """When the file was last written, by the file system's clock; now and for ever if it is gone."""
        try:
            return (self.root / path).stat().st_mtime * 1000
        except FileNotFoundError:
            return float("inf")

    def _paths(self, ending: str) -> Iterator[str]:
        if self.root.is_dir():
            for path in sorted(self.root.glob(f"*/*/*{ending}")):
                yield path.relative_to(self.root).as_posix()


def file_sha256(path: Path) -> str:
    """Hexadecimal digits of the whole file's SHA-256."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """A file's content, or a folder's names, onto the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
