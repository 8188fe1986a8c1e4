"""Which adapter delivers which table: by its connector. Adapters are imported when they are asked for."""

from __future__ import annotations

from pathlib import Path

from penstock.model.stream import Relation, StreamSpec
from penstock.outlets.options import (
    OUTLETS,
    FileOutletOptions,
    HttpOutletOptions,
    JdbcOutletOptions,
    KafkaOutletOptions,
    OutletOptions,
    UpsertKafkaOutletOptions,
    WebSocketOutletOptions,
    read_outlet_options,
)
from penstock.outlets.secrets import filled
from penstock.ports.outlet import Outlet, OutletUnavailable

__all__ = ["OUR_OPTIONS", "has_outlet", "make_outlet", "outlet_options"]

#: Options of such a table that are Penstock's own: it is a stream of the log like any other.
OUR_OPTIONS = frozenset(
    {"key", "partitions", "publish", "store", "scope", "retention", "emit", "late", "lateness"}
)  # fmt: skip


def has_outlet(spec: StreamSpec) -> bool:
    """Whether rows of the table are delivered to a system of others."""
    return spec.relation is not Relation.SOURCE and not spec.internal and spec.options.get("connector") in OUTLETS


def outlet_options(spec: StreamSpec, *, secrets: Path | None) -> OutletOptions:
    """The options of a table with `has_outlet`, with its secrets. Blocks: reads their files.

    OutletUnavailable for a secret that is not there or gives no value that may stand in its place.
    """
    connector = spec.options["connector"]
    written = {name: text for name, text in spec.options.items() if name not in OUR_OPTIONS}
    found = read_outlet_options(connector, filled(written, secrets))
    if isinstance(found, list):  # checked when the app was planned, so a secret makes the difference
        raise OutletUnavailable(f"option '{found[0].name}' of '{spec.name}' with its secret: {found[0].remedy}")
    return found


def make_outlet(spec: StreamSpec, options: OutletOptions, *, partition: int, task: str) -> Outlet:
    """The outlet of one partition, not yet open. `task`: the delivery's name, by which others may know it."""
    match options:
        case HttpOutletOptions():
            from penstock.outlets.http import HttpOutlet

            return HttpOutlet(spec, options)
        case WebSocketOutletOptions():
            from penstock.outlets.websocket import WebSocketOutlet

            return WebSocketOutlet(spec, options)
        case FileOutletOptions():
            from penstock.outlets.file import FileOutlet

            return FileOutlet(spec, options, partition=partition)
        case JdbcOutletOptions():
            from penstock.outlets.jdbc import JdbcOutlet

            return JdbcOutlet(spec, options, task=task)
        case KafkaOutletOptions() | UpsertKafkaOutletOptions():
            try:
                from penstock.outlets.kafka import KafkaOutlet
            except ImportError as error:
                raise OutletUnavailable(
                    f"'connector' = 'kafka' needs the extra 'kafka' ({error}); install it"
                ) from error
            return KafkaOutlet(spec, options, task=task)
        case _:
            raise AssertionError(f"no adapter for {type(options).__name__}")
