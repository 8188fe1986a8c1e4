"""Heads and catalog as a file has them, and as its writing thread keeps them in memory between transactions."""

from __future__ import annotations

import apsw

from penstock.logs.catalog_change import CatalogState
from penstock.logs.specs import spec_from_text
from penstock.logs.sqlite_schema import meta
from penstock.ports.log import AppRecord, Catalog, Head

__all__ = ["CatalogBook", "HeadBook", "load_catalog", "load_heads"]

StreamPartition = tuple[str, int]


class HeadBook:
    """The heads with this transaction's changes. The only writer of the file may keep them in memory."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._heads: dict[StreamPartition, Head] = load_heads(connection)
        self._dirty: set[StreamPartition] = set()

    def get(self, stream: str, partition: int, *, epoch: int) -> Head:
        """The head in `epoch`: where the partition is of an older one, what it held is void and offsets go on."""
        head = self._heads.get((stream, partition))
        if head is None:
            return Head(epoch, 0, 0, None)
        if head.epoch < epoch:
            return Head(epoch, head.next, head.next, None)
        return head

    def put(self, stream: str, partition: int, head: Head) -> None:
        """Change a head in this transaction."""
        self._heads[stream, partition] = head
        self._dirty.add((stream, partition))

    def keys(self) -> list[StreamPartition]:
        """All partitions that ever had a head, those of dropped streams too."""
        return list(self._heads)

    def flush(self) -> None:
        """Write the changed heads; the last thing before COMMIT."""
        for key in self._dirty:
            head = self._heads[key]
            self._connection.execute(
                "INSERT INTO heads VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET epoch = excluded.epoch, "
                "first = excluded.first, next = excluded.next, watermark_ms = excluded.watermark_ms",
                (*key, head.epoch, head.first, head.next, head.watermark_ms),
            )
        self._dirty.clear()

    def reload(self) -> None:
        """After a rollback of the whole group: what the file says holds again."""
        self._dirty.clear()
        self._heads = load_heads(self._connection)

    def mark(self) -> tuple[dict[StreamPartition, Head], set[StreamPartition]]:
        """Before a savepoint."""
        return dict(self._heads), set(self._dirty)

    def restore(self, mark: tuple[dict[StreamPartition, Head], set[StreamPartition]]) -> None:
        """After a rollback to the savepoint."""
        self._heads, self._dirty = mark


class CatalogBook:
    """The catalog with this transaction's changes; read when first asked for (ingest.db has none)."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._state: CatalogState | None = None

    @property
    def state(self) -> CatalogState:
        """The catalog in force in this transaction."""
        if self._state is None:
            self._state = load_catalog(self._connection)
        return self._state

    def put(self, state: CatalogState) -> None:
        """Change it in this transaction; the caller has written the rows."""
        self._state = state

    def forget(self) -> None:
        """After any rollback: what the file says holds again."""
        self._state = None


def load_catalog(connection: apsw.Connection) -> CatalogState:
    """The catalog in the file, read in one transaction."""
    with connection:
        version = int(str(meta(connection, "catalog_version")))
        streams = {name: spec_from_text(text) for name, text in connection.execute("SELECT name, spec FROM streams")}
        rows = connection.execute("SELECT name, version, sql, deployed_at_ms FROM apps")
        apps = {name: AppRecord(name, *rest) for name, *rest in rows}
        epochs = dict(connection.execute("SELECT stream, epoch FROM epochs"))
    return CatalogState(Catalog(version, streams, apps), epochs)


def load_heads(connection: apsw.Connection) -> dict[StreamPartition, Head]:
    """The heads in the file."""
    rows = connection.execute("SELECT stream, partition, epoch, first, next, watermark_ms FROM heads")
    return {(stream, partition): Head(*head) for stream, partition, *head in rows}
