"""Commands that talk to a running Penstock: `send`, `tail`, `token`, `rejected`."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

__all__ = ["DEFAULT_DATA", "AsJson", "Data", "register", "run_work"]

Data = Annotated[
    Path, typer.Option(envvar="PENSTOCK_DATA", help="Data folder of the running system (for its client.json).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
T = TypeVar("T")
DEFAULT_DATA = Path("penstock-data")


def register(program: typer.Typer) -> None:
    """Add the commands of this file."""
    program.command()(send)
    program.command()(tail)
    program.command()(token)
    program.command()(rejected)


def send(
    stream: Annotated[str, typer.Argument(help="Source stream.")],
    file: Annotated[str, typer.Argument(help="NDJSON or CSV file (.gz too), or - for NDJSON on standard input.")],
    *,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Events per second; default: as fast as taken.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Events per request.")] = 1_000,
    complete: Annotated[
        bool, typer.Option("--complete", help="Afterwards: complete until now; windows close.")
    ] = False,
    data: Data = DEFAULT_DATA,
    json: AsJson = False,
) -> None:
    """Send a file into a stream, strictly in order."""
    from penstock.ports.clock import SystemClock
    from penstock_app.api import Api, read_credentials
    from penstock_app.live_input import live_batches
    from penstock_app.rows_from_files import EventFile
    from penstock_app.sending import Pace, Sent, file_batches, send_batches, stream_shape

    screen = Console(stderr=True, highlight=False)
    pace = Pace(batch, rate)

    async def run() -> Sent:
        async with contextlib.AsyncExitStack() as stack:
            source = None if file == "-" else stack.enter_context(contextlib.closing(EventFile(Path(file))))
            api = await stack.enter_async_context(Api.open(read_credentials(data)))
            progress = stack.enter_context(_progress(screen, known=source is not None))
            task = progress.add_task(stream, total=1.0 if source else None, events="0")

            def on_progress(sent: Sent) -> None:
                done = source.fraction_read if source else 0.0
                progress.update(task, completed=done, events=f"{sent.sent:,}")

            def on_error(error: dict[str, Any]) -> None:
                where = f"{file}:{error['place']}"
                screen.print(f"{where}: {error['detail']} ({error['code']})", markup=False, soft_wrap=True)

            shape = await stream_shape(api, stream)
            batches = (
                file_batches(source, shape, pace.request_rows)
                if source
                else live_batches(sys.stdin.fileno(), pace.request_rows)
            )
            return await send_batches(
                api,
                stream,
                batches,
                pace=pace,
                clock=SystemClock(),
                complete=complete,
                on_progress=on_progress,
                on_error=on_error,
            )

    total = run_work(run())
    if json:
        _print(msgspec.json.encode(total.as_json()).decode())
    else:
        _print(
            f"{total.sent:,} sent, {total.accepted:,} accepted, {total.duplicate:,} duplicate, "
            f"{total.rejected:,} rejected in {total.seconds:.1f} s"
        )
    if total.rejected:
        raise typer.Exit(1)


def tail(
    topic: Annotated[str, typer.Argument(help="Topic: a stream or table that the app publishes.")],
    *,
    after: Annotated[str, typer.Option(help="Cursor, earliest or latest.")] = "latest",
    count: Annotated[int | None, typer.Option(min=1, help="Stop after so many events.")] = None,
    where: Annotated[str | None, typer.Option("--filter", help="SQL predicate over the topic's columns.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Only the columns, without the envelope.")] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Print a topic as it happens, one envelope a line; resumes after a break."""
    from penstock_app.api import Api, read_credentials
    from penstock_app.tailing import TailRequest
    from penstock_app.tailing import tail as follow

    def on_event(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    async def run() -> None:
        async with Api.open(read_credentials(data)) as api:
            await follow(
                api,
                TailRequest(topic, after, count, where, raw),
                on_event=on_event,
                on_notice=lambda line: print(line, file=sys.stderr, flush=True),  # noqa: T201 - notices are output
            )

    run_work(run())


def token(*, data: Data = DEFAULT_DATA, json: AsJson = False) -> None:
    """Print an access token of the development client."""
    from penstock_app.api import Api, read_credentials

    async def run() -> tuple[str, int]:
        async with Api.open(read_credentials(data)) as api:
            return await api.token()

    text, lives_s = run_work(run())
    _print(msgspec.json.encode({"access_token": text, "expires_in": lives_s}).decode() if json else text)


def rejected(
    replay: Annotated[list[str] | None, typer.Option(help="Replay this event as it is; may repeat.")] = None,
    *,
    stream: Annotated[str | None, typer.Option(help="Only this stream.")] = None,
    code: Annotated[str | None, typer.Option(help="Only this reason.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    data: Data = DEFAULT_DATA,
    json: AsJson = False,
) -> None:
    """List events that could not be accepted or processed; replay them."""
    from penstock_app.api import Api, read_credentials

    async def run() -> Any:
        async with Api.open(read_credentials(data)) as api:
            if replay:
                body = msgspec.json.encode({"events": [{"id": one} for one in replay]})
                return await api.call("POST", "/v1/rejected/replay", body=body)
            where = {"stream": stream, "code": code, "limit": str(limit)}
            return await api.call("GET", "/v1/rejected", params={k: v for k, v in where.items() if v is not None})

    answer = run_work(run())
    if json or replay:
        _print(msgspec.json.encode(answer).decode())
        return
    for event in answer["events"]:
        _print_rejected(event)
    if not answer["events"]:
        Console(stderr=True).print("Nothing was rejected.")


def _print_rejected(event: dict[str, Any]) -> None:
    """Two lines each, so that ids and reasons can be copied whole from a terminal of any width."""
    console = Console(highlight=False, soft_wrap=True)
    head = Text.assemble((event["id"], "bold"), "  ", event["at"] or "", "  ", event["stream"])
    head.append(f"  {event['statement'] or '(admission)'}  ").append(event["code"], "red")
    if event["replayed_at"]:
        head.append(f"  replayed {event['replayed_at']}", "green")
    console.print(head)
    console.print(Text(f"    {event['detail']}"))


def _progress(screen: Console, *, known: bool) -> Progress:
    """A line on a terminal, nothing elsewhere; with `known` size it says how much of the file has been read."""
    share = [TaskProgressColumn()] if known else []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None if known else 12),
        *share,
        TextColumn("{task.fields[events]} events"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal)


def run_work(work: Coroutine[Any, Any, T]) -> T:
    """Its result; KeyboardInterrupt where it was cancelled."""
    with contextlib.suppress(asyncio.CancelledError):
        return asyncio.run(work)
    raise KeyboardInterrupt


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
