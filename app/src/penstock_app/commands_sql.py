"""`penstock check`, `explain` and `eval`: streaming SQL without any service."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

__all__ = ["register"]

App = Annotated[Path, typer.Argument(help="SQL file, or folder with app.sql.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(program: typer.Typer) -> None:
    """Add the commands of this file."""
    program.command()(check)
    program.command()(explain)
    program.command("eval")(evaluate)


def check(app: App, *, json: AsJson = False) -> None:
    """Check an app: every error with line, column and what to write instead."""
    from penstock_app.appfiles import find_app
    from penstock_processor.function_files import FunctionFiles
    from penstock_processor.logical.plan_app import check_app

    file = find_app(app)
    errors = check_app(file.name, file.read(), functions=FunctionFiles([file.path.parent]))
    if json:
        _print(msgspec.json.encode({"errors": [error.as_json() for error in errors]}).decode())
    else:
        for error in errors:
            _print(f"{file.path}:{error.line}:{error.column}: {error.message} ({error.code})\n    {error.remedy}")
        _print(f"{len(errors)} error{'' if len(errors) == 1 else 's'}" if errors else f"{file.name}: ok")
    if errors:
        raise typer.Exit(1)


def explain(app: App, *, json: AsJson = False) -> None:
    """Print what an app does: sources, statements, operators."""
    from penstock_app.appfiles import find_app
    from penstock_processor.function_files import FunctionFiles
    from penstock_processor.logical.explain import explain_json, explain_text
    from penstock_processor.logical.plan_app import plan_app

    file = find_app(app)
    plan = plan_app(file.name, file.read(), functions=FunctionFiles([file.path.parent]))
    _print(msgspec.json.encode(explain_json(plan)).decode() if json else explain_text(plan))


def evaluate(
    app: App,
    *,
    inputs: Annotated[list[str], typer.Option("--input", help="TABLE=FILE (NDJSON, CSV, Parquet); may repeat.")],
    outputs: Annotated[list[str] | None, typer.Option("--output", help="TABLE=FILE or TABLE=-; may repeat.")] = None,
    final: Annotated[bool, typer.Option("--final", help="Print the end state of tables instead of changes.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 if any row was rejected.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Print one JSON line of figures on standard error.")] = False,
    secrets: Annotated[
        Path | None, typer.Option("--secrets", help="Folder of `${NAME}` in options of tables that are looked up.")
    ] = None,
) -> None:
    """Run an app over finite files to the end, as fast as it can, without any service."""
    from penstock_app.appfiles import find_app
    from penstock_processor.eval import run_eval

    code = run_eval(
        find_app(app).path,
        inputs,
        outputs or [],
        final=final,
        strict=strict,
        stats=stats,
        secrets=secrets,
        stdout=sys.stdout.buffer,
        stderr=sys.stderr,
    )
    raise typer.Exit(code)


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
