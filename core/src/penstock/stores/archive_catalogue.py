"""The archive's catalogue in the store's database: files, positions with compare-and-set, the folder's mark.

Functions over a connection, within the caller's transaction, and `ArchiveTables`, which a store's adapter inherits.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from penstock.errors import Fenced
from penstock.ports.archive import Archived, ArchiveFile, ArchiveRange
from penstock.stores.tables import SYSTEM

__all__ = ["ArchiveTables"]

T = TypeVar("T")
StreamPartition = tuple[str, int]

_READ_TIMEOUT_S = 10.0  # of a look at the catalogue: a few rows by key

PLACE = sa.Table(
    "penstock_archive_place",
    SYSTEM,
    sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("mark", sa.Text, nullable=False),
)

ARCHIVED = sa.Table(
    "penstock_archived",
    SYSTEM,
    sa.Column("stream", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("next", sa.BigInteger, nullable=False),
    sa.Column("holds", sa.Boolean, nullable=False),
)

FILE = sa.Table(
    "penstock_archive_file",
    SYSTEM,
    sa.Column("stream", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True),
    sa.Column("epoch", sa.BigInteger, primary_key=True),
    sa.Column("first", sa.BigInteger, primary_key=True),
    sa.Column("next", sa.BigInteger, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("min_time_ms", sa.BigInteger),
    sa.Column("max_time_ms", sa.BigInteger),
    sa.Column("min_received_ms", sa.BigInteger, nullable=False),
    sa.Column("max_received_ms", sa.BigInteger, nullable=False),
    sa.Column("path", sa.Text, nullable=False, unique=True),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("written_at_ms", sa.BigInteger, nullable=False),
)

_COLUMNS = [FILE.c[field.name] for field in fields(ArchiveFile)]


class ArchiveTables(ABC):
    """`ports.archive.ArchiveCatalogue` for a store that can run a function over a connection in a transaction."""

    async def archived(self) -> Mapping[StreamPartition, Archived]:
        """See `ArchiveCatalogue.archived`."""
        return await self._read("reading how far is archived", _read_archived, timeout_s=_READ_TIMEOUT_S)

    async def claim_archive(self, stream: str, partition: int, epoch: int, next_offset: int) -> None:
        """See `ArchiveCatalogue.claim_archive`."""
        await self._write(
            f"claiming the archive of '{stream}'",
            lambda c: _claim(c, stream, partition, epoch=epoch, next_offset=next_offset),
        )

    async def release_archive(self, stream: str | None = None) -> None:
        """See `ArchiveCatalogue.release_archive`."""
        statement = sa.update(ARCHIVED).where(ARCHIVED.c.holds).values(holds=False)
        if stream is not None:
            statement = statement.where(ARCHIVED.c.stream == stream)
        await self._write("releasing the log from the archive", lambda c: c.execute(statement))

    async def add_archive_file(self, file: ArchiveFile, expected: Archived) -> None:
        """See `ArchiveCatalogue.add_archive_file`."""
        await self._write(f"cataloguing {file.path}", lambda c: _add_file(c, file, expected))

    async def archive_files(self, where: ArchiveRange) -> Sequence[ArchiveFile]:
        """See `ArchiveCatalogue.archive_files`."""
        return await self._read(
            f"listing archived files of '{where.stream}'", lambda c: _files(c, where), timeout_s=_READ_TIMEOUT_S
        )

    async def archive_paths(self, after: str, limit: int) -> Sequence[str]:
        """See `ArchiveCatalogue.archive_paths`."""
        statement = sa.select(FILE.c.path).where(FILE.c.path > after).order_by(FILE.c.path).limit(limit)
        return await self._read(
            "listing archived files", lambda c: list(c.execute(statement).scalars()), timeout_s=_READ_TIMEOUT_S
        )

    async def expire_archive_files(self, received_before_ms: int) -> int:
        """See `ArchiveCatalogue.expire_archive_files`."""
        return await self._write("forgetting expired archive files", lambda c: _expire(c, received_before_ms))

    async def archive_place(self) -> str:
        """See `ArchiveCatalogue.archive_place`."""
        return await self._write("reading the archive's mark", _place)

    async def cut_archive(self, stream: str, partition: int, at: int) -> Sequence[ArchiveFile]:
        """See `ArchiveCatalogue.cut_archive`."""
        return await self._write(f"cutting the archive of '{stream}'", lambda c: _cut(c, stream, partition, at=at))

    @abstractmethod
    async def _write(self, doing: str, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in a writing transaction; `doing` is for errors."""

    @abstractmethod
    async def _read(self, doing: str, work: Callable[[sa.Connection], T], *, timeout_s: float) -> T:
        """Run `work` in a reading transaction."""


def _read_archived(connection: sa.Connection) -> dict[StreamPartition, Archived]:
    rows = connection.execute(sa.select(ARCHIVED)).all()
    return {(row.stream, row.partition): Archived(row.epoch, row.next, bool(row.holds)) for row in rows}


def _claim(connection: sa.Connection, stream: str, partition: int, *, epoch: int, next_offset: int) -> None:
    insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(ARCHIVED)
    claim = insert.values(stream=stream, partition=partition, epoch=epoch, next=next_offset, holds=True)
    connection.execute(claim.on_conflict_do_update(index_elements=["stream", "partition"], set_={"holds": True}))


def _add_file(connection: sa.Connection, file: ArchiveFile, expected: Archived) -> None:
    moved = connection.execute(
        sa.update(ARCHIVED)
        .where(
            ARCHIVED.c.stream == file.stream,
            ARCHIVED.c.partition == file.partition,
            ARCHIVED.c.epoch == expected.epoch,
            ARCHIVED.c.next == expected.next,
        )
        .values(epoch=file.epoch, next=file.next)
    )
    if moved.rowcount != 1:
        raise Fenced(
            f"'{file.stream}' partition {file.partition} is not archived up to {expected.next} any more: another "
            "archiver was faster, read the position again"
        )
    connection.execute(sa.insert(FILE).values(asdict(file)))


def _files(connection: sa.Connection, where: ArchiveRange) -> list[ArchiveFile]:
    newer = FILE.alias("newer")
    # Offsets go on from one epoch to the next; where a log was replaced and they do not, the newer file is right.
    hidden = (
        sa.select(sa.literal(1))
        .where(
            newer.c.stream == FILE.c.stream,
            newer.c.partition == FILE.c.partition,
            newer.c.epoch > FILE.c.epoch,
            newer.c.first < FILE.c.next,
            newer.c.next > FILE.c.first,
        )
        .exists()
    )
    statement = (
        sa.select(*_COLUMNS)
        .where(
            FILE.c.stream == where.stream,
            FILE.c.partition == where.partition,
            FILE.c.next > where.low,
            FILE.c.first < where.high,
            ~hidden,
        )
        .order_by(FILE.c.next.desc() if where.descending else FILE.c.next)
        .limit(where.limit)
    )
    for (least, greatest), low, high in (
        (where.time_ms, FILE.c.min_time_ms, FILE.c.max_time_ms),
        (where.received_ms, FILE.c.min_received_ms, FILE.c.max_received_ms),
    ):
        if least is not None:
            statement = statement.where(high >= least)
        if greatest is not None:
            statement = statement.where(low <= greatest)
    return [_file(row) for row in connection.execute(statement)]


def _expire(connection: sa.Connection, received_before_ms: int) -> int:
    kept = FILE.alias("kept")
    behind_a_kept_one = (
        sa.select(sa.literal(1))
        .where(
            kept.c.stream == FILE.c.stream,
            kept.c.partition == FILE.c.partition,
            kept.c.first < FILE.c.first,
            kept.c.max_received_ms >= received_before_ms,
        )
        .exists()
    )
    expired = sa.delete(FILE).where(FILE.c.max_received_ms < received_before_ms, ~behind_a_kept_one)
    return connection.execute(expired).rowcount


def _file(row: Any) -> ArchiveFile:
    return ArchiveFile(**row._mapping)


def _place(connection: sa.Connection) -> str:
    found = connection.execute(sa.select(PLACE.c.mark)).scalar()
    if found is None:
        insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(PLACE)
        connection.execute(insert.values(one=1, mark=secrets.token_hex(16)).on_conflict_do_nothing())
        found = connection.execute(sa.select(PLACE.c.mark)).scalar_one()
    return str(found)


def _cut(connection: sa.Connection, stream: str, partition: int, *, at: int) -> list[ArchiveFile]:
    of_partition = sa.and_(FILE.c.stream == stream, FILE.c.partition == partition)
    rows = connection.execute(sa.select(*_COLUMNS).where(of_partition, FILE.c.next > at).order_by(FILE.c.next))
    files = [_file(row) for row in rows]
    gone = [file for file in files if file.first >= at]
    for file in files:
        this = sa.and_(of_partition, FILE.c.epoch == file.epoch, FILE.c.first == file.first)
        if file.first >= at:
            connection.execute(sa.delete(FILE).where(this))
        else:
            shorter = replace(file, next=at, rows=min(file.rows, at - file.first))
            connection.execute(sa.update(FILE).where(this).values(next=shorter.next, rows=shorter.rows))
    connection.execute(
        sa.update(ARCHIVED)
        .where(ARCHIVED.c.stream == stream, ARCHIVED.c.partition == partition, ARCHIVED.c.next > at)
        .values(next=at)
    )
    return gone
