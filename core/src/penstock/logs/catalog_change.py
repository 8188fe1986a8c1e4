"""What deploying or removing an app does to the catalog: a decision without I/O, shared by all adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from penstock.errors import PenstockError
from penstock.model.stream import Relation, StreamSpec
from penstock.ports.log import AppRecord, Catalog

__all__ = ["CatalogChange", "CatalogState", "delete_app", "put_app"]


@dataclass(frozen=True, slots=True)
class CatalogState:
    """The catalog and the epoch of every stream that ever was: a name that comes back gets a new epoch."""

    catalog: Catalog = field(default_factory=lambda: Catalog(0, {}, {}))
    epochs: Mapping[str, int] = field(default_factory=dict)

    def stream(self, name: str) -> StreamSpec:
        """The stream in force; `unknown_stream` if there is none."""
        spec = self.catalog.streams.get(name)
        if spec is None:
            raise PenstockError("unknown_stream", f"there is no stream '{name}'; deploy an app that declares it")
        return spec

    def partition(self, name: str, partition: int) -> StreamSpec:
        """The stream, if it has that partition; `bad_request` if it has not."""
        spec = self.stream(name)
        if not 0 <= partition < spec.partitions:
            raise PenstockError(
                "bad_request", f"stream '{name}' has partitions 0 to {spec.partitions - 1}, not {partition}"
            )
        return spec


@dataclass(frozen=True, slots=True)
class CatalogChange:
    """The next state and what follows from it for batches, heads and positions."""

    state: CatalogState
    record: AppRecord | None  # None: the app is removed
    renewed: tuple[str, ...]  # new or recreated: their epoch has grown, older batches go
    dropped: tuple[str, ...]  # no longer declared: their batches and positions go
    moved: tuple[str, ...] = ()  # became a source or ceased to be one: positions go, offsets may begin anew

    @property
    def changed(self) -> tuple[str, ...]:
        """Streams whose older batches are void."""
        return self.renewed + self.dropped


def put_app(
    state: CatalogState,
    app: str,
    *,
    sql: str,
    streams: Sequence[StreamSpec],
    expected_version: int | None,
    now_ms: int,
) -> CatalogChange:
    """Deploy or replace an app. Errors as `Log.put_app`."""
    old = state.catalog.apps.get(app)
    _check_version(app, old, expected_version)
    _check_names(state, app, streams)
    record = AppRecord(app, old.version + 1 if old else 1, sql, now_ms)
    declared = {spec.name: spec for spec in streams}
    before = {name: spec for name, spec in state.catalog.streams.items() if spec.app == app}
    renewed = tuple(
        name for name, spec in declared.items() if name not in before or _needs_new_epoch(before[name], spec)
    )
    others = {name: spec for name, spec in state.catalog.streams.items() if spec.app != app}
    catalog = Catalog(state.catalog.version + 1, others | declared, {**state.catalog.apps, app: record})
    epochs = {**state.epochs, **{name: state.epochs.get(name, 0) + 1 for name in renewed}}
    dropped = tuple(name for name in before if name not in declared)
    moved = tuple(name for name in renewed if name in before and before[name].relation is not declared[name].relation)
    return CatalogChange(CatalogState(catalog, epochs), record, renewed, dropped, moved)


def delete_app(state: CatalogState, app: str, *, expected_version: int | None) -> CatalogChange:
    """Remove an app and its streams. Errors as `Log.delete_app`."""
    old = state.catalog.apps.get(app)
    if old is None:
        raise PenstockError("unknown_app", f"there is no app '{app}'")
    _check_version(app, old, expected_version)
    kept = {name: spec for name, spec in state.catalog.streams.items() if spec.app != app}
    apps = {name: record for name, record in state.catalog.apps.items() if name != app}
    dropped = tuple(name for name in state.catalog.streams if name not in kept)
    catalog = Catalog(state.catalog.version + 1, kept, apps)
    return CatalogChange(CatalogState(catalog, state.epochs), None, (), dropped)


def _check_version(app: str, old: AppRecord | None, expected_version: int | None) -> None:
    version = old.version if old else 0
    if expected_version is None or expected_version == version:
        return
    now = f"is at version {version}" if old else "does not exist"
    raise PenstockError(
        "precondition_failed", f"app '{app}' {now}, not at {expected_version}; read it again and repeat the change"
    )


def _check_names(state: CatalogState, app: str, streams: Sequence[StreamSpec]) -> None:
    seen: set[str] = set()
    for spec in streams:
        owner = state.catalog.streams.get(spec.name)
        if owner is not None and owner.app != app:
            raise PenstockError(
                "name_taken", f"'{spec.name}' belongs to app '{owner.app}'; rename it or remove it there"
            )
        if spec.app != app:
            raise PenstockError("bad_request", f"'{spec.name}' says it belongs to '{spec.app}', not to '{app}'")
        if not spec.name or spec.name in seen:
            raise PenstockError("name_taken", f"app '{app}' declares '{spec.name}' twice or without a name")
        if spec.partitions < 1:
            raise PenstockError("bad_request", f"'{spec.name}' needs at least one partition")
        if owner is not None and owner.topic != spec.topic:
            raise PenstockError(
                "conflict",
                f"'{spec.name}' has positions in {owner.topic or 'its own events'}; give the table another name, or "
                "deploy the app without it first",
            )
        seen.add(spec.name)


def _needs_new_epoch(old: StreamSpec, new: StreamSpec) -> bool:
    """Whether batches of `old` cannot be read as `new`.

    A source keeps its events as they were received, so that columns may come and go; a derived stream's payload
    has the columns that it was written with.
    """
    if old.relation is not new.relation or old.partitions != new.partitions:
        return True
    if new.relation is Relation.SOURCE:
        return False
    return (old.columns, old.primary_key, old.key, old.emit) != (new.columns, new.primary_key, new.key, new.emit)
