"""Which case files there are, and which app each of them tests."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.errors import PenstockError
from penstock_app.cases.settings import CaseSettings

__all__ = ["FoundFile", "find_case_files"]

_MARKS = (".test.yml", ".test.yaml")
_ENDINGS = (".yml", ".yaml")
_TESTS = "tests"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A case file, and the app that it tests where it names none."""

    path: Path
    app: Path


def find_case_files(paths: Sequence[Path], limits: CaseSettings) -> list[FoundFile]:
    """Case files at these places, each once: a file itself, or those in a folder and below it.

    In folders: `*.test.yml` anywhere, and every `*.yml` of a folder `tests` beside an `app.sql`. An app file stands
    for those in its folder that test it. `not_found` for a path that is not there, `too_large` if there are too many.
    """
    found: dict[Path, FoundFile] = {}
    for path in paths:
        if path.is_dir():
            files = list(_below(path))
        elif path.suffix == ".sql" and path.is_file():
            files = [file for file in _below(path.parent) if _app_of(file) == path]
        elif path.is_file():
            files = [path]
        else:
            raise PenstockError("not_found", f"there is no {path}; name case files or folders that hold some")
        for file in files:
            found.setdefault(file.resolve(), FoundFile(file, _app_of(file)))
    if len(found) > limits.files_max:
        raise PenstockError(
            "too_large",
            f"{len(found)} case files, {limits.files_max} are allowed; name fewer, or raise test.files_max",
        )
    return list(found.values())


def _below(folder: Path) -> Iterator[Path]:
    """Case files of a folder and its folders, in order; hidden folders are left out."""
    for name, folders, files in os.walk(folder):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        here = Path(name)
        is_tests = here.name == _TESTS and (here.parent / "app.sql").is_file()
        for file in sorted(files):
            if file.endswith(_MARKS) or (is_tests and file.endswith(_ENDINGS)):
                yield here / file


def _app_of(file: Path) -> Path:
    """`orders.test.yml`: `orders.sql` beside it if there is one, else `app.sql` there or beside `tests`."""
    stem = next((file.name.removesuffix(mark) for mark in _MARKS if file.name.endswith(mark)), file.stem)
    choices = [file.with_name(f"{stem}.sql"), file.with_name("app.sql")]
    if file.parent.name == _TESTS:
        choices.append(file.parent.parent / "app.sql")
    return next((choice for choice in choices if choice.is_file()), file.with_name("app.sql"))
