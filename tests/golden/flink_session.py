"""Apache Flink in this process, as far as goldens need it. Runs in Flink's own environment, which has no Penstock.

Values are written as JSON has them: DECIMAL and times as text, BYTES in hexadecimal, NaN and infinities by name.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, time
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import Any

from golden.golden_cases import Table
from py4j.java_collections import JavaArray, JavaMap
from py4j.protocol import Py4JJavaError
from pyflink.common import Configuration
from pyflink.table import EnvironmentSettings, TableEnvironment
from pyflink.util.exceptions import TableException

__all__ = ["Failed", "FlinkSession", "Refused"]

#: By default Flink listens on all interfaces.
_LOOPBACK = (
    "rest.address", "rest.bind-address", "jobmanager.bind-host", "jobmanager.rpc.address", "taskmanager.bind-host",
    "taskmanager.host",
)  # fmt: skip
_SETTINGS = {"parallelism.default": "1", "table.local-time-zone": "UTC", "restart-strategy.type": "none"}


class Refused(Exception):
    """Flink does not take the query."""


class Failed(Exception):
    """The job failed: a value could not be computed."""


class FlinkSession:
    """Tables over NDJSON files, and the results of queries."""

    def __init__(self) -> None:
        configuration = Configuration()
        for name in _LOOPBACK:
            configuration.set_string(name, "127.0.0.1")
        for name, value in _SETTINGS.items():
            configuration.set_string(name, value)
        settings = EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(configuration)
        self._env = TableEnvironment.create(settings.build())

    @contextmanager
    def tables(self, tables: tuple[Table, ...], views: str = "", *, per_row: bool = False) -> Iterator[None]:
        """The tables and views, until the end of the block. `per_row`: the watermark follows every row."""
        # 'scan.watermark.emit.strategy' is not for this connector; the interval is also the least step of event time.
        self._env.get_config().set("pipeline.auto-watermark-interval", "0 ms" if per_row else "200 ms")
        written = [view.strip() for view in views.split(";") if view.strip()]
        with tempfile.TemporaryDirectory() as folder:
            try:
                for table in tables:
                    path = Path(folder) / f"{table.name}.ndjson"
                    path.write_text("".join(f"{row}\n" for row in table.rows))
                    self._env.execute_sql(
                        f"CREATE TEMPORARY TABLE {table.name} ({table.columns}) WITH ("
                        f"'connector' = 'filesystem', 'path' = '{path.as_uri()}', 'format' = 'json')"
                    )
                for view in written:
                    self._env.execute_sql(view.replace("CREATE VIEW", "CREATE TEMPORARY VIEW", 1))
            except (Py4JJavaError, TableException) as error:
                raise ValueError(f"Flink refuses a table or view of a case: {_cause(error)}") from None
            try:
                yield
            finally:
                made = [("VIEW", view.split()[2]) for view in written] + [("TABLE", table.name) for table in tables]
                for kind, name in made:
                    self._env.execute_sql(f"DROP TEMPORARY {kind} IF EXISTS {name}")

    def run(self, query: str, key: Sequence[str] = ()) -> tuple[list[tuple[str, str]], list[list[Any]]]:
        """(name, type) of the columns, and the rows when all changes are applied. Raises Refused, Failed.

        `key`: columns that tell rows apart. Where Flink knows such a key, it takes no row back before it brings
        another in its place.
        """
        try:
            result = self._env.execute_sql(query)._j_table_result
        except (Py4JJavaError, TableException) as error:
            raise Refused(_cause(error)) from None
        columns = [(c.getName(), str(c.getDataType())) for c in result.getResolvedSchema().getColumns()]
        places = [n for n, (name, _) in enumerate(columns) if name in key]
        rows: list[list[Any]] = []
        try:
            found = result.collect()
            while found.hasNext():
                row = found.next()
                values = [_value(row.getField(n)) for n in range(row.getArity())]
                if places:
                    rows = [other for other in rows if any(other[n] != values[n] for n in places)]
                elif row.getKind().shortString() in ("-U", "-D"):
                    rows.remove(values)
                if row.getKind().shortString() in ("+I", "+U"):
                    rows.append(values)
            found.close()
        except Py4JJavaError as error:
            raise Failed(_cause(error)) from None
        return columns, rows


def _value(value: Any) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if isfinite(value) else {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}[str(value)]
        case Decimal():
            return f"{value:f}"
        case bytes() | bytearray():
            return bytes(value).hex()
        case JavaArray():
            return [_value(each) for each in value]
        case JavaMap():
            return sorted(([_value(key), _value(each)] for key, each in value.items()), key=repr)
    kind, text = value.getClass().getSimpleName(), value.toString()
    if kind == "Row":
        return [_value(value.getField(n)) for n in range(value.getArity())]
    if kind in ("LocalDateTime", "Instant"):
        return _time(text.removesuffix("Z")) + ("Z" if kind == "Instant" else "")
    if kind == "LocalTime":
        read = time.fromisoformat(text)
        return read.isoformat("milliseconds" if read.microsecond else "seconds")
    return text


def _time(text: str) -> str:
    """Milliseconds always, finer digits where there are some; years that Python does not know as they come."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        return text
    return read.isoformat(timespec="microseconds" if read.microsecond % 1000 else "milliseconds")


def _cause(error: Exception) -> str:
    """The innermost cause, one line."""
    if isinstance(error, Py4JJavaError):
        cause = error.java_exception
        while cause.getCause() is not None:
            cause = cause.getCause()
        text = f"{cause.getClass().getSimpleName()}: {cause.getMessage()}"
    else:
        text = str(error)
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[0].strip()[:160]
