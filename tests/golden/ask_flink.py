"""Ask Flink for what is missing in `results/`. Runs in Flink's own environment: see `regenerate.py`.

Many expressions go into one job. A value that cannot be computed fails its job, so values that Penstock rejects are
asked for one by one; where a job fails all the same, its expressions are halved, then the rows of the one that fails.
Each result is written as it comes, so that a run that was broken off goes on where it ended.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from golden.flink_session import Failed, FlinkSession, Refused
from golden.golden_cases import (
    ROW_ID,
    Functions,
    Query,
    fingerprint,
    function_files,
    query_files,
    read_results,
    write_results,
)

_EXPRESSIONS_PER_JOB = 40
Doubtful = dict[str, list[int]]


def main() -> None:
    """Files named on the command line are asked again as a whole; without any, what is missing or was edited.

    Standard input: file -> expression -> rows that will probably fail, as JSON.
    """
    again = set(sys.argv[1:])
    doubtful: dict[str, Doubtful] = json.load(sys.stdin)
    session = FlinkSession()
    for queries in query_files():
        if not again or queries[0].file in again:
            _ask_queries(session, queries, again=bool(again))
    for functions in function_files():
        if not again or functions.file in again:
            _ask_functions(session, functions, doubtful[functions.file], again=bool(again))


def _ask_functions(session: FlinkSession, functions: Functions, doubtful: Doubtful, *, again: bool) -> None:
    marks = {e: fingerprint((functions.table,), e) for e in functions.expressions}
    have = _kept(functions.file, marks, again=again)
    missing = [e for e in functions.expressions if e not in have]
    if not missing:
        return
    with session.tables((functions.table,)):
        for first in range(0, len(missing), _EXPRESSIONS_PER_JOB):
            some = missing[first : first + _EXPRESSIONS_PER_JOB]
            found = _columns(session, some, doubtful, len(functions.table.rows))
            have |= {e: {"of": marks[e], **result} for e, result in found.items()}
            _write(functions.file, have, marks)
    _write(functions.file, have, marks)


def _columns(session: FlinkSession, expressions: list[str], doubtful: Doubtful, rows: int) -> dict[str, Any]:
    """Expression -> its type and its value for each row, or why Flink refuses it."""
    try:
        columns, found = session.run(_select(expressions, doubtful))
    except (Failed, Refused) as error:
        if len(expressions) == 1:
            if isinstance(error, Refused):
                return {expressions[0]: {"refused": str(error)}}
            values, types = _halved(session, expressions[0], 1, rows)
            return {expressions[0]: {"type": next(iter(types), "unknown"), "values": values}}
        half = len(expressions) // 2
        below, above = expressions[:half], expressions[half:]
        return _columns(session, below, doubtful, rows) | _columns(session, above, doubtful, rows)
    found.sort(key=lambda row: row[0])
    results = {}
    for n, expression in enumerate(expressions, 1):
        values = [row[n] for row in found]
        for row in doubtful.get(expression, ()):
            [values[row - 1]], _ = _halved(session, expression, row, row)
        results[expression] = {"type": columns[n][1], "values": values}
    return results


def _halved(session: FlinkSession, expression: str, first: int, last: int) -> tuple[list[Any], list[str]]:
    """Values of the rows `first` to `last`, with `{"error": ...}` for those that fail; types of those that do not."""
    try:
        columns, rows = session.run(f"{_select([expression], {})} WHERE {ROW_ID} BETWEEN {first} AND {last}")
        return [row[1] for row in sorted(rows, key=lambda row: row[0])], [columns[1][1]]
    except Failed as failed:
        if first == last:
            return [{"error": str(failed)}], []
    middle = (first + last) // 2
    below, above = _halved(session, expression, first, middle), _halved(session, expression, middle + 1, last)
    return below[0] + above[0], below[1] + above[1]


def _select(expressions: list[str], doubtful: Doubtful) -> str:
    made = []
    for expression in expressions:
        left_out = ", ".join(map(str, doubtful.get(expression, ())))
        made.append(f"CASE WHEN {ROW_ID} IN ({left_out}) THEN NULL ELSE {expression} END" if left_out else expression)
    return f"SELECT {ROW_ID}, " + ", ".join(f"{e} AS v{n}" for n, e in enumerate(made)) + " FROM t"


def _ask_queries(session: FlinkSession, queries: list[Query], *, again: bool) -> None:
    file = queries[0].file
    marks = {q.name: fingerprint(q.tables, q.views, q.query, str(q.late)) for q in queries}
    have = _kept(file, marks, again=again)
    for query in queries:
        if query.name in have:
            continue
        result: dict[str, Any] = {"of": marks[query.name]}
        try:
            with session.tables(query.tables, query.views, per_row=query.late):
                columns, rows = session.run(query.query, query.key)
            result |= {"columns": columns, "rows": sorted(rows, key=repr)}
        except (Refused, Failed) as refused:  # a failed job is what a query would be refused for here
            result["refused"] = str(refused)
        have[query.name] = result
        _write(file, have, marks)
    _write(file, have, marks)


def _kept(file: str, marks: dict[str, str], *, again: bool) -> dict[str, dict[str, Any]]:
    if again:
        return {}
    return {name: result for name, result in read_results(file).items() if result["of"] == marks.get(name)}


def _write(file: str, have: dict[str, dict[str, Any]], order: dict[str, str]) -> None:
    if have != read_results(file):
        write_results(file, {name: have[name] for name in order if name in have})
        print(f"{file}: {len(have)} of {len(order)}", flush=True)


if __name__ == "__main__":
    main()
