"""`penstock query`: one SELECT over stored streams and tables of a running Penstock."""

from __future__ import annotations

import csv
import sys
from typing import Annotated, Any

import msgspec
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from penstock.client.model import QueryResult
from penstock_app.commands_client import DEFAULT_DATA, AsJson, Data, run_work

__all__ = ["register"]


def register(program: typer.Typer) -> None:
    """Add the command of this file."""
    program.command()(query)


def query(
    sql: Annotated[str, typer.Argument(help="A SELECT, or - to read it from standard input.")],
    *,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", help="Value of the next ?: JSON (5, true, null), else text; may repeat."),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    data: Data = DEFAULT_DATA,
    json: AsJson = False,
) -> None:
    """Ask stored streams and tables with SQL: a table on a terminal, one JSON object a row elsewhere."""
    from penstock_app.api import Api, read_credentials

    text = sys.stdin.read() if sql == "-" else sql

    async def run() -> QueryResult:
        async with Api.open(read_credentials(data)) as api:
            return await api.client.query(text, [_value(one) for one in param or []])

    found = run_work(run())
    if json:
        _print_json({"columns": found.columns, "rows": found.rows, "truncated": found.truncated})
    elif as_csv:
        _print_csv(found)
    elif sys.stdout.isatty():
        _print_table(found)
    else:
        for row in found.rows:
            _print_json(row)
    if found.truncated:
        Console(stderr=True).print("There are more rows: narrow the query, or add LIMIT and OFFSET.")


def _value(text: str) -> Any:
    """A parameter as JSON has it; what is no JSON value is a text."""
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return text if isinstance(found, list | dict) else found


def _print_json(value: object) -> None:
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def _print_csv(found: QueryResult) -> None:
    writer = csv.DictWriter(sys.stdout, list(found.columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(found.rows)


def _print_table(found: QueryResult) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    for name in found.columns:
        table.add_column(Text(name))
    for row in found.rows:
        table.add_row(*(Text("" if value is None else str(value)) for value in row.values()))
    Console().print(table)
