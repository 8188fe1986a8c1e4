"""The cases of the goldens as files hold them, and the results of Flink beside them. Needs nothing of Penstock.

A file in `cases/` holds either expressions over the rows of one table (`columns`, `rows`, `expressions`) or queries
(`tables`, `cases`). The queries of Nexmark are those of the load tests, over the sample of its events in `nexmark/`.
`results/` has a file of the same name: per case what Flink gave, and `of`, a fingerprint of the case that it was
given, so that a case that was edited shows.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from loadtests.nexmark.suite import SOURCES, queries

__all__ = [
    "FLINK_VERSION", "ROW_ID", "Functions", "Query", "Table", "fingerprint", "function_files", "query_files",
    "read_exceptions", "read_results", "unanswered", "write_results",
]  # fmt: skip

FLINK_VERSION = "2.3.0"
#: Numbers the rows of a table of expressions, from 1.
ROW_ID = "id"
HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Table:
    """`columns` as in CREATE TABLE, with the watermark; `rows` as NDJSON lines."""

    name: str
    columns: str
    rows: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Functions:
    """Expressions, each a case, over the rows of table `t`."""

    file: str
    table: Table
    expressions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """A query over its tables. `late`: late rows are its point, each row is judged by itself.

    `key`: primary key of the table that the query is written to; without one it is written to a stream.
    """

    file: str
    name: str
    tables: tuple[Table, ...]
    views: str
    query: str
    key: tuple[str, ...]
    late: bool


def function_files() -> list[Functions]:
    """All files of expressions, by name."""
    return [_functions(stem, content) for stem, content in _files() if "expressions" in content]


def query_files() -> list[list[Query]]:
    """The cases of all files of queries, by name."""
    found = [_queries(stem, content) for stem, content in _files() if "expressions" not in content]
    return [*found, _nexmark()]


def fingerprint(tables: tuple[Table, ...], *texts: str) -> str:
    """Changes with what Flink is given."""
    given = [
        FLINK_VERSION,
        [(t.name, t.columns.split(), t.rows) for t in tables],
        [" ".join(t.split()) for t in texts],
    ]
    return hashlib.sha256(json.dumps(given).encode()).hexdigest()[:12]


def read_results(file: str) -> dict[str, dict[str, Any]]:
    """Case -> its result; empty if there is none yet."""
    path = HERE / "results" / f"{file}.json"
    found: dict[str, dict[str, Any]] = json.loads(path.read_text())["cases"] if path.exists() else {}
    return found


def write_results(file: str, results: dict[str, dict[str, Any]]) -> None:
    """One line a case, so that differences can be read."""
    lines = [f"{json.dumps(k, ensure_ascii=False)}: {json.dumps(v, ensure_ascii=False)}" for k, v in results.items()]
    path = HERE / "results" / f"{file}.json"
    half = path.with_suffix(".half")
    half.write_text(f'{{"flink": "{FLINK_VERSION}", "cases": {{\n' + ",\n".join(lines) + "\n}}\n")
    half.replace(path)


def unanswered() -> list[str]:
    """Files with a case that Flink was not asked for, or that was edited since."""
    marks: dict[str, dict[str, str]] = {}
    for functions in function_files():
        marks[functions.file] = {e: fingerprint((functions.table,), e) for e in functions.expressions}
    for cases in query_files():
        marks[cases[0].file] = {q.name: fingerprint(q.tables, q.views, q.query, str(q.late)) for q in cases}
    answered = {file: {name: result["of"] for name, result in read_results(file).items()} for file in marks}
    return [file for file, wanted in marks.items() if not wanted.items() <= answered[file].items()]


def read_exceptions() -> list[dict[str, Any]]:
    """`exceptions.yml`: named reasons with the cases and places that differ for them."""
    found: list[dict[str, Any]] = yaml.safe_load((HERE / "exceptions.yml").read_text())
    return found


def _files() -> list[tuple[str, dict[str, Any]]]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [(path.stem, yaml.load(path.read_text(), loader)) for path in sorted((HERE / "cases").glob("*.yml"))]


def _functions(stem: str, content: dict[str, Any]) -> Functions:
    rows = [f'{{"{ROW_ID}": {n}, {row[1:]}' for n, row in enumerate(content["rows"].splitlines(), 1)]
    rows = [row.replace(", }", "}") for row in rows]
    expressions = tuple(e for e in content["expressions"].splitlines() if e.strip() and not e.startswith("--"))
    if len(set(expressions)) != len(expressions):
        raise ValueError(f"{stem}: {[e for e in expressions if expressions.count(e) > 1]} are there twice")
    return Functions(stem, Table("t", f"{ROW_ID} INT, {content['columns'].strip()}", tuple(rows)), expressions)


def _queries(stem: str, content: dict[str, Any]) -> list[Query]:
    found = []
    for name, case in content["cases"].items():
        given = {**content.get("tables", {}), **case.get("tables", {})}
        text = case.get("views", "") + case["query"]
        tables = tuple(
            Table(table, made["columns"].strip(), tuple(made["rows"].splitlines()))
            for table, made in given.items()
            if re.search(rf"\b{table}\b", text)
        )
        late, key = case.get("late", False), tuple(case.get("key", ()))
        if late and len(tables) > 1:
            raise ValueError(f"{stem}: {name}: the order of two inputs decides what is late")
        found.append(Query(stem, name, tables, case.get("views", ""), case["query"].strip(), key, late))
    return found


def _nexmark() -> list[Query]:
    """Written by `loadtests.nexmark.events.write_files(folder, 300, interval_ms=200)`."""
    rows = {name: tuple((HERE / "nexmark" / f"{name}.ndjson").read_text().splitlines()) for name in SOURCES}
    return [
        Query(
            "nexmark", query.name, tuple(Table(name, SOURCES[name], rows[name]) for name in query.sources),
            "", query.select, query.key, late=False,
        )
        for query in queries()
    ]  # fmt: skip
