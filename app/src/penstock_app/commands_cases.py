"""`penstock test`: the cases beside an app."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from penstock_app.cases.report import CaseResult

__all__ = ["register"]


def register(program: typer.Typer) -> None:
    """Add the command of this file."""
    program.command("test")(run_cases)


def run_cases(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH", help="Case files, apps, or folders that hold some; none: this folder."),
    ] = None,
    *,
    keyword: Annotated[str, typer.Option("-k", metavar="TEXT", help="Only cases with this in their name.")] = "",
    cut: Annotated[
        bool, typer.Option("--cut", help="Run each case again with its inputs cut into batches at random.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Where the inputs are cut; the same seed cuts at the same places.")] = 0,
    junit: Annotated[Path | None, typer.Option(help="Also write the results to this file as JUnit XML.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file (TOML); keys in docs/settings.md.")] = None,
) -> None:
    """Run the cases beside an app: what goes in, how the clock moves, which rows come out.

    Cases are in files `*.test.yml`; docs/guides/test-an-app.md. Exit code 1: a case failed, 2: a case file is wrong.
    """
    from penstock.observe.logs import set_up_logs
    from penstock.ports.clock import SystemClock
    from penstock_app.cases.discover import find_case_files
    from penstock_app.cases.report import junit_xml
    from penstock_app.cases.run import Cut
    from penstock_app.cases.session import Choice, Session
    from penstock_app.settings import load_settings

    settings = load_settings(config, {}).test
    set_up_logs(level="error")  # an app that fails says so in its case
    screen = Console(highlight=False, soft_wrap=True)
    session = Session(settings, Choice(keyword, Cut(seed) if cut else None), clock=SystemClock())
    files = find_case_files(paths or [Path()], settings)
    if not files:
        raise typer.BadParameter(
            "no case files (*.test.yml) here; docs/guides/test-an-app.md says how to write one", param_hint="PATH"
        )
    for file in files:
        session.load(file)
    for path, finding in session.wrong:
        screen.print(f"{path}:{finding.line}:{finding.column}: {finding.message}", markup=False)
        screen.print(f"    {finding.remedy}", markup=False)
    if not session.count and not session.wrong:
        raise typer.BadParameter(f"no case has '{keyword}' in its name", param_hint="-k")
    results = asyncio.run(session.run(lambda result: _show(result, screen)))
    if junit is not None:
        junit.write_bytes(junit_xml(results, session.wrong))
    failed = sum(1 for result in results if result.failures)
    seconds = sum(result.seconds for result in results)
    run = f"{len(results)} case{'' if len(results) == 1 else 's'}"
    verdict = f"{failed} of {run} failed" if failed else f"{run} passed"
    wrong = len({path for path, _ in session.wrong})
    unread = f", {wrong} case file{'' if wrong == 1 else 's'} could not be run" if wrong else ""
    screen.print(f"{verdict}{unread} in {seconds:.1f} s", markup=False)
    if wrong or failed:
        raise typer.Exit(2 if wrong else 1)


def _show(result: CaseResult, screen: Console) -> None:
    from penstock_app.cases.report import lines_of

    first, *rest = lines_of(result)
    screen.print(Text.assemble((first[:4], "red" if result.failures else "green"), first[4:]))
    for line in rest:
        screen.print(line, markup=False)
