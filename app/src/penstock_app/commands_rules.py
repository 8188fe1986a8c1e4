"""`penstock rules`: rules of a running Penstock, listed, put, switched off and on, tried, deleted."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["register"]

Data = Annotated[
    Path, typer.Option(envvar="PENSTOCK_DATA", help="Data folder of the running system (for its client.json).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
File = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", help="Rules as JSON or YAML: one, a list, or {rules: [...]}; - for input."),
]
Name = Annotated[str | None, typer.Option(help="Name of the rule, instead of a file.")]
Source = Annotated[str | None, typer.Option(help="Stream or table that it reads.")]
Predicate = Annotated[str | None, typer.Option("--where", help="SQL predicate: rows for which it is true hit.")]
Target = Annotated[str | None, typer.Option(help="Stream that it writes; several rules may share one.")]
Columns = Annotated[str | None, typer.Option(help="Select list [default: all columns].")]
Severity = Annotated[Literal["info", "warning", "critical"] | None, typer.Option(help="[default: warning]")]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Names of rules.")]

DEFAULT_DATA = Path("penstock-data")
_COLOURS = {"info": "cyan", "warning": "yellow", "critical": "bold red"}
_WRITTEN = ("name", "source", "predicate", "columns", "target", "severity", "enabled")
_PATH = "/v1/rules"


def register(program: typer.Typer) -> None:
    """Add the commands of this file."""
    rules = typer.Typer(help="Rules of a running Penstock: list, put, enable, disable, delete, dry-run.")
    rules.callback(invoke_without_command=True)(listed_by_default)
    for name, command in (
        ("list", list_rules), ("put", put), ("enable", enable), ("disable", disable), ("delete", delete),
        ("dry-run", dry_run),
    ):  # fmt: skip
        rules.command(name)(command)
    program.add_typer(rules, name="rules")


def listed_by_default(
    context: typer.Context, *, source: Source = None, data: Data = DEFAULT_DATA, json: AsJson = False
) -> None:
    """Rules of a running Penstock: without a command they are listed."""
    if context.invoked_subcommand is None:
        list_rules(source=source, data=data, json=json)


def list_rules(*, source: Source = None, data: Data = DEFAULT_DATA, json: AsJson = False) -> None:
    """List the rules with their hits."""
    answer = _call(data, "GET", "", params={} if source is None else {"source": source})
    if json:
        _print_json(answer)
    elif answer["rules"]:
        Console(highlight=False).print(_table(answer["rules"]))
    else:
        Console(stderr=True).print("There are no rules; `penstock rules put` makes some.")


def put(
    file: File = None,
    *,
    name: Name = None,
    source: Source = None,
    predicate: Predicate = None,
    target: Target = None,
    columns: Columns = None,
    severity: Severity = None,
    off: Annotated[bool, typer.Option("--off", help="Put it switched off.")] = False,
    data: Data = DEFAULT_DATA,
    json: AsJson = False,
) -> None:
    """Add rules or change them, all of the file or none: from a file, or one by its options."""
    written = {"name": name, "source": source, "predicate": predicate, "target": target, "columns": columns,
               "severity": severity, "enabled": False if off else None}  # fmt: skip
    answer = _call(data, "POST", "", body={"rules": _rules(file, written)})
    _said(answer["rules"], json=json)


def enable(names: Names, *, data: Data = DEFAULT_DATA, json: AsJson = False) -> None:
    """Switch rules on."""
    _said(_switched(data, names, on=True), json=json)


def disable(names: Names, *, data: Data = DEFAULT_DATA, json: AsJson = False) -> None:
    """Switch rules off: they keep their hits and write nothing."""
    _said(_switched(data, names, on=False), json=json)


def delete(names: Names, *, data: Data = DEFAULT_DATA) -> None:
    """Remove rules, and targets that no other rule writes."""
    for name in names:
        _call(data, "DELETE", _path_of(name))
        _print(f"{name}: deleted")


def dry_run(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="Rules in force; none: of a file or options.")
    ] = None,
    *,
    file: Annotated[Path | None, typer.Option(help="Rules as JSON or YAML that need not be in force.")] = None,
    name: Name = None,
    source: Source = None,
    predicate: Predicate = None,
    columns: Columns = None,
    events: Annotated[int | None, typer.Option(min=1, help="Newest stored events to look at.")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Rows to show, the newest ones.")] = None,
    data: Data = DEFAULT_DATA,
    json: AsJson = False,
) -> None:
    """Show what rules would have hit of stored events; nothing is written."""
    params = {key: str(value) for key, value in (("events", events), ("rows", rows)) if value is not None}
    tried: list[tuple[str, dict[str, Any] | None]] = [(one, None) for one in names or ()]
    if not tried:
        target = None if predicate is None else "dry_run"
        written = {"name": name or ("dry-run" if predicate else None), "source": source, "predicate": predicate,
                   "target": target, "columns": columns}  # fmt: skip
        tried = [(str(one.get("name", "dry-run")), one) for one in _rules(file, written)]
    for one, body in tried:
        answer = _call(data, "POST", f"{_path_of(one)}/dry-run", body=body, params=params)
        if json:
            _print_json({"name": one, **answer})
            continue
        for row in answer["rows"]:
            _print_json(row)
        rejected = f", {answer['rejected']:,} rejected {answer['errors']}" if answer["rejected"] else ""
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"{one}: {answer['hits']:,} hits in {answer['events']:,} events{rejected}", markup=False
        )


def _rules(file: Path | None, written: dict[str, Any]) -> list[dict[str, Any]]:
    """The rules of the file, or the one that the options write."""
    from penstock_app.rules_files import read_rules

    given = {key: value for key, value in written.items() if value is not None}
    if file is not None:
        if given:
            raise typer.BadParameter("give a file or the options of one rule, not both", param_hint="FILE")
        return read_rules(sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8"), str(file))
    missing = [option for option in ("name", "source", "predicate", "target") if option not in given]
    if missing:
        flags = ", ".join("--where" if option == "predicate" else f"--{option}" for option in missing)
        raise typer.BadParameter(f"give a file, or also {flags}", param_hint="FILE")
    return [given]


def _switched(data: Path, names: Sequence[str], *, on: bool) -> list[dict[str, Any]]:
    found = []
    for name in names:
        rule = _call(data, "GET", _path_of(name))
        body = {key: rule[key] for key in _WRITTEN} | {"enabled": on}
        # Whoever changed the rule meanwhile is not undone: 412.
        found.append(_call(data, "PUT", _path_of(name), body=body, headers={"If-Match": f'"{rule["version"]}"'}))
    return found


def _path_of(name: str) -> str:
    """Of this rule and of nothing else, whatever the name is."""
    return f"/{quote(name, safe='')}"


def _call(
    data: Path,
    method: str,
    path: str,
    *,
    body: object = None,
    params: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> Any:
    from penstock_app.api import Api, read_credentials

    async def run() -> Any:
        async with Api.open(read_credentials(data)) as api:
            sent = None if body is None else msgspec.json.encode(body)
            return await api.call(method, _PATH + path, body=sent, params=params, headers=headers)

    return asyncio.run(run())


def _table(rules: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("rule", "severity"):
        table.add_column(column, no_wrap=True, overflow="ignore")  # names are copied from here
    for column in ("source", "target"):
        table.add_column(column, overflow="fold")
    table.add_column("hits", justify="right", no_wrap=True)
    table.add_column("last hit", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("where", overflow="fold")
    for rule in rules:
        hits = "?" if rule["hits"] is None else f"{rule['hits']:,}"
        severity = Text(rule["severity"], _COLOURS.get(rule["severity"], ""))
        cells = [rule["source"], rule["target"], hits, rule["last_hit"] or "", rule["state"], rule["predicate"]]
        table.add_row(Text(rule["name"], "bold"), severity, *map(Text, cells))
    return table


def _said(rules: Sequence[dict[str, Any]], *, json: bool) -> None:
    if json:
        _print_json({"rules": rules})
        return
    for rule in rules:
        _print(f"{rule['name']}: version {rule['version']}, {'on' if rule['enabled'] else 'off'}")


def _print_json(value: object) -> None:
    _print(msgspec.json.encode(value).decode())


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
