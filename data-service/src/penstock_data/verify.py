"""`penstock verify`: does what the log, the archive and the store say agree? Reads only; safe while the system runs.

Every look takes the store's position first and then what the log says up to there, so that whatever moves meanwhile
is simply not part of the comparison.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import polars as pl
import zstandard

from penstock.codecs.arrow import decode_frame
from penstock.codecs.frames import polars_schema
from penstock.codecs.ndjson import decode_lines
from penstock.model.batch import OP_COLUMN, Batch, Encoding, Op
from penstock.model.stream import Relation, StreamSpec
from penstock.model.types import Kind
from penstock.ports.archive import ArchiveFile, ArchiveRange
from penstock.ports.log import Head, Log
from penstock.ports.store import Store
from penstock_data.apply import is_stored
from penstock_data.archive_folder import ArchiveFolder, file_sha256
from penstock_data.query import POSITION
from penstock_data.stored_rows import stored_rows_between

__all__ = ["Finding", "Report", "Verifier"]

_READ_BYTES = 4 * 1024 * 1024
_FILES_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not agree: a code, where, what is wrong, and what to do."""

    code: str
    place: str
    detail: str
    remedy: str


@dataclass(slots=True)
class Report:
    """What was looked at, what does not agree, and what could not be compared (which is no error)."""

    counts: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    not_compared: list[str] = field(default_factory=list)

    def count(self, what: str, number: int = 1) -> None:
        """Add to a count."""
        self.counts[what] = self.counts.get(what, 0) + number

    def find(self, code: str, place: str, detail: str, remedy: str) -> None:
        """Note what does not agree."""
        self.findings.append(Finding(code, place, detail, remedy))


class Verifier:
    """Compares; `on_step` is told what is looked at."""

    def __init__(
        self, log: Log, store: Store, folder: ArchiveFolder, *, on_step: Callable[[str], None] = lambda _: None
    ) -> None:
        self._log, self._store, self._folder, self._on_step = log, store, folder, on_step
        self._report = Report()

    async def run(self) -> Report:
        """Look at everything that the catalog names."""
        catalog = await self._log.catalog()
        stored = await self._store.relations()
        for spec in catalog.streams.values():
            for partition in range(spec.partitions):
                self._on_step(f"log of {spec.name}, partition {partition}")
                await self._log_of(spec, partition)
                if spec.relation is Relation.SOURCE:
                    self._on_step(f"archive of {spec.name}, partition {partition}")
                    await self._archive_of(spec, partition)
            if is_stored(spec) and spec.name in stored:
                self._on_step(f"table of {spec.name}")
                await self._stored(spec)
        return self._report

    async def _log_of(self, spec: StreamSpec, partition: int) -> None:
        """Batches readable, one after the other, and up to the head."""
        place = f"{spec.name}/{partition}"
        head = await self._log.head(spec.name, partition)
        at = head.first
        async for batch in self._batches(spec, partition, head.first, head.next):
            self._report.count("batches")
            self._report.count("events", batch.count)
            if batch.first > at and not await self._was_trimmed(spec, partition, batch.first):
                self._report.find(
                    "log_gap", place, f"offsets {at} to {batch.first} are in no batch",
                    "restore the log from a backup; events that are archived are still in raw."
                )  # fmt: skip
            try:
                await asyncio.to_thread(_check_payload, batch)
            except (ValueError, zstandard.ZstdError, pl.exceptions.PolarsError) as error:
                self._report.find(
                    "log_batch", place, f"the batch at {batch.first} to {batch.next} cannot be read: {error}",
                    "restore the log from a backup",
                )  # fmt: skip
            at = batch.next
        if at < head.next and self._log.capabilities.retention_holds:
            self._report.find(
                "log_end",
                place,
                f"its head says {head.next}, its batches end at {at}",
                "restore the log from a backup",
            )

    async def _was_trimmed(self, spec: StreamSpec, partition: int, first: int) -> bool:
        return (await self._log.head(spec.name, partition)).first >= first

    async def _archive_of(self, spec: StreamSpec, partition: int) -> None:
        """Files whole and one after the other, up to the position; archive and log leave nothing out between them."""
        place = f"{spec.name}/{partition}"
        archived = (await self._store.archived()).get((spec.name, partition))
        head = await self._log.head(spec.name, partition)
        if archived is None:
            return
        if archived.epoch == head.epoch and archived.next > head.next:
            self._report.find(
                "archive_ahead", place,
                f"archived up to {archived.next}, the log ends at {head.next}: it was restored",
                "stop the system and run `penstock rebuild --archive`",
            )  # fmt: skip
        at: int | None = None
        low = 0
        while files := await self._store.archive_files(
            ArchiveRange(spec.name, partition, low, archived.next, limit=_FILES_AT_ONCE)
        ):
            for file in files:
                self._report.count("archive files")
                if at is not None and file.first != at:
                    self._report.find(
                        "archive_gap", place, f"files end at {at} and go on at {file.first}",
                        "events between them are lost unless a file of that range is in the folder",
                    )  # fmt: skip
                wrong = await asyncio.to_thread(_check_file, self._folder, file)
                if isinstance(wrong, str):
                    self._report.find("archive_file", file.path, wrong, "put the file back from a backup")
                else:
                    self._report.count("archived events", wrong)
                    if wrong != file.rows:
                        self._report.find(
                            "archive_rows", file.path, f"{wrong} rows, the catalogue says {file.rows}",
                            "put the file back from a backup",
                        )  # fmt: skip
                at = file.next
            low = files[-1].next
        if at is not None and at < min(archived.next, head.first):
            self._report.find(
                "archive_gap", place, f"files end at {at}, archived is up to {archived.next}, the log begins at "
                f"{head.first}", "events between them are lost: put the missing files' catalogue back from a backup",
            )  # fmt: skip
        if archived.next < head.first and archived.epoch == head.epoch:
            self._report.find(
                "archive_gap", place, f"archived up to {archived.next}, the log begins at {head.first}",
                "the log let go of events before they were archived: give the stream a longer retention",
            )  # fmt: skip

    async def _stored(self, spec: StreamSpec) -> None:
        """Rows equal to what the changelog in the log says, as far as the log still has it."""
        applied = await self._store.applied(spec.name)
        if applied is None:
            self._report.not_compared.append(f"{spec.name}: nothing has been applied yet")
            return
        heads = [await self._log.head(spec.name, partition) for partition in range(spec.partitions)]
        for partition, head in enumerate(heads):
            if (applied.epoch, applied.next.get(partition, 0)) > (head.epoch, head.next):
                self._report.find(
                    "store_ahead", f"{spec.name}/{partition}",
                    f"applied up to {applied.next[partition]}, the log ends at {head.next}: it was restored",
                    f"stop the system and run `penstock rebuild {spec.name}`",
                )  # fmt: skip
                return
        if spec.relation is Relation.TABLE and spec.primary_key:
            await self._table(spec, heads)
        else:
            await self._stream(spec, heads, applied.next)

    async def _table(self, spec: StreamSpec, heads: list[Head]) -> None:
        found = await self._store.snapshot(spec.name)
        names = [column.name for column in spec.columns]
        key = list(spec.primary_key)
        latest = pl.DataFrame(schema={**polars_schema(spec.columns), OP_COLUMN: pl.Int8()})
        for partition, head in enumerate(heads):
            until = found.applied.next.get(partition, head.first)
            async for batch in self._batches(spec, partition, head.first, until):
                rows = decode_frame(batch.payload).select([*names, OP_COLUMN]).head(max(0, until - batch.base))
                live = rows.filter(pl.col(OP_COLUMN) != Op.UPDATE_BEFORE.value).drop_nulls(key)
                latest = pl.concat([latest, live]).unique(subset=key, keep="last", maintain_order=False)
        gone = pl.col(OP_COLUMN) == Op.DELETE.value
        expected = _comparable(spec, latest.filter(~gone).select(names))
        actual = _comparable(spec, found.frame.select(names))
        self._report.count("rows compared", expected.height)
        wrong = expected.join(actual, on=names, how="anti", nulls_equal=True).height
        undeleted = actual.join(latest.filter(gone).select(key), on=key, how="semi").height
        if wrong or undeleted:
            self._report.find(
                "rows", spec.name, f"{wrong} rows differ from the log or are missing, {undeleted} should be deleted",
                f"run `penstock rebuild {spec.name}`",
            )  # fmt: skip
        unknown = actual.join(latest.select(key), on=key, how="anti").height
        if unknown and all(head.first == 0 for head in heads):
            self._report.find(
                "rows", spec.name, f"{unknown} rows are in no changelog", f"run `penstock rebuild {spec.name}`"
            )
        elif unknown:
            self._report.not_compared.append(
                f"{spec.name}: {unknown} rows are older than what the log still has (from {_begins(heads)} on)"
            )

    async def _stream(self, spec: StreamSpec, heads: list[Head], applied: dict[int, int] | object) -> None:
        assert isinstance(applied, dict)  # positions by partition
        names = [column.name for column in spec.columns]
        for partition, head in enumerate(heads):
            until = applied.get(partition, head.first)
            async for batch in self._batches(spec, partition, head.first, until):
                expected = _comparable(
                    spec, decode_frame(batch.payload).select(names).head(max(0, until - batch.base))
                )
                actual = _comparable(
                    spec, await stored_rows_between(self._store, spec, partition, batch.base, min(batch.next, until))
                )
                self._report.count("rows compared", expected.height)
                if not expected.equals(actual):
                    self._report.find(
                        "rows", f"{spec.name}/{partition}",
                        f"rows at {batch.base} to {batch.next} differ from the log ({expected.height} and "
                        f"{actual.height} rows)", f"run `penstock rebuild {spec.name}`",
                    )  # fmt: skip
        if any(head.first for head in heads):
            self._report.not_compared.append(
                f"{spec.name}: rows before {_begins(heads)}, which the log no longer has"
            )

    async def _batches(self, spec: StreamSpec, partition: int, low: int, high: int) -> AsyncIterator[Batch]:
        """Batches of [low, high); what the log lets go of meanwhile is passed over."""
        while low < high:
            found = await self._log.read(spec.name, partition, low, _READ_BYTES)
            if not found:
                return
            for batch in found:
                if batch.first >= high:
                    return
                yield batch
            low = found[-1].next


def _check_payload(batch: Batch) -> None:
    if batch.encoding is Encoding.ARROW:
        events = decode_frame(batch.payload).height
    else:
        events = decode_lines(batch.payload).count(b"\n") + 1
    if events != batch.count:
        raise ValueError(f"{events} events for {batch.count} offsets")


def _check_file(folder: ArchiveFolder, file: ArchiveFile) -> int | str:
    """The number of its rows that the catalogue counts, or what is wrong with the file."""
    whole = folder.root / file.path
    try:
        if file_sha256(whole) != file.sha256:
            return "its content is not what was written (SHA-256 differs)"
        offsets = pl.read_parquet(whole, columns=[POSITION])[POSITION]
    except (OSError, pl.exceptions.PolarsError) as error:
        return f"cannot be read: {error}"
    if not offsets.is_sorted() or offsets.n_unique() != len(offsets):
        return "its offsets are not in order"
    return int(offsets.is_between(file.first, file.next, closed="left").sum())


def _comparable(spec: StreamSpec, frame: pl.DataFrame) -> pl.DataFrame:
    """As the store keeps it: NaN is NULL."""
    floats = [c.name for c in spec.columns if c.type.kind in (Kind.FLOAT, Kind.DOUBLE)]
    return frame.with_columns(pl.col(floats).fill_nan(None)) if floats else frame


def _begins(heads: list[Head]) -> str:
    return ", ".join(f"{partition}:{head.first}" for partition, head in enumerate(heads))
