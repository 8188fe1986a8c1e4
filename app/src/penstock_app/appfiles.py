"""App files: which text is deployed under which name, at start and, with `--watch`, whenever a file changes.

A file is deployed only when its text differs from what was last deployed *from that file*, so an edit made over HTTP
or on the page survives a restart.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from penstock.errors import PenstockError, SqlErrors
from penstock.ports.clock import Clock
from penstock_app.settings import PenstockSettings
from penstock_processor.service import ProcessorRole

__all__ = ["AppFile", "deploy_files", "find_app", "watch_files"]

WATCH_EVERY_S = 0.25
LEDGER = "deployed-files.json"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class AppFile:
    """A file with streaming SQL and the name under which it runs."""

    name: str
    path: Path

    def read(self) -> str:
        """The text; `bad_request` if it cannot be read as UTF-8."""
        try:
            return self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PenstockError("bad_request", f"{self.path}: {error}") from error


def find_app(path: Path) -> AppFile:
    """An app from a file (`orders.sql` is `orders`) or a folder with `app.sql` (named after the folder)."""
    if path.is_dir():
        path = path / "app.sql"
    if not path.is_file():
        raise PenstockError("not_found", f"no app at {path}; give a .sql file or a folder with app.sql in it")
    name = path.resolve().parent.name if path.name == "app.sql" else path.stem
    return AppFile(name, path)


async def deploy_files(processor: ProcessorRole, apps: Sequence[AppFile], data: Path) -> None:
    """Deploy each app whose file changed since it was last deployed from there, or that is not there."""
    ledger = await asyncio.to_thread(_read_ledger, data)
    deployed = {record.name for record in await processor.apps()}
    for app in apps:
        text = await asyncio.to_thread(app.read)
        if app.name in deployed and ledger.get(app.name) == _mark(text):
            continue
        try:
            await processor.deploy(app.name, text)
        except PenstockError as error:
            error.extra["file"] = str(app.path)
            raise
        ledger[app.name] = _mark(text)
    await asyncio.to_thread(_write_ledger, data, ledger)


async def watch_files(
    processor: ProcessorRole, apps: Sequence[AppFile], settings: PenstockSettings, clock: Clock
) -> None:
    """Deploy again whenever a file changes; a bad edit is reported with its place and the old app runs on."""
    ledger = await asyncio.to_thread(_read_ledger, settings.data)
    settled = {app.name: ledger.get(app.name, "") for app in apps}
    seen = dict(settled)
    while True:
        await clock.sleep(WATCH_EVERY_S)
        for app in apps:
            try:
                mark = _mark(await asyncio.to_thread(app.read))
                if mark != seen[app.name]:
                    # An editor may be in the middle of writing, and half a file can be a whole, smaller app that
                    # drops statements with their state: deploy what stays the same for one more look.
                    seen[app.name] = mark
                    continue
                if mark == settled[app.name]:
                    continue
                settled[app.name] = mark
                await deploy_files(processor, [app], settings.data)
                log.info("app_redeployed", app=app.name)
            except SqlErrors as error:
                for finding in error.errors:
                    log.error("app_not_redeployed", app=app.name, file=str(app.path), **finding.as_json())
            except PenstockError as error:
                if seen[app.name] != error.detail:  # say it once, not four times a second
                    seen[app.name] = error.detail
                    log.error("app_not_redeployed", app=app.name, code=error.code, detail=error.detail)


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read_ledger(data: Path) -> dict[str, str]:
    path = data / LEDGER
    return msgspec.json.decode(path.read_bytes(), type=dict[str, str]) if path.exists() else {}


def _write_ledger(data: Path, ledger: dict[str, str]) -> None:
    # Replaced as a whole: a process that is killed here leaves the old ledger, never half of one.
    written = data / f"{LEDGER}.new"
    written.write_bytes(msgspec.json.encode(ledger))
    written.replace(data / LEDGER)
